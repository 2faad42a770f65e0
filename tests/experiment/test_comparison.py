"""A whole comparison on a real tiny model and a library that our own runs made."""

import json

import pytest

from helpers import prompt_rows, refused, write_jsonl
from lora import save_lora
from mashup import (
    ScoreSettings,
    SelectSettings,
    TrainSettings,
    UsageError,
    compare,
    load_base,
    load_task,
    merge,
    scan,
    score,
    train,
    verify,
)
from mashup._report.write import read_studies
from mashup.experiment.compare import begin
from mashup.experiment.work import joined
from mashup.library.leakage import leaking
from mashup.outputs import only_one
from mashup.progress import Progress
from mashup.results import read_records
from mashup.results.comparison import read_about
from mashup.task import commonest_accuracy

SETTINGS = TrainSettings(max_steps=6, batch_size=8, learning_rate=1e-2, evaluations=2)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def library(base, tmp_path_factory):
    """Two donors trained on tasks like the target, and one random LoRA."""
    folder = tmp_path_factory.mktemp("library")
    for n in (1, 2):
        rows = prompt_rows(90, f" {'!' * n}")
        task = load_task(write_jsonl(folder / f"data{n}.jsonl", rows))
        own = SETTINGS.model_copy(update={"seed": n})  # from one seed they would be one donor twice
        train(base, task, output=folder / f"donor{n}", settings=own)
    save_lora(base.name, folder / "noise", size=0.5)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "target.jsonl"
    return load_task(write_jsonl(path, prompt_rows(90)))


