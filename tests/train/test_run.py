"""Training runs on a real tiny model: numbers, resuming, reuse, and the start from an init."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import TrainerCallback

from helpers import full_disk, prompt_rows, refused, write_adapter, write_jsonl
from lora import save_lora
from mashup import Run, TrainSettings, UsageError, load_base, load_task, merge, scan, train
from mashup._train import run as run_module
from mashup._train.resume import Clock
from mashup._train.trainer import Lineage
from mashup.checkpoint.history import card_head
from mashup.errors import OutputError
from mashup.evaluate.evaluate import batches_for, evaluate
from mashup.model import applied, read_change
from mashup.progress import Progress
from mashup.task import tokenize

SMALL = TrainSettings(
    max_steps=6, batch_size=8, learning_rate=1e-2, evaluations=3, save_steps=2, lora_r=4
)


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
def done(base, task, tmp_path_factory):
    return train(base, task, output=tmp_path_factory.mktemp("runs") / "run", settings=SMALL)


def weights(run):
    return load_file(run.path / "adapter_model.safetensors")


def test_a_run_learns_and_tells_its_curve(done):
    assert [point.step for point in done.curve] == [0, 2, 4, 6]
    assert done.last.dev_loss < done.curve[0].dev_loss - 0.2
    seconds = [point.seconds for point in done.curve]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0
    assert done.record["metrics"]["test_loss"] == done.last.test_loss
    assert done.last.tokens > 6 * 8 * 10


def test_the_last_point_is_what_the_saved_adapter_scores(done, base, task):
    from mashup._init import Sample, measure

    sampled = measure(done.path, base, task, Sample())
    from mashup.delta import read_delta
    from mashup.evaluate.evaluate import batches_for, evaluate
    from mashup.model import applied
    from mashup.task import tokenize

    tokens = tokenize(base.tokenizer, task.test, max_length=512)
    with applied(base.model, read_delta(done.path)):
        found = evaluate(base.model, batches_for(base, tokens))
    assert found.loss == pytest.approx(done.last.test_loss, rel=1e-4)
    assert sampled.loss < done.curve[0].dev_loss
    kept = json.loads((done.path / "test.json").read_text())
    assert kept["losses"] == pytest.approx(found.losses.tolist(), rel=1e-3, abs=1e-5)


def test_scan_finds_the_run_with_its_task_and_metric(done, task):
    (found,) = scan(done.path.parent).checkpoints
    assert found.usable
    assert found.task == "even"
    assert found.metric == ("test_accuracy", done.last.test_accuracy)
    about = json.loads((done.path / "mashup.json").read_text())
    assert about["task"]["digest"] == task.digest
    prompts = (done.path / "train_prompts.txt").read_text().split()
    assert len(prompts) == len(task.train)


def test_plain_peft_loads_the_run(done, tiny_base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), done.path)
    assert not (done.path / ".resume").exists()


def test_the_card_says_how_to_load_the_run_what_it_scored_and_how_to_make_it_again(done, tiny_base):
    card = (done.path / "README.md").read_text()
    names = {}
    exec(card.split("```python")[1].split("```")[0].replace("PATH", str(done.path)), names)
    assert names["model"].active_adapter == "default"
    assert f"Task even (digest `{done.record['config']['task']['digest'][:12]}`)" in card
    assert f"test loss {done.last.test_loss:.4g}" in card
    assert f"mashup train --model {tiny_base} --dataset DATASET" in card
    assert "Not a finished model" not in card
    head = card_head(done.path)
    assert "base_model" not in head  # it is a folder
    assert (head["library_name"], head["pipeline_tag"]) == ("peft", "text-generation")


def test_files_of_a_run_have_the_permissions_of_the_umask(done):
    modes = {path.stat().st_mode & 0o777 for path in done.path.iterdir() if path.is_file()}
    before = os.umask(0)
    os.umask(before)
    assert modes == {0o666 & ~before}


def test_the_same_seed_gives_the_same_weights_and_another_other_ones(done, base, task, tmp_path):
    again = train(base, task, output=tmp_path / "again", settings=SMALL)
    other = train(base, task, output=tmp_path / "o", settings=SMALL.model_copy(update={"seed": 1}))
    for name, tensor in weights(done).items():
        assert torch.equal(tensor, weights(again)[name])
    assert any(not torch.equal(t, weights(other)[n]) for n, t in weights(done).items())


@pytest.mark.parametrize("micro", [1, 4])
def test_gradient_accumulation_gives_the_numbers_of_one_large_batch(
    done, base, rows, tmp_path, micro
):
    settings = SMALL.model_copy(update={"micro_batch_size": micro})
    parts = train(base, load_task(rows), output=tmp_path / "r", settings=settings)
    for mine, whole in zip(parts.curve, done.curve, strict=True):
        assert mine.dev_loss == pytest.approx(whole.dev_loss, rel=1e-3)


def test_sizes_in_the_words_of_trl_give_the_same_weights(base, task, tmp_path):
    """4 examples a pass and 4 passes are a batch of 16."""
    ours = SMALL.model_copy(update={"batch_size": 16, "max_steps": 3})
    values = ours.model_dump(exclude={"batch_size", "micro_batch_size"})
    theirs = TrainSettings(
        per_device_train_batch_size=4, gradient_accumulation_steps=4, **values
    )  # fmt: skip
    one = train(base, task, output=tmp_path / "one", settings=ours)
    two = train(base, task, output=tmp_path / "two", settings=theirs)
    for name, tensor in weights(one).items():
        assert_close(weights(two)[name], tensor, rtol=1e-3, atol=1e-5)


def test_another_optimizer_is_used(done, base, task, tmp_path):
    """And it is another run."""
    kept = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            kept.append(optimizer)

    settings = SMALL.model_copy(update={"optim": "adafactor"})
    run = train(base, task, output=tmp_path / "r", settings=settings, callbacks=[Look()])
    assert type(kept[0].optimizer).__name__ == "Adafactor"
    assert any(not torch.equal(t, weights(run)[n]) for n, t in weights(done).items())
    assert run.record["config"]["settings"]["optim"] == "adafactor"
    with refused("output exists already", found="settings.optim: adamw_torch there, adafactor now"):
        train(base, task, output=done.path, settings=settings)


def test_gradient_checkpointing_changes_no_gradient(done, base, task, tmp_path):
    settings = SMALL.model_copy(update={"gradient_checkpointing": True})
    passes = []
    layer = base.model.model.layers[0].mlp
    hook = layer.register_forward_pre_hook(lambda *_: passes.append(layer.training))
    run = train(base, task, output=tmp_path / "r", settings=settings)
    hook.remove()
    assert passes.count(True) == 2 * 6  # each step runs it forward twice
    assert not any(
        getattr(module, "gradient_checkpointing", False) for module in base.model.modules()
    )
    for name, tensor in weights(done).items():
        assert torch.equal(weights(run)[name], tensor)


@pytest.mark.parametrize(("points", "read"), [("end", [3]), ("none", [])])
def test_test_rows_are_read_where_asked(base, task, tmp_path, points, read, done):
    settings = SMALL.model_copy(update={"test_points": points})
    run = train(base, task, output=tmp_path / "r", settings=settings)
    tested = [n for n, point in enumerate(run.curve) if point.test_loss is not None]
    assert tested == read
    assert [p.dev_loss for p in run.curve] == [p.dev_loss for p in done.curve]
    for name, tensor in weights(done).items():
        assert torch.equal(weights(run)[name], tensor)
    assert ("test_loss" in run.record["metrics"]) == bool(read)
    assert (run.path / "test.json").exists() == bool(read)
    assert not (run.path / "test-start.json").exists()
    if read:
        assert run.last.test_loss == done.last.test_loss


def test_training_losses_are_logged_as_often_as_asked(base, task, tmp_path):
    steps = []

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            steps.extend([state.global_step] if "loss" in logs else [])

    settings = SMALL.model_copy(update={"logging_steps": 2, "max_steps": 5})
    train(base, task, output=tmp_path / "r", settings=settings, callbacks=[Watch()])
    assert steps == [2, 4]


def test_answers_of_different_length_weigh_by_their_tokens(base, tmp_path):
    """A mean of micro-batch means would differ: answers here have 1 to 30 tokens."""
    rows = [{"prompt": f"{n}?", "completion": "x" * (1 + 29 * (n % 2))} for n in range(60)]
    task = load_task(write_jsonl(tmp_path / "d.jsonl", rows))
    curves = []
    for micro in (None, 1):
        settings = SMALL.model_copy(update={"micro_batch_size": micro})
        run = train(base, task, output=tmp_path / str(micro), settings=settings)
        curves.append([point.dev_loss for point in run.curve])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_a_finished_run_is_reused(done, base, task):
    before = (done.path / "adapter_model.safetensors").stat().st_mtime_ns
    said = Said()
    again = train(base, task, output=done.path, settings=SMALL, progress=said)
    assert again.record == done.record
    assert said.lines == ["finished earlier: nothing was trained"]
    assert (done.path / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_a_finished_run_is_known_by_files_alone(tiny_base, rows, tmp_path, monkeypatch):
    """Without a base; what changed since is looked at in full."""
    base = shutil.copytree(tiny_base, tmp_path / "base")
    model = base / "model.safetensors"
    os.utime(model)
    time.sleep(0.1)  # files that changed just now are not known by a stamp
    few = SMALL.model_copy(update={"max_steps": 1, "evaluations": 1})

    def again():
        return train(str(base), rows, output=tmp_path / "run", settings=few)

    first = again()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "load_base", lambda *_: pytest.fail("loaded the base"))
        assert again().record == first.record
        other = few.model_copy(update={"seed": 1})
        with pytest.raises(pytest.fail.Exception):
            train(str(base), rows, output=tmp_path / "run", settings=other)
    os.utime(model)
    assert again().record == first.record
    tokenizer = base / "chat_template.jinja"
    tokenizer.write_text("S" + tokenizer.read_text())
    with refused("output exists already", found="tokens"):
        again()


def test_a_folder_of_another_run_is_refused_and_the_difference_named(done, base, task):
    other = SMALL.model_copy(update={"learning_rate": 0.5})
    with refused("output exists already", found="settings.learning_rate: 0.01 there, 0.5 now"):
        train(base, task, output=done.path, settings=other)


def test_another_attention_is_another_run(done, tiny_base, task):
    other = load_base(tiny_base, dtype="float32", attn_implementation="eager")
    with refused("output exists already", found="base.attention: None there, eager now"):
        train(other, task, output=done.path, settings=SMALL)


def test_a_folder_with_other_files_is_refused(base, task, tmp_path):
    (tmp_path / "mine").write_text("x")
    with refused("output exists already"):
        train(base, task, output=tmp_path, settings=SMALL)


class StopAt(TrainerCallback):
    """The crash of a run after some step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


