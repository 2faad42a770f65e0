"""Races on a real tiny model, through the public door and the command line."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import mashup
from helpers import prompt_rows, refused, write_jsonl
from lora import save_lora
from mashup import (
    Race,
    TrainSettings,
    UsageError,
    load_base,
    load_task,
    race,
    scan,
    train,
)
from mashup._race.race import default_rates, named_starts, race_settings, rung_points
from mashup._train.curve import CurveCallback
from mashup._train.record import read_started
from mashup.progress import Progress

SMALL = TrainSettings(
    max_steps=8, batch_size=8, learning_rate=1e-2, evaluations=4, lora_r=4, keep="best",
    test_points="end",
)  # fmt: skip
RATES = (1e-3, 1e-2)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("data") / "even.jsonl", prompt_rows(90))


@pytest.fixture(scope="module")
def task(rows):
    return load_task(rows)


@pytest.fixture(scope="module")
def start(base, tmp_path_factory):
    """A start that knows the task: a run on other rows of it."""
    rows = write_jsonl(tmp_path_factory.mktemp("data") / "more.jsonl", prompt_rows(90, " Say it."))
    settings = SMALL.model_copy(update={"learning_rate": 3e-2, "max_steps": 12})
    output = tmp_path_factory.mktemp("sources") / "more"
    return train(base, load_task(rows), output=output, settings=settings).path


@pytest.fixture(scope="module")
def done(base, task, start, tmp_path_factory):
    output = tmp_path_factory.mktemp("races") / "race"
    before = time.perf_counter()
    found = race(base, task, output=output, starts=[start], learning_rates=RATES, settings=SMALL)
    found.record["wall"] = time.perf_counter() - before
    return found


def weights(path):
    return load_file(path / "adapter_model.safetensors")


def test_a_race_leaves_a_trained_run_and_a_sentence(done, base):
    assert done.run.path == done.path
    assert done.sentence.startswith(done.record["winner"].split("-lr")[0])
    assert " scratch" in done.sentence
    assert "dev examples" in done.sentence
    (found,) = scan(done.path.parent).checkpoints
    assert found.usable
    assert not (done.path / ".race").exists()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.name), done.path)


def test_rates_are_dropped_at_the_first_rung_and_scratch_stays(done):
    first, *_ = done.record["rungs"]
    assert first["step"] == 4
    assert len(first["lanes"]) == 4
    assert {one["lane"] for one in first["lanes"]} == done.record["lanes"].keys()
    assert {lane["start"] for lane in done.record["lanes"].values()} == {"scratch", "more"}
    left = [one["lane"] for one in first["lanes"] if not one["given_up"]]
    assert len({name.split("-lr")[0] for name in left}) == len(left) <= 2
    assert sum(done.record["steps"].values()) <= done.record["most_steps"] == 4 * 4 + 2 * 4
    for lane in first["lanes"]:
        assert done.record["steps"][lane["lane"]] >= 4


def test_the_winner_is_the_lane_with_the_least_dev_loss_and_never_behind_scratch(done):
    seen = [one["dev_loss"] for rung in done.record["rungs"] for one in rung["lanes"]]
    assert done.run.kept.dev_loss == pytest.approx(min(seen), rel=1e-6)


def test_the_charged_seconds_are_those_of_the_clock(done):
    record = done.record
    assert sum(record["seconds"].values()) == pytest.approx(record["total_seconds"], abs=1e-6)
    assert record["total_seconds"] == pytest.approx(record["wall"], abs=0.5)
    lanes = {name for name in record["seconds"] if name.startswith("lane ")}
    assert len(lanes) == 4
    assert record["seconds"]["rest"] < 0.3 * record["total_seconds"] + 0.5
    for name, seconds in record["train_seconds"].items():
        assert 0 < seconds <= record["seconds"][f"lane {name}"]
    assert set(record["train_seconds"]) == {name.removeprefix("lane ") for name in lanes}


def test_the_winner_is_what_train_alone_gives(done, base, task, start, tmp_path):
    name, rate = done.record["winner"].split("-lr")
    settings = SMALL.model_copy(update={"learning_rate": float(rate)})
    init = None if name == "scratch" else start
    alone = train(base, task, output=tmp_path / "run", init=init, settings=settings)
    for key, tensor in weights(alone.path).items():
        assert torch.equal(tensor, weights(done.path)[key])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_one_start_and_one_rate_is_train_byte_for_byte(base, task, tmp_path, keep):
    settings = SMALL.model_copy(update={"keep": keep})
    one = race(base, task, output=tmp_path / "race", settings=settings)
    run = train(base, task, output=tmp_path / "run", settings=settings)
    assert one.record["steps"] == {"scratch-lr0.01": 8}
    names = {path.name for path in run.path.iterdir()}
    assert {path.name for path in one.path.iterdir()} == names | {"race.json"}
    timed = {"run.json", "mashup.json", "curve.jsonl"}
    for name in names - timed:
        assert (one.path / name).read_bytes() == (run.path / name).read_bytes(), name
    ends = [[p.to_json() | {"seconds": 0} for p in r.curve] for r in (one.run, run)]
    assert ends[0] == ends[1]
    assert one.run.record["config"] == run.record["config"]
    again = train(base, task, output=one.path, settings=settings)  # it is that run
    assert again.record == one.run.record


def test_the_same_call_again_returns_at_once_and_another_is_refused(done, base, task, start):
    lines = []
    progress = Progress()
    progress.say = lines.append
    given = {"output": done.path, "starts": [start], "settings": SMALL}
    again = race(base, task, learning_rates=RATES, progress=progress, **given)
    assert lines == ["finished earlier: nothing was trained"]
    assert again.sentence == done.sentence
    with refused("output exists already", found="rates"):
        race(base, task, learning_rates=[1e-2], **given)


@pytest.mark.parametrize("stops", [2, 7, 12])
def test_a_race_that_is_stopped_goes_on_to_the_same_end(
    stops, done, base, task, start, tmp_path, monkeypatch
):
    real, calls = CurveCallback._add, []

    def stopping(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == stops:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    given = {"output": tmp_path / "race", "starts": [start], "settings": SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(CurveCallback, "_add", stopping)
        with pytest.raises(KeyboardInterrupt):
            race(base, task, learning_rates=RATES, **given)
    resumed = race(base, task, learning_rates=RATES, **given)
    assert resumed.sentence == done.sentence
    assert resumed.record["rungs"] == done.record["rungs"]
    for name, tensor in weights(done.path).items():
        assert torch.equal(tensor, weights(resumed.path)[name])
    record = resumed.record
    assert sum(record["seconds"].values()) == pytest.approx(record["total_seconds"], abs=1e-6)


def test_steps_are_counted_whose_values_were_written_just_before_a_kill(
    done, base, task, start, tmp_path, monkeypatch
):
    from mashup._race import race as module

    real, written = module.write_point, []

    def killed(path, step, dev):
        real(path, step, dev)
        written.append(step)
        if written.count(done.record["rungs"][0]["step"]) == 4:  # a lane that is given up there
            patch.setattr(module.Book, "save", lambda *_, **__: None)
            raise KeyboardInterrupt

    given = {"output": tmp_path / "race", "starts": [start], "settings": SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_point", killed)
        with pytest.raises(KeyboardInterrupt):
            race(base, task, learning_rates=RATES, **given)
    assert race(base, task, learning_rates=RATES, **given).record["steps"] == done.record["steps"]


def test_a_race_stopped_while_its_files_get_their_place_goes_on(
    done, base, task, start, tmp_path, monkeypatch
):
    from mashup._race import race as module

    real, moved = module.move, []

    def stopping(made, path):
        moved.append(path.name)
        if len(moved) == 3:
            raise KeyboardInterrupt
        real(made, path)

    given = {"output": tmp_path / "race", "starts": [start], "settings": SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(module, "move", stopping)
        with pytest.raises(KeyboardInterrupt):
            race(base, task, learning_rates=RATES, **given)
    with pytest.raises(Exception, match="not finished"):
        Race.open(tmp_path / "race")
    assert race(base, task, learning_rates=RATES, **given).sentence == done.sentence
    assert names(tmp_path / "race") == names(done.path)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_resume_points_that_a_kill_left_in_the_winners_folder_go_away(
    done, base, task, start, tmp_path, monkeypatch
):
    def killed(output):
        if read_started(output)["status"] == "finished":
            raise KeyboardInterrupt

    given = {"output": tmp_path / "race", "starts": [start], "settings": SMALL}
    with monkeypatch.context() as patch:
        patch.setattr("mashup._train.run._tidy", killed)
        with pytest.raises(KeyboardInterrupt):
            race(base, task, learning_rates=RATES, **given)
    assert race(base, task, learning_rates=RATES, **given).sentence == done.sentence
    assert names(tmp_path / "race") == names(done.path)


def test_a_lane_that_diverges_loses_and_a_race_of_such_is_an_error(base, task, tmp_path):
    wild = SMALL.model_copy(update={"max_grad_norm": 1e30, "keep": "last"})
    won = race(base, task, output=tmp_path / "one", learning_rates=[1e30, 1e-2], settings=wild)
    assert won.record["winner"] == "scratch-lr0.01"
    with refused("training diverged"):
        race(base, task, output=tmp_path / "all", learning_rates=[1e30], settings=wild)


def test_starts_that_a_library_gives(base, task, start, tmp_path, tiny_base):
    save_lora(tiny_base, start.parent / "noise", size=0.3, seed=3)
    found = race(
        base, task, output=tmp_path / "race", library=start.parent, learning_rates=[1e-2],
        settings=SMALL, merge_options=mashup.MergeSettings(accept_base=True),
    )  # fmt: skip
    record = found.record
    assert set(record["starts"]) <= {
        "merge",
        "merge-x0.5",
        "best-single",
        "best-single-x0.5",
        "all",
        "least-loss",
    }
    assert {"score"} | {f"start {name}" for name in record["starts"]} <= set(record["seconds"])
    assert not (found.path / ".race").exists()


def test_a_start_that_is_not_surely_better_races_against_scratch(base, task, start, tmp_path):
    where = {"library": start.parent, "output": tmp_path / "race"}
    found = race(base, task, learning_rates=[1e-2], settings=SMALL, **where)
    assert mashup.init(start.parent, base, task, output=tmp_path / "init").init is None
    assert "best-single" in found.record["starts"]
    assert any(lane.startswith("scratch") for lane in found.record["steps"])


def test_where_none_knows_the_task_those_with_the_least_loss_race_merged(
    base, task, tiny_base, tmp_path
):
    for seed in range(6):
        save_lora(tiny_base, tmp_path / "library" / f"noise{seed}", size=0.02, seed=seed)
    where = {"library": tmp_path / "library", "accept_base": True}
    assert mashup.init(base=base, task=task, output=tmp_path / "init", **where).init is None
    scores = mashup.score(base=base, task=task, **where)
    below = sorted(
        (one for one in scores.ranking if one.loss < scores.base.loss), key=lambda one: one.loss
    )
    assert len(below) > 2
    lines = []
    progress = Progress()
    progress.say = lines.append
    found = race(
        base, task, output=tmp_path / "race", learning_rates=[1e-2], settings=SMALL,
        progress=progress, **where
    )  # fmt: skip
    starts, names = found.record["starts"], [one.name for one in below[:2]]
    assert starts["least-loss"]["parents"] == names
    assert any(line.endswith(f"races too: {names[0]} and {names[1]}") for line in lines)
    assert set(starts) <= {"least-loss", "best-single"}
    assert {"least-loss-lr0.01", "scratch-lr0.01"} <= set(found.record["steps"])


def test_all_problems_of_a_race_come_at_once(base, task, tmp_path):
    from dataclasses import replace

    from mashup import InputError

    with pytest.raises(InputError) as caught:
        race(
            tmp_path / "no-base", replace(task, dev=()), output=tmp_path / "race",
            starts=[tmp_path / "no-start"],
        )  # fmt: skip
    problems = [problem.what for problem in caught.value.problems]
    assert len(problems) == 3
    assert "nothing to decide a race by" in problems
    assert not (tmp_path / "race").exists()


def test_a_start_of_another_base_is_refused_before_anything_is_trained(base, task, tmp_path):
    from helpers import write_adapter

    other = write_adapter(tmp_path / "other", modules={"model.layers.9.q_proj": (8, 8)})
    with refused("adapter of another base", where=str(other)):
        race(base, task, output=tmp_path / "race", starts=[other], settings=SMALL)
    assert not (tmp_path / "race").exists()
    with pytest.raises(UsageError, match="learning_rates"):
        race(base, task, output=tmp_path / "race", learning_rates=[-1.0])


def test_names_of_starts():
    assert list(named_starts(["a/b", "a/c"])) == ["b", "c"]
    assert list(named_starts(["a/x", "b/x"])) == ["a-x", "b-x"]
    assert list(named_starts({"mine": "a/x"})) == ["mine"]
    for bad in ("scratch", "", "..", "a/b"):
        with pytest.raises(UsageError, match="bad name of a start"):
            named_starts({bad: "a/x"})
    with pytest.raises(UsageError, match="bad name of a start"):
        named_starts({"merge": "a/x"}, taken=["merge"])


def test_the_rates_are_around_that_of_the_sources(done):
    assert default_rates(None, TrainSettings()) == (1.7e-4, 5e-4, 1.5e-3)
    assert default_rates(None, TrainSettings(learning_rate=1e-3)) == (1e-3,)
    rate = done.run.record["config"]["settings"]["learning_rate"]
    expected = tuple(float(f"{rate * factor:.2g}") for factor in (1 / 3, 1, 3))
    assert default_rates(scan(done.path.parent), TrainSettings()) == expected


def test_a_race_keeps_the_best_point_unless_told_otherwise():
    assert race_settings(None).keep == "best"
    assert race_settings(TrainSettings(keep="last")).keep == "last"
    assert race_settings(TrainSettings(seed=1)).test_points == "end"


def test_lanes_are_not_compared_before_the_end_of_warm_up():
    few = TrainSettings(max_steps=3, evaluations=3)  # the first step has a rate of 0
    assert rung_points(48, few) == [2, 3]
    assert rung_points(48, few.model_copy(update={"max_steps": 1})) == [1]
    assert rung_points(48, TrainSettings()) == [25, 50, 75, 100]


def test_the_sentence_says_at_which_step_the_rival_was_given_up(done):
    ends = {one["lane"]: rung["step"] for rung in done.record["rungs"] for one in rung["lanes"]}
    early = {step for lane, step in ends.items() if lane.startswith("scratch")}
    is_early = max(early) < done.record["rungs"][-1]["step"]
    assert ("for scratch, given up at step" in done.sentence) == is_early


def test_the_command_line(tiny_base, rows, start, tmp_path):
    def mashup(*more):
        command = [sys.executable, "-m", "mashup", "race", "--model", str(tiny_base)]
        command += ["--dataset", str(rows), "-o", str(tmp_path / "race"), "--dtype", "float32"]
        command += ["--max-steps", "4", "--learning-rates", "0.001", "0.01", "--starts", str(start)]
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, env=os.environ, check=False
        )

    planned = mashup("--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "4 lanes, compared at steps 2, 3, 4; 12 steps at most" in planned.stdout
    assert not (tmp_path / "race").exists()
    refused = mashup("--budget", "3")
    assert refused.returncode == 2
    assert "--budget" in refused.stderr
    done = mashup("--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    shown = mashup()
    assert "won" in shown.stdout
    assert "of at most 12 steps" in shown.stdout
