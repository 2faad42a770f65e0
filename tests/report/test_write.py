"""The files: all there, the same again, several experiments, faults all at once."""

import csv
import json

import pytest

from helpers import write_json
from mashup import report
from mashup.errors import InputError, UsageError
from studies import plans, write_study

TABLES = ("arms", "comparisons", "results", "costs", "parity", "ladder", "rates", "relevance",
          "gains", "chosen", "seeds", "curves")  # fmt: skip
FIGURES = ("gains", "gains-arms", "curves-accuracy", "curves-accuracy-seconds", "curves-dev",
           "curves-dev-seconds", "costs", "rates", "ladder", "donors", "donor-gains")  # fmt: skip


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_table_and_picture_is_there_in_every_format(written):
    assert {path.name for path in (written / "tables").iterdir()} == {
        f"{name}.{kind}" for name in TABLES for kind in ("csv", "tex")
    }
    assert {path.name for path in (written / "figures").iterdir()} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")
    }
    assert (written / "figures/costs.png").read_bytes().startswith(b"\x89PNG")
    assert (written / "figures/costs.svg").read_text().startswith("<?xml")
    assert (written / "index.html").stat().st_size < 5e5


def test_markdown_says_it_all_and_points_to_its_pictures(written):
    text = (written / "report.md").read_text()
    assert text.startswith("# small\n\n**Mashup is better than scratch.** +")
    for key in FIGURES:
        assert f"(figures/{key}.png)" in text
    for heading in (
        "Budget ladder",
        "Steps and seconds to parity",
        "Source checkpoints",
        "Several seeds",
    ):
        assert f"## {heading}" in text


def test_a_note_stands_under_how_it_was_measured(tmp_path):
    folder = write_study(tmp_path / "study", targets=("trec", "sst2"))
    about = json.loads((folder / "experiment.json").read_text())
    write_json(folder / "experiment.json", about | {"note": "Seconds are of two machines."})
    report(folder, tmp_path / "report")
    for page in ("report.md", "index.html"):
        assert "Seconds are of two machines." in (tmp_path / "report" / page).read_text()


def test_parity_counts_those_that_never_get_there_apart(written):
    rows = rows_of(written / "tables/parity.csv")
    fair = {row["Arm"]: row for row in rows if row["Rule"] == "fair rule"}
    assert float(fair["mashup"]["Runs"]) == 4 * 2
    for row in fair.values():
        assert float(row["Reached"]) + float(row["Never"]) == float(row["Runs"])
    assert float(fair["mashup"]["Share of the steps"]) < 1
    assert float(fair["scratch"]["Share of the steps"]) == 1
    assert "merged-untrained" not in fair


def test_results_have_the_commonest_answer_of_every_target(written):
    rows = rows_of(written / "tables/results.csv")
    blind = [row for row in rows if row["Arm"] == "(commonest answer)"]
    assert [row["Target"] for row in blind] == ["trec", "sst2", "mrpc", "tweet_emotion"]
    assert {float(row["Test accuracy"]) for row in blind} == {0.3}


def test_arms_tell_what_they_are_over_scratch_with_the_seeds_of_both(written):
    over = {
        row["Comparison"]: row["Gain, points"]
        for row in rows_of(written / "tables/comparisons.csv")
    }  # fmt: skip
    arms = {row["Arm"]: row["Over scratch, points"] for row in rows_of(written / "tables/arms.csv")}
    assert arms == {arm: over.get(f"{arm} − scratch", "–") for arm in arms}
    assert arms["scratch"] == "–"
    assert float(arms["mashup"]) > 0


def test_rates_tell_what_diverged(written):
    rows = rows_of(written / "tables/rates.csv")
    lost = [row for row in rows if row["Arm"] == "mashup" and float(row["Learning rate"]) == 1e-3]
    assert float(lost[0]["Diverged"]) == float(lost[0]["Runs"]) == 4 * 2
    assert lost[0]["Dev loss"] == "–"


def test_the_same_records_give_the_same_bytes(study_folder, written, tmp_path):
    report(study_folder, tmp_path)
    for path in sorted(p for p in written.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(written)).read_bytes()


def test_several_experiments_stand_side_by_side(tmp_path):
    one = write_study(tmp_path / "one", name="one", targets=("trec", "sst2"))
    two = write_study(tmp_path / "two", name="two", base="google/gemma-3-1b-it", targets=("trec",))
    report([one, two], tmp_path / "out")
    rows = rows_of(tmp_path / "out/tables/models.csv")
    assert [row["Base"] for row in rows] == ["SmolLM2-135M-Instruct", "gemma-3-1b-it"]
    names = {path.name for path in (tmp_path / "out/figures").iterdir()}
    assert {"models.png", "one-gains.svg", "two-gains.svg"} <= names
    assert "2 experiments side by side" in (tmp_path / "out/index.html").read_text()


def test_records_alone_are_enough(tmp_path):
    folder = write_study(tmp_path / "study", targets=("trec", "sst2"))
    (folder / "experiment.json").unlink()
    report(folder, tmp_path / "out")
    assert "Mashup is better than scratch" in (tmp_path / "out/report.md").read_text()


def test_scratch_alone_has_no_gains_to_show(tmp_path):
    scratch = {"scratch": plans()["scratch"]}
    folder = write_study(tmp_path / "study", targets=("trec", "sst2"), arms=scratch)
    report(folder, tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "**Only scratch was trained on small.**\n" in text
    assert "## Comparisons" not in text
    assert not (tmp_path / "out/figures/gains.png").exists()
    assert (tmp_path / "out/figures/curves-accuracy.png").exists()


def test_two_of_one_name_are_refused(tmp_path):
    folder = write_study(tmp_path / "study", targets=("trec",))
    with pytest.raises(UsageError, match="two experiments with one name"):
        report([folder, folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_folders_without_records_are_told_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/records.jsonl").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/records.jsonl").write_text(json.dumps({"name": "x"}) + "\n")
    with pytest.raises(InputError) as caught:
        report([tmp_path / n for n in ("empty", "none", "other")], tmp_path / "out")
    assert len(caught.value.problems) == 3
    assert {problem.what for problem in caught.value.problems} == {
        "no records yet", "cannot read records",
    }  # fmt: skip


def test_what_a_killed_report_left_is_removed(study_folder, tmp_path):
    left = tmp_path / "out/tables/.costs.csv.95be54d6.mashup-part"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    mine = left.with_name(".notes.mashup-part")
    mine.write_text("somebody's")
    report(study_folder, tmp_path / "out")
    assert not left.exists()
    assert mine.exists()