class Said(Progress):
    """Keeps what is said, and where the bar of the training began."""

    def __init__(self):
        self.lines, self.begun = [], None

    def bar(self, label, total, done=0):
        if label.startswith("training"):
            self.begun = done
        return super().bar(label, total, done)

    def say(self, line):
        self.lines.append(line)


def test_seconds_of_all_goes_are_added_up(tmp_path):
    """Killed goes are in the total as well, or training would take longer than everything."""
    clock = Clock(train=40.0, before=50.0)
    clock.save(tmp_path)
    again = Clock()
    again.go_on(tmp_path)
    assert again.train == 40.0
    assert again.total >= 50.0
    (tmp_path / "clock.txt").write_text("40.0")  # of a version that kept no total
    again.go_on(tmp_path)
    assert (again.train, again.before) == (40.0, 40.0)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_end(done, base, task, tmp_path, step):
    output, said = tmp_path / "run", Said()
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=output, settings=SMALL, callbacks=[StopAt(step)])
    assert json.loads((output / "run.json").read_text())["status"] == "running"
    resumed = train(base, task, output=output, settings=SMALL, progress=said)
    last = step - step % 2  # resume points are every two steps
    first = f"going on from step {last} of 6" if last else "starting again"
    assert said.lines[0].startswith(first)
    assert said.begun == last
    assert resumed.record["train_seconds"] <= resumed.record["total_seconds"]
    for name, tensor in weights(done).items():
        assert_close(weights(resumed)[name], tensor, rtol=1e-5, atol=1e-7)
    assert [p.step for p in resumed.curve] == [p.step for p in done.curve]
    assert [p.tokens for p in resumed.curve] == [p.tokens for p in done.curve]
    for mine, whole in zip(resumed.curve, done.curve, strict=True):
        assert mine.dev_loss == pytest.approx(whole.dev_loss, rel=1e-4)
    seconds = [p.seconds for p in resumed.curve]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0


