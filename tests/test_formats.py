"""Files that this package writes carry the version of their format, and refuse a newer one."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from helpers import refused, write_json
from mashup._merge.merge import Init
from mashup.experiment.run import open_experiment
from mashup.experiment.settings import Experiment
from mashup.faults import validated
from mashup.results import Point, Record, read_curve, read_records
from mashup.results.comparison import read_about
from mashup.results.records import write_records
from mashup.state import to_lines

RESULTS = Path(__file__).parent.parent / "docs" / "results"
POINT = Point(0, 0.0, 0, 1.5, 0.25)
RECORD = Record("e", "t", "scratch", 1, 1.0, 0, 0.0, 0, "dev_loss", 1.5)
EXPERIMENT = {
    "name": "x", "base": "b", "tasks": {"a": {"dataset": "a"}, "b": {"dataset": "b"}},
    "learning_rates": [0.1],
}  # fmt: skip


def with_version(path, version):
    first, *rest = path.read_text().splitlines()
    values = json.loads(first) | {"version": version}
    path.write_text("\n".join([json.dumps(values), *rest]) + "\n")


def test_the_first_line_of_records_has_the_version(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(path, [RECORD, RECORD])
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["version"], "version" in second) == (1, False)
    assert read_records(path) == (RECORD, RECORD)
    with_version(path, 2)
    with refused("file of a newer version", where="records.jsonl"):
        read_records(path)


def test_records_and_curves_without_a_version_are_of_the_first(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(RECORD.to_json()) + "\n")
    assert read_records(path) == (RECORD,)
    path.write_text(json.dumps(POINT.to_json()) + "\n")
    assert read_curve(path) == (POINT,)
    assert json.loads(to_lines([asdict(POINT)], is_start=False)) == asdict(POINT)


def test_a_curve_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text(to_lines([POINT.to_json()]))
    assert read_curve(path) == (POINT,)
    with_version(path, 2)
    with refused("file of a newer version", where="curve.jsonl"):
        read_curve(path)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("experiment.json", EXPERIMENT, open_experiment),
        ("comparison.json", {"seeds": [1]}, read_about),
        ("mashup.json", {"kind": "init"}, Init.open),
    ],
)
def test_a_file_of_a_newer_version_is_refused(tmp_path, name, content, read):
    for known in ({}, {"version": 1}):
        write_json(tmp_path / name, known | content)
        assert read(tmp_path)
    write_json(tmp_path / name, {"version": 2} | content)
    with refused("file of a newer version", where=name):
        read(tmp_path)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/experiment.json")), ids=str)
def test_published_experiments_are_still_read(path):
    experiment, folder = open_experiment(path.parent)
    assert folder == path.parent
    values = json.loads(path.read_text())
    assert experiment == validated(Experiment, values, "")
    assert set(experiment.arms) == set(values["arms"])
    assert read_records(path.with_name("records.jsonl"))
