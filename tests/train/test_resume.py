"""Runs that are stopped, locked or whose files were damaged go on, or say what is wrong."""

import json
import pickle
import shutil

import pytest
import torch
from transformers import TrainerCallback

from helpers import in_a_child, prompt_rows, refused, write_jsonl
from mashup import MashupError, Run, TrainSettings, load_base, load_task, train
from mashup.outputs import only_one
from mashup.progress import Progress

SMALL = TrainSettings(
    max_steps=4, batch_size=8, learning_rate=1e-2, evaluations=2, save_steps=1, lora_r=4
)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task(write_jsonl(tmp_path_factory.mktemp("data") / "even.jsonl", prompt_rows(90)))


@pytest.fixture(scope="module")
def done(base, task, tmp_path_factory):
    return train(base, task, output=tmp_path_factory.mktemp("runs") / "run", settings=SMALL)


class At(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step, work):
        self.step, self.work = step, work

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.work()


class Lines(Progress):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def stop():
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(base, task, tmp_path_factory):
    """Stopped in step 3: the resume point is that of step 2."""
    output = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=output, settings=SMALL, callbacks=[At(3, stop)])
    return output


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_process_at_a_time_trains_in_a_folder(base, task, tmp_path):
    with only_one(tmp_path / "run"), refused("output is being written", where="run"):
        train(base, task, output=tmp_path / "run", settings=SMALL)
    assert not list(tmp_path.iterdir())
    second = []

    def again():
        with refused("output is being written") as caught:
            train(base, task, output=tmp_path / "run", settings=SMALL)
        second.append(caught)

    twice = load_base(base.name, dtype="float32")
    run = train(twice, task, output=tmp_path / "run", settings=SMALL, callbacks=[At(2, again)])
    assert second
    assert [point.step for point in run.curve] == [0, 2, 4]
    assert names(tmp_path) == ["run"]
    assert not [name for name in names(tmp_path / "run") if name.startswith(".")]


def test_there_is_one_resume_point_and_it_names_its_files(stopped):
    (point,) = (stopped / ".resume").iterdir()
    mark = json.loads((point / "clock.txt").read_text())
    assert point.name == "checkpoint-2"
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt"} <= mark["files"].keys()
    assert 0 < mark["train_seconds"] < mark["total_seconds"]


def test_what_is_saved_is_said_when_a_run_is_stopped(base, task, tmp_path):
    for step, line in ((1, "1: no step is saved yet"), (3, "3: saved up to step 2 of 4")):
        told = Lines()
        with pytest.raises(KeyboardInterrupt):
            train(
                base, task, output=tmp_path / str(step), settings=SMALL, progress=told,
                callbacks=[At(step, stop)],
            )  # fmt: skip
        assert line in told.lines[-1]


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "harm",
    [
        lambda point: cut(point / "adapter_model.safetensors"),
        lambda point: (point / "optimizer.pt").unlink(),
        lambda point: (point / "clock.txt").unlink(),
        lambda point: (point / "clock.txt").write_text("soon"),
        lambda point: (point / "clock.txt").write_bytes(b"\xff\xfe"),
        lambda point: (point / "clock.txt").write_text("{" * 10_000),
        lambda point: (point / "clock.txt").write_text("{}"),
        lambda point: shutil.rmtree(point),
    ],
    ids=["cut", "without optimizer", "no clock", "text", "bytes", "deep", "empty", "gone"],
)
def test_a_resume_point_that_is_not_whole_does_not_count(done, base, task, stopped, tmp_path, harm):
    output = shutil.copytree(stopped, tmp_path / "run")
    harm(output / ".resume" / "checkpoint-2")
    run = train(base, task, output=output, settings=SMALL)
    assert [point.dev_loss for point in run.curve] == [point.dev_loss for point in done.curve]


