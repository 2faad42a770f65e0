"""A merge as it is, and with a scale searched by loss or by knowledge, on held-out rows.

    python benchmarks/choosing/searched_scale.py DATA SOURCES MODEL OUTPUT

Every way goes through the plain path of ``mashup init``: score on 64 rows, take the best k, merge,
write. The written init is then measured on 200 rows that nothing saw.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mashup import load_base, load_task, scan, score
from mashup._init import Sample, make_init
from mashup._score.scores import Criterion, Score
from mashup._select import Selection
from mashup.demo.data import build_tasks
from mashup.evaluate.answers import answer_set, evaluate_answers
from mashup.evaluate.evaluate import batches_for
from mashup.model import Base, applied, read_change
from mashup.task import Task, tokenize

ROWS, HELD_OUT = 64, 200
#: Name to the criterion that a scale is searched by; none is searched without one.
WAYS: dict[str, Criterion | None] = {
    "uniform": None, "search by loss": "loss", "search by knowledge": "knowledge"
}  # fmt: skip
#: Target to the sources that may not be used: its own task.
TARGETS = (
    "crises/west_texas", "reviews/dvd", "demo/tweet_sentiment", "emotion/isear", "intents/iot",
    "demo/film_sentiment", "demo/product_sentiment",
)  # fmt: skip


def held_out(base: Base, task: Task, folder: Path | None) -> Score:
    """The base, or with a folder's change on it, on the rows that nothing saw."""
    tokens = tokenize(base.tokenizer, task.test, max_length=1024)
    answers = answer_set(base.tokenizer, tokens, [*task.train, *task.test])
    batches = batches_for(base, tokens)
    if folder is None:
        return Score(None, evaluate_answers(base.model, batches, answers)[0])
    with applied(base.model, read_change(base.model, folder)):
        return Score(None, evaluate_answers(base.model, batches, answers)[0])


def compared(base: Base, sources: Path, task: Task, k: int) -> dict[str, Any]:
    scores = score(scan(sources), base, task, samples=ROWS, criterion="auto")
    selection = Selection(scores.ranking[:k], scores)
    sample = Sample(samples=ROWS)
    rows: dict[str, Any] = {}
    first: Score | None = None
    for way, criterion in WAYS.items():
        options: dict[str, Any] = {"scale": "search"} if criterion else {}
        chosen = Selection(selection.chosen, replace(scores, criterion=criterion or "loss"))
        with tempfile.TemporaryDirectory() as scratch:
            start = time.process_time()
            init = make_init(chosen, base, task, sample, Path(scratch) / "init", **options)
            seconds = time.process_time() - start
            found = held_out(base, task, init.path)
        first = first or found
        difference, error = found.against(first)
        known, _ = found.against(first, "knowledge")
        rows[way] = {
            "weights": [p["weight"] for p in init.manifest["parents"]],
            "scale": init.manifest.get("scale"), "seconds": seconds,
            "sample": init.manifest["sample"]["loss"], "loss": found.loss,
            "difference": difference, "error": error, "accuracy": found.accuracy,
            "knowledge": found.knowledge.bits if found.knowledge else None,
            "knowledge_difference": -known,
            "knowledge_error": found.against(first, "knowledge")[1],
        }  # fmt: skip
    return {
        "parents": [s.name for s in selection.chosen],
        "bits": [s.knowledge.bits if s.knowledge else None for s in selection.chosen],
        "ways": rows,
    }


def main(data: Path, sources: Path, model: str, output: Path) -> None:
    base = load_base(model)
    kept = json.loads(output.read_text()) if output.exists() else {}
    names = [name.removeprefix("demo/") for name in TARGETS if name.startswith("demo/")]
    rows = dict.fromkeys(names, 96 + HELD_OUT)
    demo = build_tasks(output.parent / "demo-held", rows, test_rows=HELD_OUT)
    for name, k in [*((n, 2) for n in TARGETS), *((n, 4) for n in TARGETS)]:
        family, _, own = name.partition("/")
        if family == "demo":
            held = {"test": demo[own].test} if demo[own].test.exists() else {"test_rows": HELD_OUT}
            task = load_task(demo[own].train, train_rows=80, dev_rows=16, **held)
        else:
            folder = data / family / own
            task = load_task(
                folder / "train.jsonl", test=folder / "validation.jsonl", train_rows=80,
                dev_rows=16, test_rows=HELD_OUT,
            )  # fmt: skip
        if f"{name} {k}" not in kept:
            kept[f"{name} {k}"] = compared(base, sources, task, k)
            output.write_text(json.dumps(kept, indent=1))
            print(name, k, f"{time.process_time():.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