@pytest.mark.slow
def test_a_run_killed_by_the_system_goes_on(done, tiny_base, rows, tmp_path):
    output = tmp_path / "run"
    code = (
        "import mashup, sys; "
        "mashup.train(mashup.load_base(sys.argv[1], dtype='float32'), sys.argv[2], "
        "output=sys.argv[3], settings=mashup.TrainSettings(max_steps=4000, save_steps=2))"
    )
    arguments = [sys.executable, "-c", code, str(tiny_base), str(rows), str(output)]
    process = subprocess.Popen(arguments, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not list(output.glob(".resume/checkpoint-*/trainer_state.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with refused("run is not finished", where=str(output)):
        Run.open(output)
    with refused("no checkpoint in the folder"):
        scan(output)


def test_a_finished_run_says_so_only_when_it_is(base, task, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=tmp_path / "r", settings=SMALL, callbacks=[StopAt(3)])
    with refused("run is not finished", where="r"):
        Run.open(tmp_path / "r")
    with refused("no checkpoint in the folder"):
        scan(tmp_path / "r")


def test_an_init_starts_where_scoring_says_and_trains_from_there(base, task, tiny_base, tmp_path):
    parents = [save_lora(tiny_base, tmp_path / f"p{n}", seed=n, size=0.1) for n in (1, 2)]
    init = merge(parents, output=tmp_path / "init", base=base)
    run = train(base, task, output=tmp_path / "run", init=init, settings=SMALL)
    check = run.record["start_check"]
    assert check["step_0_loss"] == pytest.approx(check["scored_loss"], abs=1e-4)
    assert run.curve[0].dev_loss == pytest.approx(check["scored_loss"], abs=1e-4)
    scratch = train(base, task, output=tmp_path / "scratch", settings=SMALL)
    assert abs(scratch.curve[0].dev_loss - run.curve[0].dev_loss) > 0.01
    assert json.loads((run.path / "adapter_config.json").read_text())["r"] == 8
    noted = json.loads((run.path / "mashup.json").read_text())["settings"]
    assert (noted["lora_r"], noted["lora_alpha"]) == (8, 24)  # what was trained, not asked
    assert run.last.dev_loss < run.curve[0].dev_loss


def test_an_init_that_is_not_applied_is_an_error(base, task, tiny_base, tmp_path, monkeypatch):
    from mashup._train import loop as check

    init = save_lora(tiny_base, tmp_path / "init")
    monkeypatch.setattr(check, "attach", lambda model, settings, init: model)
    monkeypatch.setattr(check, "detach", lambda model: model)
    with refused("wrong start", where=str(init)):
        train(base, task, output=tmp_path / "run", init=init, settings=SMALL)
    assert not (tmp_path / "run").exists()


def test_an_init_of_another_base_with_the_same_shape_is_refused(base, task, tiny_base, tmp_path):
    """Both losses of the start check would agree: they would be measured on the wrong base."""
    init = save_lora(tiny_base, tmp_path / "init", size=0.1)
    path = init / "adapter_config.json"
    path.write_text(path.read_text().replace(str(tiny_base), "owner/other"))
    with refused("adapter of another base", found="owner/other"):
        train(base, task, output=tmp_path / "run", init=init, settings=SMALL)
    assert not (tmp_path / "run").exists()
    train(base, task, output=tmp_path / "run", init=init, settings=SMALL, accept_base=True)


def test_an_init_that_was_measured_on_other_weights_is_refused(base, task, tiny_base, tmp_path):
    init = save_lora(tiny_base, tmp_path / "init", size=0.1)
    sample = {"base_dtype": "torch.float32", "base_digest": "0" * 64}
    (init / "mashup.json").write_text(json.dumps({"kind": "init", "sample": sample}))
    with refused("made on other base weights", where=str(init)):
        train(base, task, output=tmp_path / "run", init=init, settings=SMALL)


def test_a_resume_point_that_a_kill_cut_short_is_passed_over(done, base, task, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=output, settings=SMALL, callbacks=[StopAt(5)])
    (output / ".resume/checkpoint-5").mkdir()
    (output / ".resume/checkpoint-5/adapter_model.safetensors").write_bytes(b"half")
    resumed = train(base, task, output=output, settings=SMALL)
    for name, tensor in weights(done).items():
        assert_close(weights(resumed)[name], tensor, rtol=1e-5, atol=1e-7)


class Spoil(TrainerCallback):
    """Ruins the weights after step 4, whose point is then the best."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 4:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data.mul_(50)


@pytest.fixture(scope="module", params=["lora", "full"])
def best(request, base, task, tmp_path_factory):
    """Settings, and a run whose best point is in its middle."""
    few = {"keep": "best", "finetuning_type": request.param, "test_points": "end"}
    rate = 1e-2 if request.param == "lora" else 2e-3
    settings = SMALL.model_copy(update=few | {"learning_rate": rate})
    output = tmp_path_factory.mktemp("best") / "run"
    return settings, train(base, task, output=output, settings=settings, callbacks=[Spoil()])


def test_the_best_point_is_kept_and_both_ends_are_told(best, base, task):
    _, run = best
    assert [point.step for point in run.curve] == [0, 2, 4, 6]
    assert run.record["best_step"] == run.kept.step == 4
    assert run.record["metrics"]["dev_loss"] == min(point.dev_loss for point in run.curve)
    assert run.record["last_metrics"]["dev_loss"] == run.last.dev_loss > run.kept.dev_loss
    assert [point.step for point in run.curve if point.test_loss is not None] == [4, 6]
    batches = batches_for(base, tokenize(base.tokenizer, task.test, max_length=512))
    with applied(base.model, read_change(base.model, run.path)):
        found = evaluate(base.model, batches)
    assert found.loss == pytest.approx(run.kept.test_loss, rel=1e-4)
    told = json.loads((run.path / "test.json").read_text())
    assert sum(told["losses"]) / sum(told["tokens"]) == pytest.approx(run.kept.test_loss)
    assert not (run.path / ".resume").exists()


@pytest.mark.parametrize("step", [1, 3, 5, 6])
def test_a_stopped_run_keeps_the_same_best_point(best, base, task, tmp_path, step, monkeypatch):
    settings, whole = best
    output = tmp_path / "run"
    stop = [Spoil(), StopAt(step)]
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=output, settings=settings, callbacks=stop)
    kept = {path.name for path in (output / ".resume").glob("best-*")}
    assert kept <= {f"best-{n}.safetensors" for n in range(0, 6, 2)}
    run = train(base, task, output=output, settings=settings, callbacks=[Spoil()])
    name = "model.safetensors" if settings.is_full else "adapter_model.safetensors"
    same = load_file(whole.path / name)
    assert all(torch.equal(t, same[n]) for n, t in load_file(output / name).items())
    assert run.record["metrics"] == whole.record["metrics"]
    assert [p.dev_loss for p in run.curve] == [p.dev_loss for p in whole.curve]


def test_step_0_can_be_the_best_point(base, task, tmp_path):
    """Also of a run that diverged afterwards."""
    worse = {"keep": "best", "learning_rate": 1e30, "max_grad_norm": 1e30}
    run = train(base, task, output=tmp_path / "r", settings=SMALL.model_copy(update=worse))
    assert run.kept == run.curve[0]
    assert run.record["last_metrics"]["dev_loss"] is None
    assert not any(weights(run)[name].any() for name in weights(run) if "lora_B" in name)


def test_a_run_stopped_in_its_last_evaluation_trains_no_step_more(
    base, task, tmp_path, monkeypatch
):
    """Its last epoch is incomplete: the Trainer alone would go on with it."""
    from mashup._train.curve import CurveCallback

    settings = SMALL.model_copy(update={"scheduler": "constant", "warmup": 0.0, "max_steps": 4})
    whole = train(base, task, output=tmp_path / "whole", settings=settings)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CurveCallback, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            train(base, task, output=tmp_path / "run", settings=settings)
    resumed = train(base, task, output=tmp_path / "run", settings=settings)
    assert resumed.last.tokens == whole.last.tokens
    assert [p.step for p in resumed.curve] == [p.step for p in whole.curve]
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor)


def test_another_template_is_another_run(done, tiny_base, task):
    other = load_base(tiny_base, dtype="float32")
    other.tokenizer.chat_template = "S" + other.tokenizer.chat_template
    with refused("output exists already", found="tokens"):
        train(other, task, output=done.path, settings=SMALL)


@pytest.mark.parametrize("names", ["q_proj,v_proj", "q_proj", r".*layers\.0\..*q_proj"])
def test_target_modules_by_name_or_pattern(base, task, tmp_path, names):
    settings = SMALL.model_copy(update={"lora_target_modules": names, "max_steps": 2})
    run = train(base, task, output=tmp_path / "r", settings=settings)
    targets = json.loads((run.path / "adapter_config.json").read_text())["target_modules"]
    assert "q_proj" in str(targets)
    assert any("q_proj" in name for name in weights(run))


def test_unknown_target_modules_and_trackers_are_usage_errors(base, task, tmp_path):
    settings = SMALL.model_copy(update={"lora_target_modules": "nonsense"})
    with pytest.raises(UsageError, match="no such target modules"):
        train(base, task, output=tmp_path / "r", settings=settings)
    with pytest.raises(UsageError, match="unknown tracker"):
        train(base, task, output=tmp_path / "r", settings=SMALL, report_to="foo")
    with pytest.raises(UsageError, match="unknown tracker"):  # known, and not installed
        train(base, task, output=tmp_path / "r", settings=SMALL, report_to="clearml")
    assert not (tmp_path / "r").exists()
    assert not [n for n, _ in base.model.named_modules() if "lora" in n]


def test_a_run_that_diverges_is_an_error(base, task, tmp_path):
    settings = SMALL.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 1e30})
    with refused("training diverged"):
        train(base, task, output=tmp_path / "r", settings=settings)
    with refused("no checkpoint in the folder"):
        scan(tmp_path / "r")


def test_an_init_of_another_base_is_refused_before_anything_is_written(base, task, tmp_path):
    init = write_adapter(tmp_path / "init", modules={"model.layers.9.q_proj": (8, 8)})
    with refused("adapter of another base", where=str(init)):
        train(base, task, output=tmp_path / "run", init=init, settings=SMALL)
    assert not (tmp_path / "run").exists()


def test_an_example_longer_than_the_context_is_refused(base, tmp_path):
    rows = [*prompt_rows(60), {"prompt": "long " * 2000, "completion": "x"}]
    task = load_task(write_jsonl(tmp_path / "d.jsonl", rows))
    settings = SMALL.model_copy(update={"max_length": 100_000})
    with refused("cannot use row", found="longer than 512"):
        train(base, task, output=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_trackers_and_callbacks_see_the_curve(base, task, tmp_path):
    logs = []

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append((state.global_step, dict(logs)))

    seen = logs
    train(base, task, output=tmp_path / "r", settings=SMALL, callbacks=[Watch()])
    dev = [step for step, values in seen if "dev_loss" in values]
    assert dev == [0, 2, 4, 6]
    assert any("loss" in values and "learning_rate" in values for _, values in seen)


def test_trackers_are_given_what_a_run_comes_from(monkeypatch):
    tags, config = {}, {}
    mlflow = SimpleNamespace(active_run=lambda: True, set_tags=tags.update)
    run = SimpleNamespace(config=SimpleNamespace(update=lambda found, **_: config.update(found)))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))
    about = {"base": "SmolLM2", "sources": "a, b"}
    Lineage(about).on_train_begin(SimpleNamespace(report_to=["mlflow"]), None, None)
    assert tags == {"mashup.base": "SmolLM2", "mashup.sources": "a, b"}
    assert not config
    Lineage(about).on_train_begin(SimpleNamespace(report_to=["wandb"]), None, None)
    assert config == tags


def test_a_full_disk_is_told_and_the_run_is_not_called_finished(base, task, tmp_path):
    output = tmp_path / "run"
    with full_disk(20_000), pytest.raises(OutputError, match="could not write"):
        train(base, task, output=output, settings=SMALL)
    assert not (output / "adapter_model.safetensors").exists()
    assert Path(output / "run.json").read_text().count("finished") == 0


def test_a_merged_model_as_init_is_refused_with_the_way_out(tiny_base, tmp_path):
    with refused("init is a full checkpoint", where=str(tiny_base)):
        train("nowhere", "none", init=tiny_base, output=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_what_is_left_out_and_which_test_rows_share_a_prompt_is_kept(base, tmp_path):
    long = {"prompt": "Is it? " * 200, "completion": "yes"}
    rows = [*prompt_rows(60), long, {"prompt": "", "completion": "yes"}]
    test = prompt_rows(80)[70:] * 2
    task = load_task(rows, test=test, dev_rows=8, drop_bad=True, drop_long=True)
    lines = []
    progress = Progress()
    progress.say = lines.append
    settings = TrainSettings(max_steps=1, batch_size=4, evaluations=1)
    run = train(base, task, output=tmp_path / "run", settings=settings, progress=progress)
    counts = {"empty prompt": 1, "too long (train)": 1}
    assert run.record["left_out_rows"] == counts
    assert json.loads((run.path / "mashup.json").read_text())["left_out_rows"] == counts
    assert any(line.startswith("left out 1 of 5") for line in lines)
    prompts = json.loads((run.path / "test.json").read_text())["prompts"]
    assert len(prompts) == 20
    assert sorted(prompts) == sorted([*range(10)] * 2)


def test_the_best_point_too_says_which_test_rows_share_a_prompt(base, tmp_path):
    task = load_task(prompt_rows(60), test=prompt_rows(80)[70:] * 2, dev_rows=8)
    settings = TrainSettings(
        max_steps=1, batch_size=4, evaluations=1, warmup=0, keep="best", learning_rate=1e30,
        max_grad_norm=1e30,
    )  # fmt: skip
    run = train(base, task, output=tmp_path / "run", settings=settings)
    assert run.kept.step == 0
    prompts = json.loads((run.path / "test.json").read_text())["prompts"]
    assert sorted(prompts) == sorted([*range(10)] * 2)


def test_a_resumed_run_does_not_check_its_start_again(base, task, tiny_base, tmp_path, monkeypatch):
    from mashup._train import loop
    from mashup._train.curve import CurveCallback

    def stop(*_):
        raise KeyboardInterrupt

    init = save_lora(tiny_base, tmp_path / "init", size=0.1)
    given = {"output": tmp_path / "run", "init": init, "settings": SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(CurveCallback, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            train(base, task, **given)
    checked = json.loads((tmp_path / "run" / "run.json").read_text())["start_check"]
    monkeypatch.setattr(loop, "check_start", lambda *_, **__: pytest.fail("checked again"))
    assert train(base, task, **given).record["start_check"] == checked
