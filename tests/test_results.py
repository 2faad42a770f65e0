"""The pages under docs/results say what the records beside them say."""

from pathlib import Path

import pytest

from mashup.report.experiment import write_experiment_report

RESULTS = Path(__file__).parent.parent / "docs" / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob("*/records.jsonl"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_page_is_rebuilt_from_its_records(folder, tmp_path):
    write_experiment_report([folder], tmp_path)
    kept = folder / "report"
    assert (tmp_path / "report.md").read_text() == (kept / "report.md").read_text()
    for table in sorted((kept / "tables").glob("*.csv")):
        assert (tmp_path / "tables" / table.name).read_text() == table.read_text()


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_nothing_names_the_machine_that_it_ran_on(folder):
    for name in ("experiment.json", "records.jsonl", "report/report.md", "report/index.html"):
        text = (folder / name).read_text()
        assert "/home/" not in text
        assert "/tmp/" not in text


def test_there_are_results():
    assert STUDIES
