"""A folder of an experiment, without weights and private paths, to publish.

    python benchmarks/publish.py EXPERIMENT OUTPUT --jobs JOBS --path PREFIX=WORD ...

OUTPUT gets the settings, the layout, the records, the report, and ``runs.tar.xz`` with what the
jobs kept of every example: scores, curves and test values. After unpacking it there,
``mashup verify OUTPUT`` checks every number. Unpacked into another folder, it is the finished jobs
of an experiment there, which ``mashup loo -o FOLDER`` continues: only what has to be merged or
started from is made again. Each PREFIX is replaced by its WORD, and a path that is left is an
error. A report that is there already is replaced.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import mashup
from mashup.experiment.jobs import LAYOUT, RESULT, Store, read_layout
from mashup.experiment.run import EXPERIMENT, JOBS, RECORDS, REPORT
from mashup.outputs import to_json

TEXTS = (EXPERIMENT, RECORDS, LAYOUT)
KEPT = (RESULT, "run.json", "curve.jsonl", "test.json", "test-start.json")


def kept_files(jobs: Path, wanted: set[str]) -> Iterator[Path]:
    """What is kept of each wanted job that is finished."""
    for job in sorted(wanted):
        if Store(jobs).has(job):
            yield from sorted(p for p in (jobs / job).rglob("*.json*") if p.name in KEPT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--path", action="append", default=[], metavar="PREFIX=WORD")
    options = parser.parse_args()
    words = dict(one.split("=", 1) for one in options.path)

    def public(path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        for prefix, word in words.items():
            text = text.replace(prefix, word)
        if left := re.search(r'"/[^" ]+', text):
            raise SystemExit(f"{path}: {left[0]} is private: give --path for it")
        return text

    options.output.mkdir(parents=True, exist_ok=True)
    for name in TEXTS:
        (options.output / name).write_text(public(options.experiment / name), encoding="utf-8")
    wanted = {key for cell in read_layout(options.experiment).cells for key in cell.keys}
    with tarfile.open(options.output / "runs.tar.xz", "w:xz") as archive:
        for path in kept_files(options.jobs, wanted):
            text = public(path)
            if path.name == RESULT:
                text = to_json(json.loads(text) | {"weights": False})
            content = text.encode()
            entry = tarfile.TarInfo(f"{JOBS}/{path.relative_to(options.jobs).as_posix()}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    shutil.rmtree(options.output / REPORT, ignore_errors=True)  # pictures that are drawn no more
    mashup.report(options.output)


if __name__ == "__main__":
    main()
