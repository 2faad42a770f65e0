"""``mashup report``: pages from records, for experiments and for comparisons."""

import json
import subprocess
import sys

import pytest

from comparisons import write_comparison
from mashup.results.records import commonest_record, write_records
from studies import write_study


def test_one_folder_writes_its_report_within(mashup, tmp_path):
    folder = write_study(tmp_path / "study", targets=("trec", "sst2"))
    code, out, _ = mashup("report", folder)
    assert code == 0
    assert "Mashup is better than scratch: +8.5 points" in out
    assert (folder / "report/index.html").exists()
    assert str(folder / "report/index.html") in out.replace("\n", "")


def test_several_folders_and_json(mashup, tmp_path):
    one = write_study(tmp_path / "one", name="one", targets=("trec",))
    two = write_study(tmp_path / "two", name="two", targets=("trec",))
    code, out, _ = mashup("report", one, two, "-o", tmp_path / "both", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["verdicts"]["one"]["lead"] == "mashup is better than scratch on trec"
    assert (tmp_path / "both/tables/models.csv").exists()


def test_a_folder_of_something_else_is_told(mashup, tmp_path):
    code, _, err = mashup("report", tmp_path)
    assert code == 3
    assert "cannot read records" in err


@pytest.mark.parametrize("name", ["records.jsonl", "experiment.json"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"3\n", b'{"a": \n', b"\0" * 9])
def test_damaged_files_are_told_without_a_traceback(mashup, tmp_path, name, content):
    write_records(tmp_path / "records.jsonl", [commonest_record("x", "trec", 0.5)])
    (tmp_path / name).write_bytes(content)
    code, _, err = mashup("report", tmp_path)
    assert code == 3
    assert name in err
    assert "Traceback" not in err


def test_records_that_are_of_no_one_run_are_told(mashup, tmp_path):
    folder = write_study(tmp_path / "study", targets=("trec",))
    records = folder / "records.jsonl"
    lines = records.read_text().splitlines()
    metric = '"metric": "dev_loss"'
    place = max(n for n, line in enumerate(lines) if '"arm": "mashup"' in line and metric in line)
    lines[place] = json.dumps(json.loads(lines[place]) | {"task": "x"})
    records.write_text("\n".join([*lines, ""]))
    code, _, err = mashup("report", folder)
    assert code == 3
    assert "files do not fit together" in err
    assert "study" in err


def test_a_comparison_is_written_beside_its_records_or_elsewhere(mashup, tmp_path):
    folder = write_comparison(tmp_path)
    code, out, _ = mashup("report", folder)
    assert code == 0
    assert "Mashup is better than scratch on tickets" in out
    assert str(folder / "table.md") in out.replace("\n", "")
    code, out, _ = mashup("report", folder, "-o", tmp_path / "elsewhere")
    assert code == 0
    assert (tmp_path / "elsewhere/index.html").exists()
    assert (tmp_path / "elsewhere/table.md").exists()


def test_reports_of_both_kinds_stand_side_by_side(mashup, tmp_path):
    study = write_study(tmp_path / "study", targets=("trec", "sst2"))
    code, out, _ = mashup("report", study, write_comparison(tmp_path), "-o", tmp_path / "both")
    assert code == 0
    assert "small: Mashup is better than scratch" in out
    assert "2 " in (tmp_path / "both/report.md").read_text()


def test_no_report_needs_torch(tmp_path):
    """On a machine where torch, transformers and peft cannot be imported."""
    study = write_study(tmp_path / "study", targets=("trec",))
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "datasets", "safetensors"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from mashup.cli.__main__ import main
for folder in {[str(study), str(write_comparison(tmp_path))]!r}:
    try:
        main(["report", folder])
    except SystemExit as done:
        assert not done.code, done.code
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "page: " in done.stdout
