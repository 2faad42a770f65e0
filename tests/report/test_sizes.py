"""Families of targets, several numbers of labels, and budgets against scratch."""

import csv
import json

import pytest

from mashup._report.families import families_figure, families_table
from mashup._report.labels import labels_figure, labels_table, needed_cell
from mashup._report.material import read_folders
from mashup._report.sections import make_parts
from mashup._report.summarise import make_study
from mashup._report.tables import ladder_table
from mashup._report.write import report
from mashup.results.statistics import Difference
from studies import write_study

TARGETS = ("crises/alberta", "crises/boston", "reviews/dvd", "trec")
SIZES = {"crises/alberta": (16, 256), "reviews/dvd": (16, 256)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_study(
        tmp_path_factory.mktemp("families"), targets=TARGETS, seeds=(42, 43), budgets=(0.25, 1.0),
        sizes=SIZES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(folder):
    return make_study(read_folders([folder])[0])


def texts(table, *names):
    """The cells of some columns, row by row."""
    places = [table.columns.index(name) for name in names]
    return [tuple(row[place].text for place in places) for row in table.rows]


def test_other_sizes_are_in_no_mean_over_targets(study):
    assert [target.task for target in study.targets] == list(TARGETS)
    assert {target.task for target in study.sized} == {
        "crises/alberta@16", "crises/alberta@256", "reviews/dvd@16", "reviews/dvd@256",
    }  # fmt: skip
    assert set(study.contrast("mashup").gains) == set(TARGETS)
    (results,) = (s for s in make_parts([study])[0].sections if s.title.startswith("Results"))
    assert "reviews/dvd@16" in {row[0].text for row in results.tables[0].rows}


def test_labels_saved_are_read_off_scratchs_curve(study):
    rows = {(row.task, row.arm, row.labels): row for row in study.by_labels}
    assert {task for task, _, _ in rows} == {"crises/alberta", "reviews/dvd", ""}
    assert [row.task for row in study.by_labels][-1] == ""  # the mean is the last
    mashup = rows["crises/alberta", "mashup", 64]
    scratch = {
        size: rows["crises/alberta", "scratch", size].accuracy.value for size in (16, 64, 256)
    }
    assert scratch[64] < mashup.accuracy.value < scratch[256]
    share = (mashup.accuracy.value - scratch[64]) / (scratch[256] - scratch[64])
    assert mashup.needed.value == pytest.approx(64 * 4**share)
    assert mashup.needed.low < mashup.needed.value <= mashup.needed.high
    assert mashup.gain.value == pytest.approx(mashup.accuracy.value - scratch[64])
    assert rows["crises/alberta", "scratch", 64].needed is None
    mean = rows["", "mashup", 64].accuracy.value
    assert mean == pytest.approx(
        (mashup.accuracy.value + rows["reviews/dvd", "mashup", 64].accuracy.value) / 2
    )


def test_the_table_says_when_scratch_never_gets_there(study):
    table = labels_table(study)
    shown = texts(table, "Task", "Arm", "Labels", "Labels that scratch needs for it")
    assert ("crises/alberta", "scratch", "64", "–") in shown
    assert any(task == "(mean over tasks)" for task, *_ in shown)
    never = needed_cell(Difference(float("inf"), 200.0, float("inf")), 16, 256)
    assert (never.text, never.detail, never.value) == (
        "more than 256", "[200, more than 256]", None,
    )  # fmt: skip
    times = needed_cell(Difference(128.0, 0.0, float("inf")), 16, 256, 64)
    assert (times.text, times.detail, times.tone) == (
        "2.0", "[fewer than 0.2, more than 4.0]", "",
    )  # fmt: skip
    assert needed_cell(Difference(200.0, 100.0, 256.0), 16, 256, 64).tone == "better"


def test_the_picture_of_labels_has_a_diagram_a_task_and_their_mean(study):
    figure = labels_figure(study)
    assert [look.name for look in figure.looks] == ["scratch", "mashup"]
    assert len(figure.drawings) == 3
    assert "Mean over tasks" in figure.drawings[0].alt
    assert "mashup, 64 labels" in figure.alt


def test_families_have_means_of_their_targets_and_intervals_over_them(study):
    rows = {(row.arm, row.family, row.budget): row for row in study.by_family}
    gains = {target.task: target.gain("mashup").value for target in study.targets}
    crises = rows["mashup", "crises", 1.0]
    assert crises.targets == TARGETS[:2]
    assert crises.gain.value == pytest.approx((gains[TARGETS[0]] + gains[TARGETS[1]]) / 2)
    half = 12.706 * abs(gains[TARGETS[0]] - gains[TARGETS[1]]) / 2  # t with one degree of freedom
    assert crises.spread.high - crises.spread.low == pytest.approx(2 * half, rel=1e-4)
    assert rows["mashup", None, 1.0].targets == TARGETS[:3]
    assert rows["mashup", "", 1.0].targets == ("trec",)
    assert rows["mashup", "", 1.0].spread is None
    assert rows["mashup", "reviews", 0.25].full_gain is not None
    table = families_table(study)
    assert ("mashup", "all families", "25 %") in texts(table, "Arm", "Family", "Budget")
    assert "crises" in families_figure(study).alt


def test_every_budget_is_compared_with_scratch_at_it_and_at_its_full_run(study):
    target = study.targets[0]
    brief, whole = target.rung("mashup", 0.25), target.rung("scratch", 1.0)
    level = target.rung("scratch", 0.25)
    assert brief.gain.value == pytest.approx(
        brief.accuracy - level.accuracy, abs=0.011
    )  # whole answers
    assert brief.full_gain.value == pytest.approx(
        brief.accuracy - whole.accuracy, abs=0.011
    )  # whole answers
    assert level.gain is None
    assert level.full_gain.value == pytest.approx(
        level.accuracy - whole.accuracy, abs=0.011
    )  # whole answers
    assert target.gain("mashup").value != pytest.approx(brief.gain.value)
    table = ladder_table(study)
    assert {"Over scratch at this budget, points", "Over scratch's full run, points"} <= set(
        table.columns
    )


def test_they_are_written_in_every_form(folder, tmp_path):
    made = report(folder, tmp_path / "report")
    text, page = made.markdown.read_text(), made.page.read_text()
    for words in ("Number of labels", "Families", "Labels that scratch needs for it"):
        assert words in text
        assert words in page
    with (made.path / "tables/labels.csv").open() as file:
        assert {row["Task"] for row in csv.DictReader(file)} >= {"crises/alberta"}
    assert (made.path / "figures/labels.svg").exists()
    assert (made.path / "figures/families.png").exists()


def test_a_study_without_families_and_sizes_shows_neither(study_folder):
    study = make_study(read_folders([study_folder])[0])
    assert (study.by_labels, study.by_family, study.sized) == ((), (), ())
    titles = {section.title for section in make_parts([study])[0].sections}
    assert not titles & {"Families", "Number of labels"}


def test_where_only_other_sizes_are_there_each_is_a_target(tmp_path):
    folder = write_study(tmp_path, targets=("a", "b"), sizes={"a": (16,)})
    lines = (folder / "records.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"task": "a"' not in line]
    assert len(kept) < len(lines)
    (folder / "records.jsonl").write_text("\n".join(kept) + "\n")
    found = make_study(read_folders([folder])[0])
    assert [target.task for target in found.targets] == ["b", "a@16"]


def test_targets_with_short_runs_alone_are_in_the_ladder_and_in_no_mean_of_whole_runs(tmp_path):
    folder = write_study(tmp_path / "study", targets=TARGETS[:3], budgets=(0.25, 1.0))
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    whole = '"task": "reviews/dvd"', '"budget": 1.0'
    kept = [line for line in lines if not all(part in line for part in whole)]
    path.write_text("\n".join(kept) + "\n")
    found = make_study(read_folders([folder])[0])
    assert [target.task for target in found.brief] == ["reviews/dvd"]
    assert set(found.contrast("mashup").gains) == set(TARGETS[:2])
    rows = {(row.family, row.budget): row for row in found.by_family if row.arm == "mashup"}
    assert rows[None, 0.25].targets == TARGETS[:3]
    assert rows[None, 1.0].targets == TARGETS[:2]
    report(folder, tmp_path / "report")
    untrained = [line for line in lines if line in kept or "merged-untrained" in line]
    assert len(untrained) > len(kept)
    path.write_text("\n".join(untrained) + "\n")
    found = make_study(read_folders([folder])[0])
    assert [(target.task, target.arms) for target in found.brief] == [("reviews/dvd", ())]
    short = [line for line in lines if '"arm": "mashup"' not in line or '"budget": 0.25' in line]
    path.write_text("\n".join(short) + "\n")  # of one arm there are short runs alone
    rows = {(row.family, row.budget) for row in make_study(read_folders([folder])[0]).by_family
            if row.arm == "mashup"}  # fmt: skip
    assert (None, 0.25) in rows
    assert (None, 1.0) not in rows
    assert "mashup" in report(folder, tmp_path / "report").markdown.read_text()
    path.write_text("\n".join(line for line in lines if '"budget": 0.25' in line) + "\n")
    text = report(folder, tmp_path / "report").markdown.read_text()
    assert "So far there are runs with 25 % of the steps only: these are shown." in text


def test_short_runs_are_shown_while_few_targets_have_whole_ones(tmp_path):
    """One target of three with whole runs alone made the verdict."""
    folder = write_study(
        tmp_path / "study", targets=TARGETS[:3], budgets=(0.25, 1.0), seeds=(42, 43)
    )
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    first = f'"task": "{TARGETS[0]}"'
    kept = [
        line
        for line in lines
        if first in line or '"budget": 0.25' in line or "merged-untrained" in line
    ]
    path.write_text("\n".join(kept) + "\n")
    found = make_study(read_folders([folder])[0])
    assert tuple(target.task for target in found.targets) == TARGETS[:3]
    assert found.about["longer"] == [TARGETS[0]]
    short = [json.loads(line) for line in kept if '"budget": 0.25' in line]
    ends = {
        (one["task"], one["seed"]): one["value"]
        for one in short
        if (one["arm"], one["metric"]) == ("mashup", "test_accuracy")
    }
    for target in found.targets:
        assert {arm.name for arm in target.arms} >= {"scratch", "mashup"}
        assert "best-single" not in {arm.name for arm in target.arms}  # it has whole runs alone
        for run in target.arm("mashup").runs:
            assert run.accuracy == ends[target.task, run.seed]
    assert {row.budget for row in found.by_family} == {0.25}
    text = report(folder, tmp_path / "report").markdown.read_text()
    assert "100 % of the steps" not in text
    assert f"25 % of the steps; longer ones of {TARGETS[0]} are not shown." in text