@pytest.fixture(scope="module")
def done(base, library, task, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "c"
    return compare(
        library, base, task, output=output, samples=40, criterion="loss",
        seeds=(1, 2), settings=SETTINGS, budgets=(0.5, 1.0),
    )  # fmt: skip


def test_all_its_numbers_can_be_made_again_from_its_runs(done, task):
    found = verify(done.path)
    assert found.agrees, found.problems
    assert (task.name, "agrees") in [(c.where, c.state) for c in found.checks if c.what == "runs"]


def values(done, metric, arm, **where):
    return [
        r.value
        for r in done.records
        if r.metric == metric and r.arm == arm and all(getattr(r, k) == v for k, v in where.items())
    ]


def test_the_donors_are_chosen_and_not_the_noise(done):
    assert {s.name for s in done.selection.chosen} == {"donor1", "donor2"}


def test_every_arm_has_curve_costs_and_parity_for_each_seed(done):
    for arm in ("scratch", "mashup", "best-single", "random-two"):
        assert len(values(done, "dev_loss", arm, budget=1.0)) == 2 * 3
        assert len(values(done, "total_seconds", arm, budget=1.0)) == 2
        assert len(values(done, "fair_parity_steps", arm)) == 2
    assert len(values(done, "dev_loss", "merged-untrained")) == 2
    assert {r.step for r in done.records if r.arm == "merged-untrained"} == {0}


def test_arms_are_compared_when_the_test_rows_are_read_at_the_end_alone(
    base, library, task, tmp_path, done
):
    settings = SETTINGS.model_copy(update={"test_points": "end"})
    options = {"output": tmp_path / "c", "samples": 40, "criterion": "loss", "seeds": (1,)}
    options |= {"settings": settings}
    never = options | {"settings": settings.model_copy(update={"test_points": "none"})}
    with pytest.raises(UsageError, match="judged on the test rows"):
        compare(library, base, task, **never)
    assert not (tmp_path / "c").exists()
    brief = compare(library, base, task, arms=("mashup", "merged-untrained"), **options)
    (start,) = values(brief, "test_loss", "merged-untrained")
    assert start == values(done, "test_loss", "merged-untrained", seed=1)[0]
    assert values(brief, "train_seconds", "merged-untrained") == [0.0]
    for arm in ("scratch", "mashup"):
        (end,) = values(brief, "test_loss", arm)
        assert end == values(done, "test_loss", arm, seed=1, budget=1.0, step=6)[0]
        assert values(brief, "dev_loss", arm) == values(done, "dev_loss", arm, seed=1, budget=1.0)
        assert len(values(brief, "fair_parity_steps", arm)) == 1
        assert values(brief, "paper_parity_steps", arm) == []
    assert len(values(brief, "test_accuracy_gain", "mashup")) == 1
    assert "| mashup" in brief.table.read_text()


def test_what_the_commonest_answer_gets_right_is_on_record_and_is_no_run(done, task):
    (value,) = values(done, "test_accuracy", "commonest-answer")
    assert value == commonest_accuracy(task)
    (study,) = read_studies([done.path])
    assert "commonest-answer" not in study.arms


def test_every_arm_trains_the_same_rank(done):
    rank = json.loads((done.path / "comparison.json").read_text())["rank"]
    assert rank > SETTINGS.lora_r  # the merge of two
    for result in done.results:
        config = json.loads((result.run.path / "adapter_config.json").read_text())
        assert config["r"] == rank
        if result.arm.name == "scratch":
            assert config["lora_alpha"] / rank == SETTINGS.lora_alpha / SETTINGS.lora_r


def test_the_ladder_has_its_own_runs_with_their_own_schedule(done):
    half = [r for r in done.records if r.budget == 0.5 and r.metric == "dev_loss"]
    assert {r.arm for r in half} == {"scratch", "mashup"}
    assert max(r.step for r in half) == 3
    (end,) = values(done, "dev_loss", "scratch", budget=0.5, step=3, seed=1)
    (middle,) = values(done, "dev_loss", "scratch", budget=1.0, step=3, seed=1)
    assert end != middle


def test_scoring_and_merging_are_charged_to_those_who_used_them(done):
    assert values(done, "score_seconds", "scratch") == [0.0] * 4
    assert values(done, "score_seconds", "random-two") == [0.0] * 2
    (first, *_) = values(done, "score_seconds", "mashup")
    assert first == pytest.approx(done.selection.scores.cost.seconds)
    assert first > 0
    for arm in ("mashup", "best-single"):
        for total, trained in zip(
            values(done, "total_seconds", arm), values(done, "train_seconds", arm), strict=True
        ):
            assert total > trained + first


def test_scratch_against_itself_saves_nothing(done):
    steps = values(done, "fair_parity_steps", "scratch")
    assert steps == values(done, "fair_parity_scratch_steps", "scratch")


def test_what_is_on_disk_is_what_is_returned(done):
    assert read_records(done.path / "records.jsonl") == done.records
    about = json.loads((done.path / "comparison.json").read_text())
    assert about["sentence"] == done.selection.sentence
    assert done.page.exists()
    assert done.table.exists()
    rows = json.loads((done.path / "scores.json").read_text())
    assert [row["name"] for row in rows][-1] == "base"


def test_the_same_call_again_trains_nothing(done, base, library, task, monkeypatch):
    from mashup._train import run

    monkeypatch.setattr(run, "fit", None)  # would fail if any run were trained
    again = compare(
        library, base, task, output=done.path, samples=40, criterion="loss",
        seeds=(1, 2), settings=SETTINGS, budgets=(0.5, 1.0),
    )  # fmt: skip
    assert again.records == done.records


def test_a_base_that_attends_otherwise_is_another_comparison(done, tiny_base, library, task):
    other = load_base(tiny_base, dtype="float32", attn_implementation="eager")
    with refused("output exists already", found="other base"):
        compare(
            library, other, task, output=done.path, samples=40, criterion="loss",
        seeds=(1, 2), settings=SETTINGS, budgets=(0.5, 1.0),
        )  # fmt: skip


def test_another_comparison_in_the_same_folder_is_refused(done, base, library, task):
    with refused("output exists already", found="settings of choosing"):
        compare(library, base, task, output=done.path, samples=41, settings=SETTINGS)


def test_one_comparison_at_a_time_is_in_a_folder(base, library, task, tmp_path):
    with only_one(tmp_path / "c"), refused("output is being written", where="/c"):
        compare(library, base, task, output=tmp_path / "c", settings=SETTINGS)
    assert not list(tmp_path.iterdir())


def test_a_grid_of_learning_rates_is_searched_on_dev_and_charged(base, library, task, tmp_path):
    found = compare(
        library, base, task, output=tmp_path / "c", samples=20, criterion="loss", arms=("mashup",),
        learning_rates=(1e-6, 1e-2), settings=SETTINGS,
    )  # fmt: skip
    for result in found.results:
        assert result.run.record["config"]["settings"]["learning_rate"] == 1e-2
        assert result.overhead["search"] > 0


def test_a_donor_that_saw_the_test_rows_is_left_out(base, library, task, tmp_path):
    rows = write_jsonl(tmp_path / "leak.jsonl", prompt_rows(90))
    leaky = load_task(rows, seed=7)  # other splits of the same rows
    train(base, leaky, output=tmp_path / "lib/leaky", settings=SETTINGS)
    with refused("trained on the held-out rows", where="leaky"):
        compare(tmp_path / "lib", base, task, output=tmp_path / "c", settings=SETTINGS)
    assert not (tmp_path / "c").exists()


def test_what_a_donor_was_started_or_merged_from_has_been_seen_too(base, task, tmp_path):
    rows = write_jsonl(tmp_path / "leak.jsonl", prompt_rows(90))
    leaky = train(base, load_task(rows, seed=7), output=tmp_path / "leaky", settings=SETTINGS)
    merged = merge([leaky.path], output=tmp_path / "lib/merged", base=base)
    fresh = load_task(write_jsonl(tmp_path / "d.jsonl", [
        row | {"prompt": f"{row['prompt']} ?"} for row in prompt_rows(90)
    ]))  # fmt: skip
    train(base, fresh, output=tmp_path / "lib/went-on", init=merged, settings=SETTINGS)
    found = leaking(scan(tmp_path / "lib").checkpoints, task)
    assert {path.rsplit("/", 1)[-1] for path in found} == {"merged", "went-on"}
    said = Said()
    train(base, task, output=tmp_path / "x", init=merged, settings=SETTINGS, progress=said)
    scores = score(tmp_path / "lib", base, task, samples=8, progress=said)
    assert "(2 in all) trained on dev or test rows" in scores.leaks[0]
    notes = [line for line in said.lines if "memory" in line]
    assert "was trained on" in notes[0]
    assert "(2 in all)" in notes[1]


class Said(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.mark.parametrize(
    "values", [{"budgets": (-1.0,)}, {"seeds": (1, 1)}, {"learning_rates": (0.0,)}]
)
def test_values_that_cannot_be_are_refused(base, library, task, tmp_path, values):
    with pytest.raises(UsageError, match="bad setting"):
        compare(library, base, task, output=tmp_path / "c", **values)


def test_rows_that_cannot_be_used_leave_no_folder(base, library, tmp_path):
    rows = [*prompt_rows(90), {"prompt": "long " * 300, "completion": "x"}]
    task = load_task(write_jsonl(tmp_path / "d.jsonl", rows))
    with refused("cannot use row"):
        compare(library, base, task, output=tmp_path / "c", settings=SETTINGS)
    assert not (tmp_path / "c").exists()


def test_an_empty_selection_is_an_answer(base, task, tmp_path, tiny_base):
    save_lora(tiny_base, tmp_path / "lib/noise", size=1.0)
    found = compare(tmp_path / "lib", base, task, output=tmp_path / "c", settings=SETTINGS)
    assert found.selection.is_empty
    by_arm = {result.arm.name: result for result in found.results}
    assert by_arm["mashup"].run.path == by_arm["scratch"].run.path
    assert "start from the base" in found.table.read_text()


def test_arms_share_a_merge_but_not_a_run_of_other_seeds(done):
    names = {path.name for path in (done.path / "runs").iterdir()}
    assert sum("seed1" in name for name in names) == sum("seed2" in name for name in names)
    assert joined(["a/b", "c"]) == "a-b+c"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"method": "mean"}, "unknown method"),
        ({"weights": (0.5, 0.5)}, "bad weights"),
        ({"method": "ties", "density": 0.0}, "bad setting"),
    ],
)
def test_a_merge_that_cannot_be_is_refused_before_any_work(tmp_path, options, what):
    with pytest.raises(UsageError, match=what):
        compare("nowhere", "nothing", "none", output=tmp_path / "c", merge_options=options)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"score": ScoreSettings(samples=8), "samples": 9}, "setting given twice"),
        ({"select": SelectSettings(k=1), "k": 1}, "setting given twice"),
        ({"k": 0}, "`k`"),
        ({"sampels": 8}, "sampels"),
        ({"arms": ("format-only",)}, "arm of experiments only"),
        ({"arms": ("mash",)}, "unknown arm"),
    ],
)
def test_choosing_is_given_as_settings_or_as_words(tmp_path, options, what):
    with pytest.raises(UsageError, match=what):
        compare("nowhere", "nothing", "none", output=tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()


def test_a_comparison_of_an_earlier_version_is_refused_and_still_read(tmp_path):
    (tmp_path / "comparison.json").write_text('{"version": 1, "seeds": [1]}')
    with refused("output exists already", found="an earlier version"):
        begin(tmp_path, {"version": 1, "identity": {"base": "b"}})
    assert read_about(tmp_path)["seeds"] == [1]


def test_the_parts_that_differ_are_named(tmp_path):
    about = {"version": 1, "identity": {"base": "a", "seeds": "b", "arms": "c"}}
    begin(tmp_path / "c", about)
    begin(tmp_path / "c", about)
    with refused("output exists already", found="other base, arms"):
        begin(tmp_path / "c", {"version": 1, "identity": {"base": "x", "seeds": "b", "arms": "x"}})
