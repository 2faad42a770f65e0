"""Every additive kind of LoRA can be trained from, from the very loss that scoring measures."""

import pytest
import torch
from transformers import TrainerCallback

from helpers import make_tokenizer, prompt_rows, write_jsonl
from kinds import KINDS, save_kind, trained, write_base
from lora import some_ids
from mashup import TrainSettings, load_base, load_task, score, train
from mashup._train.adapter import attach, detach
from mashup._train.loop import check_start
from mashup._train.work import run_tokens
from mashup.delta import read_delta
from mashup.errors import UsageError
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.model import applied


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made, tokenizer = {}, make_tokenizer()

    def base(family):
        if family not in made:
            made[family] = write_base(tmp_path_factory.mktemp("bases") / family, family)
            tokenizer.save_pretrained(made[family])
        return made[family]

    return base


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task(write_jsonl(tmp_path_factory.mktemp("task") / "train.jsonl", prompt_rows(60)))


def state(model):
    """Names, places in memory and bits."""
    tensors = model.state_dict(keep_vars=True)
    return {n: (id(t), t.data_ptr(), t.detach().clone()) for n, t in tensors.items()}


def assert_same(found, before):
    assert found.keys() == before.keys()
    for name, (ident, place, value) in before.items():
        assert found[name][:2] == (ident, place), name
        assert torch.equal(found[name][2], value), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_scoring_computes_what_training_starts_from(bases, tmp_path, kind, dtype):
    family, config = KINDS[kind]
    folder = save_kind(bases(family), tmp_path / "a", **config)
    base, ids = load_base(bases(family), dtype=dtype), some_ids()
    before = state(base.model)
    with torch.no_grad():
        with applied(base.model, read_delta(folder)):
            scored = base.model(ids).logits
        model = attach(base.model, TrainSettings(), folder).eval()
        started = model(ids).logits
    if "tying ensured" in kind:  # PEFT ties by transposed views, which matmul rounds otherwise
        torch.testing.assert_close(started, scored, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(started, scored)
    model(ids).logits.float().logsumexp(-1).sum().backward()
    for parameter in trained(model):
        assert parameter.dtype == torch.float32
        if parameter.grad is not None:  # a bias that no path uses has none
            parameter.data.add_(parameter.grad)
    detach(model)
    assert_same(state(base.model), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_check_holds_and_scoring_ranks(bases, tmp_path, task, kind):
    family, config = KINDS[kind]
    folder = save_kind(bases(family), tmp_path / "library" / "a", **config)
    base = load_base(bases(family), dtype="float32")
    batches = batches_for(base, sample_tokens(base, task, 8, 0, 128))
    checked = check_start(base, folder, batches, TrainSettings())
    assert checked["step_0_loss"] == pytest.approx(checked["scored_loss"], abs=1e-5)
    scores = score(tmp_path / "library", base, task, samples=8)
    assert scores.ranking[0].loss != scores.base.loss


def test_dropout_on_expert_parameters_is_refused(bases, tmp_path):
    family, config = KINDS["experts"]
    folder = save_kind(bases(family), tmp_path / "a", **config)
    base = load_base(bases(family))
    before = state(base.model)
    with pytest.raises(UsageError, match="no dropout on expert parameters"):
        attach(base.model, TrainSettings(lora_dropout=0.1), folder)
    assert_same(state(base.model), before)


SMALL = TrainSettings(max_steps=4, batch_size=4, learning_rate=1e-2, evaluations=2, save_steps=2)


class _Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "kind", ["everything", "all biases, saved modules", "token rows, tied", "saved head, tied"]
)
def test_a_stopped_run_goes_on_and_its_result_scores_as_it_ended(
    bases, tmp_path, task, kind, dtype
):
    family, config = KINDS[kind]
    init = save_kind(bases(family), tmp_path / "init", **config)
    base = load_base(bases(family), dtype=dtype)
    before = state(base.model)
    whole = train(base, task, output=tmp_path / "whole", init=init, settings=SMALL)
    with pytest.raises(KeyboardInterrupt):
        train(base, task, output=tmp_path / "run", init=init, settings=SMALL, callbacks=[_Stop()])
    run = train(base, task, output=tmp_path / "run", init=init, settings=SMALL)
    assert_same(state(base.model), before)
    end, same = read_delta(run.path), read_delta(whole.path)
    assert end.saved.keys() == read_delta(init).saved.keys()
    for name, value in end.saved.items():
        assert torch.equal(value, same.saved[name])
    for name, factors in end.modules.items():
        assert torch.equal(factors.B, same.modules[name].B)
    batches = batches_for(base, run_tokens(base, task, SMALL).test)
    with applied(base.model, end):
        assert evaluate(base.model, batches).loss == pytest.approx(run.last.test_loss, abs=1e-5)
