"""``mashup report``: pages from records, for experiments and for comparisons."""

import json

import pytest

from mashup.results.records import commonest_record, write_records
from studies import write_study


def test_one_folder_writes_its_report_within(mashup, tmp_path):
    folder = write_study(tmp_path / "study", targets=("trec", "sst2"))
    code, out, _ = mashup("report", folder)
    assert code == 0
    assert "small: +8.5 points" in out
    assert (folder / "report/index.html").exists()
    assert str(folder / "report/index.html") in out.replace("\n", "")


def test_several_folders_and_json(mashup, tmp_path):
    one = write_study(tmp_path / "one", name="one", targets=("trec",))
    two = write_study(tmp_path / "two", name="two", targets=("trec",))
    code, out, _ = mashup("report", one, two, "-o", tmp_path / "both", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["verdicts"]["one"]["answer"] == "mashup is better than scratch"
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
    *lines, last = records.read_text().splitlines()
    records.write_text("\n".join([*lines, json.dumps(json.loads(last) | {"task": "x"}), ""]))
    code, _, err = mashup("report", folder)
    assert code == 3
    assert "files do not fit together" in err
    assert "study" in err


def test_a_comparison_stands_alone(mashup, tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    code, _, err = mashup("report", tmp_path, "-o", tmp_path / "elsewhere")
    assert code == 2
    assert "beside its records" in err
