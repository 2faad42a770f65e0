"""The pages under docs/results say what the records beside them say."""

import csv
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from mashup import report, verify

RESULTS = Path(__file__).parent.parent / "docs" / "results"
ON_FIRST_PAGE = sorted(path.parent for path in RESULTS.glob("*/records.jsonl"))
STUDIES = sorted(path.parent for path in RESULTS.rglob("records.jsonl"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_page_is_rebuilt_from_its_records(folder, tmp_path):
    report(folder, tmp_path)
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


@pytest.mark.parametrize(
    "folder", [one for one in STUDIES if (one / "layout.json").exists()], ids=lambda one: one.name
)
def test_every_number_follows_from_the_runs(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with tarfile.open(copy / "runs.tar.xz") as archive:
        archive.extractall(copy, filter="data")
    found = verify(copy)
    assert found.agrees, found.sentence
    assert {one.what for one in found.checks} == {"runs", "records", "report"}


def test_there_are_results():
    assert STUDIES


def first_page_table(study):
    """Cells of the table of accuracies below the heading of a study: ``{(target, arm): share}``.

    A row is a target, or an arm where there are many.
    """
    text = (RESULTS / "README.md").read_text().partition(f"\n## {study}\n")[2]
    table = re.search(r"^\| (Target|Arm) \|.*?(?=\n\n)", text, re.DOTALL | re.MULTILINE)
    lines = table[0].splitlines()
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    cells = {
        (row[0], name): float(cell.partition(" %")[0]) / 100
        for row in rows
        for name, cell in zip(names[1:], row[1:], strict=True)
    }  # fmt: skip
    return cells if table[1] == "Target" else {(b, a): share for (a, b), share in cells.items()}


@pytest.mark.parametrize("folder", ON_FIRST_PAGE, ids=lambda folder: folder.name)
def test_the_first_page_has_the_accuracies_of_the_records(folder):
    with (folder / "report" / "tables" / "results.csv").open(newline="") as stream:
        known = {
            (row["Target"], row["Arm"].strip("()")): float(row["Test accuracy"])
            for row in csv.DictReader(stream)
        }  # fmt: skip
    page = first_page_table(folder.name)
    targets = {target for target, _ in known}
    arms = {arm for _, arm in page}
    assert {(target, arm) for target in targets for arm in arms} | {
        ("mean", arm) for arm in arms
    } == set(page)
    for (target, arm), share in page.items():
        told = [known[one, arm] for one in targets] if target == "mean" else [known[target, arm]]
        assert share == pytest.approx(sum(told) / len(told), abs=0.00051), (target, arm)