def test_a_resume_point_of_an_earlier_version_counts(done, base, task, stopped, tmp_path):
    for text in ("1.5", "1.5 2.5"):
        output = shutil.copytree(stopped, tmp_path / text)
        (output / ".resume" / "checkpoint-2" / "clock.txt").write_text(text)
        run = train(base, task, output=output, settings=SMALL)
        assert run.last.dev_loss == done.last.dev_loss
        assert run.last.seconds > 1.5


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def same_size(path, content):
    """Other content, as many bytes: what a failing disk or somebody's script leaves."""
    path.write_bytes(content[: path.stat().st_size].ljust(path.stat().st_size, b"\0"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_model.safetensors", b"\0" * 10),
        ("optimizer.pt", b"PK\x03\x04"),
        ("optimizer.pt", pickle.dumps(Evil())),
        ("scheduler.pt", pickle.dumps(Evil())),
        ("rng_state.pth", pickle.dumps(Evil())),
        ("trainer_state.json", b"{"),
        ("trainer_state.json", b'{"global_step": "two"}'),
        ("trainer_state.json", b'{"global_step": 7}'),
    ],
)
def test_a_damaged_resume_point_is_one_problem(base, task, stopped, tmp_path, name, content):
    output = shutil.copytree(stopped, tmp_path / "run")
    path = output / ".resume" / "checkpoint-2" / name
    same_size(path, content.ljust(path.stat().st_size) if name.endswith("json") else content)
    with refused("damaged resume point", where="checkpoint-2"):
        train(base, task, output=output, settings=SMALL)
    assert not [n for n, _ in base.model.named_modules() if "lora" in n]


DAMAGE = [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"status": "finished"}', b"7"]


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["run.json", "curve.jsonl"])
def test_a_damaged_file_of_a_run_is_one_problem(done, base, task, tmp_path, name, content):
    output = shutil.copytree(done.path, tmp_path / "run")
    (output / name).write_bytes(content)
    with refused("damaged file", where=name):
        Run.open(output)
    with refused("damaged file", where=name):
        train(base, task, output=output, settings=SMALL)


def test_a_run_of_a_newer_version_is_left_alone(done, base, task, tmp_path):
    output = shutil.copytree(done.path, tmp_path / "run")
    known = json.loads((output / "run.json").read_text())
    assert known["version"] == 1
    (output / "run.json").write_text(json.dumps(known | {"version": 2}))
    with refused("file of a newer version", where="run.json"):
        train(base, task, output=output, settings=SMALL)


def test_a_run_without_version_is_read(done, base, task, tmp_path):
    output = shutil.copytree(done.path, tmp_path / "run")
    known = json.loads((output / "run.json").read_text())
    del known["version"]
    (output / "run.json").write_text(json.dumps(known))
    assert train(base, task, output=output, settings=SMALL).record == done.record


def test_a_curve_that_lacks_points_is_told_and_not_gone_on_from(base, task, stopped, tmp_path):
    output = shutil.copytree(stopped, tmp_path / "run")
    (output / "curve.jsonl").unlink()
    with refused("damaged file", where="curve.jsonl", found="none"):
        train(base, task, output=output, settings=SMALL)


@pytest.mark.parametrize("step", [1, 3])
def test_a_folder_that_is_removed_meanwhile_is_no_crash(base, task, tmp_path, step):
    output = tmp_path / "run"
    remove = At(step, lambda: shutil.rmtree(output))
    with pytest.raises(MashupError) as caught:
        train(base, task, output=output, settings=SMALL, callbacks=[remove])
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("step", [1, 3])
def test_resume_points_that_are_removed_meanwhile_are_not_needed(done, base, task, tmp_path, step):
    remove = At(step, lambda: shutil.rmtree(tmp_path / "run/.resume", ignore_errors=True))
    run = train(base, task, output=tmp_path / "run", settings=SMALL, callbacks=[remove])
    assert run.last.dev_loss == done.last.dev_loss


def test_a_finished_run_has_no_resume_points_even_if_a_kill_left_them(done, base, task, tmp_path):
    output = shutil.copytree(done.path, tmp_path / "run")
    (output / ".resume" / "checkpoint-4").mkdir(parents=True)
    train(base, task, output=output, settings=SMALL)
    assert not (output / ".resume").exists()


def test_a_link_to_another_disk_is_trained_in(base, task, tmp_path):
    (tmp_path / "run").symlink_to("disk/run")
    run = train(base, task, output=tmp_path / "run", settings=SMALL)
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "run" / "run.json").exists()
    assert torch.isfinite(torch.tensor(run.last.dev_loss))
    assert in_a_child(lambda: Run.open(tmp_path / "run")) == 0
