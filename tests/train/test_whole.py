"""Training of all weights: numbers, start, resuming, and the base as it was."""

import json

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, TrainerCallback

from helpers import prompt_rows, refused, write_jsonl
from lora import save_lora
from mashup import TrainSettings, load_base, load_task, merge, scan, train
from mashup._train.resume import RESUME
from mashup.evaluate.evaluate import batches_for, evaluate
from mashup.model.base import weights_digest
from mashup.progress import Bars
from mashup.task import tokenize
from wholes import tensors_of

SMALL = TrainSettings(
    finetuning_type="full", max_steps=6, batch_size=8, learning_rate=2e-3, evaluations=3,
    save_steps=2,
)  # fmt: skip


@pytest.fixture(scope="module", params=["tiny_base", "tied_base", "seeing_base"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder, dtype="float32")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    rows = write_jsonl(tmp_path_factory.mktemp("data") / "even.jsonl", prompt_rows(90))
    return load_task(rows)


@pytest.fixture(scope="module")
def done(base, task, tmp_path_factory):
    return train(base, task, output=tmp_path_factory.mktemp("runs") / "run", settings=SMALL)


def test_a_run_learns_and_is_a_model_that_scores_as_it_ended(done, base, task):
    assert done.last.dev_loss < done.curve[0].dev_loss - 0.2
    model = AutoModelForCausalLM.from_pretrained(done.path).eval()
    batches = batches_for(base, tokenize(base.tokenizer, task.test, max_length=512))
    assert evaluate(model, batches).loss == pytest.approx(done.last.test_loss, rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_is_bit_identical_afterwards(folder, task, tmp_path, dtype):
    base = load_base(folder, dtype=dtype)
    before = weights_digest(base.model)
    run = train(base, task, output=tmp_path / "run", settings=SMALL)
    assert weights_digest(base.model) == before
    assert str(base.dtype) == f"torch.{dtype}"
    assert {str(t.dtype) for t in tensors_of(run.path).values()} == {f"torch.{dtype}"}
    assert json.loads((run.path / "config.json").read_text())["dtype"] == dtype
    assert run.record["base_dtype"] == f"torch.{dtype}"


def test_a_float32_base_that_is_saved_in_less_is_told(folder, task, tmp_path, capsys):
    few = SMALL.model_copy(update={"max_steps": 1, "evaluations": 1})
    for dtype in ("float32", "bfloat16"):
        base = load_base(folder, dtype=dtype)
        train(base, task, output=tmp_path / dtype, settings=few, progress=Bars())
        said = "the result is saved in bfloat16" in " ".join(capsys.readouterr().err.split())
        assert said == (dtype == "bfloat16")


def test_bfloat16_learns_by_steps_that_it_cannot_show(folder, task, tmp_path):
    """An update of a thousandth of a weight's bfloat16 step is lost without float32 masters."""
    base = load_base(folder, dtype="bfloat16")
    slow = SMALL.model_copy(update={"learning_rate": 2e-5, "max_steps": 60})
    run = train(base, task, output=tmp_path / "run", settings=slow)
    assert run.last.dev_loss < run.curve[0].dev_loss


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_no_gradient(folder, task, tmp_path, dtype):
    """Weights that are cast while their module runs are cast again in the backward pass."""
    base = load_base(folder, dtype=dtype)
    before, ends = weights_digest(base.model), []
    for again in (False, True):
        settings = SMALL.model_copy(update={"gradient_checkpointing": again, "max_steps": 3})
        run = train(base, task, output=tmp_path / str(again), settings=settings)
        ends.append(tensors_of(run.path))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert weights_digest(base.model) == before


def test_training_is_that_of_plain_transformers(base, folder, task, tmp_path):
    """The same steps by hand: float32, AdamW, the mean over answer tokens."""
    settings = SMALL.model_copy(update={"max_steps": 2, "warmup": 0.0, "scheduler": "constant"})
    orders = []

    class Order(TrainerCallback):
        def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
            orders.extend(list(train_dataloader))

    run = train(base, task, output=tmp_path / "run", settings=settings, callbacks=[Order()])
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for batch in orders[:2]:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        targets = batch["labels"][:, 1:]
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1][targets != -100], targets[targets != -100]
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    expected = dict(model.named_parameters())
    for name, found in AutoModelForCausalLM.from_pretrained(run.path).named_parameters():
        assert_close(found, expected[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("step", [3, 6])
def test_a_stopped_run_goes_on_to_the_same_end(done, base, task, tmp_path, step):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise KeyboardInterrupt

    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=output, settings=SMALL, callbacks=[Stop()])
    run = train(base, task, output=output, settings=SMALL)
    for name, tensor in tensors_of(run.path).items():
        assert_close(tensor, tensors_of(done.path)[name])
    assert [point.step for point in run.curve] == [0, 2, 4, 6]
    assert not (output / RESUME).exists()


def test_the_file_has_the_names_of_the_base(done, folder):
    assert tensors_of(done.path).keys() == tensors_of(folder).keys()


def test_scan_finds_the_run_with_its_base_and_task(done, base, task):
    (found,) = scan(done.path).checkpoints
    assert (found.kind, found.base, found.task) == ("full", base.name, task.name)
    noted = json.loads((done.path / "mashup.json").read_text())["settings"]
    assert not [name for name in noted if name.startswith("lora_")]


def test_an_init_starts_where_scoring_says_and_trains_from_there(base, folder, task, tmp_path):
    runs = [
        train(base, task, output=tmp_path / f"{seed}", settings=SMALL.model_copy(
            update={"seed": seed}))
        for seed in range(2)
    ]  # fmt: skip
    init = merge([run.path for run in runs], output=tmp_path / "init", base=base)
    run = train(base, task, init=init, output=tmp_path / "run", settings=SMALL)
    check = run.record["start_check"]
    assert check["scored_loss"] == pytest.approx(check["step_0_loss"], abs=1e-4)
    assert run.curve[0].dev_loss == pytest.approx(check["step_0_loss"])
    assert run.curve[0].dev_loss < runs[0].curve[0].dev_loss


def test_kinds_of_init_are_not_mixed_up(base, folder, task, tmp_path):
    lora = save_lora(folder, tmp_path / "lora")
    with refused("init is an adapter", where=str(lora)):
        train(base, task, init=lora, output=tmp_path / "r", settings=SMALL)
    assert not (tmp_path / "r").exists()


def test_an_init_of_another_architecture_is_refused(base, task, request, tmp_path):
    other = request.getfixturevalue("tied_base" if base.name.endswith("tiny") else "tiny_base")
    llama = base.model.config.model_type == "llama"
    what = "tied weights differ" if llama else "full checkpoint of another base"
    with refused(what, where=str(other)):
        train(base, task, init=other, output=tmp_path / "r", settings=SMALL, accept_base=True)
    assert not (tmp_path / "r").exists()
