"""Adapters in one pass give each the losses that it has alone."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from kinds import KINDS, save_kind, write_base
from mashup._score import packing
from mashup._score.packing import evaluate_packed, pack_size
from mashup.delta import read_delta
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.evaluate.prefix import share_prefix
from mashup.model import applied
from samples import alike

_SETTINGS = (
    {},
    {"r": 2, "lora_alpha": 5},
    {"target_modules": ["up_proj", "q_proj"], "r": 6, "use_rslora": True},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("bases") / "llama", "llama")


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def deltas(folder, tmp_path_factory):
    loras = tmp_path_factory.mktemp("loras")
    return [
        read_delta(save_kind(folder, loras / str(n), seed=n, **settings))
        for n, settings in enumerate(_SETTINGS)
    ]


@pytest.fixture(scope="module")
def batches():
    return make_batches(alike(), 0, 320, size=300)


def alone(model, deltas, batches):
    found = []
    for delta in deltas:
        with applied(model, delta):
            found.append(evaluate(model, batches))
    return found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
        np.testing.assert_array_equal(one.correct, other.correct)
        np.testing.assert_array_equal(one.tokens, other.tokens)


def passes(model, run):
    """Sizes of the batches that ``model`` saw."""
    sizes = []
    handle = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    run()
    handle.remove()
    return sizes


@pytest.mark.parametrize("shared", [False, True])
def test_losses_are_those_of_each_alone(model, deltas, batches, shared):
    used = share_prefix(model, batches) if shared else batches
    assert used[0].prefix == (20 if shared else 0)
    expected = alone(model, deltas, batches)
    assert len({round(one.loss, 3) for one in expected}) == 3
    assert_same(evaluate_packed(model, deltas, used), expected)
    sizes = passes(model, lambda: evaluate_packed(model, deltas, used))
    assert sizes == [3] * shared + [3 * len(batch.rows) for batch in batches]


def test_others_run_alone_in_their_place(folder, model, deltas, batches, tmp_path):
    whole = read_delta(save_kind(folder, tmp_path, modules_to_save=["norm"]))
    mixed = [deltas[0], whole, deltas[1]]
    assert_same(evaluate_packed(model, mixed, batches), alone(model, mixed, batches))
    sizes = passes(model, lambda: evaluate_packed(model, mixed, batches))
    rows = [len(batch.rows) for batch in batches]
    assert sizes == [2 * count for count in rows] + rows


@pytest.mark.parametrize("kind", ["head, tied", "experts", "token rows", "bias of B"])
def test_what_cannot_be_packed_runs_alone(tmp_path, batches, kind):
    family, settings = KINDS[kind]
    base = write_base(tmp_path / "base", family)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    both = [
        read_delta(save_kind(base, tmp_path / str(seed), seed=seed, **settings))
        for seed in range(2)
    ]
    assert_same(evaluate_packed(model, both, batches), alone(model, both, batches))


def test_none_and_one(model, deltas, batches):
    assert evaluate_packed(model, [], batches) == []
    assert_same(evaluate_packed(model, deltas[:1], batches), alone(model, deltas[:1], batches))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 1.0, 2: 0.95}, 1),
        ({1: 1.0, 2: 0.6, 4: 0.55}, 2),
        ({1: 1.0, 2: 0.5, 4: 0.3, 8: 0.2}, 8),
    ],
)
def test_packs_grow_as_long_as_that_pays(monkeypatch, model, deltas, batches, seconds, expected):
    monkeypatch.setattr(packing, "_seconds", lambda _m, _d, _b, size: seconds[size])
    assert pack_size(model, deltas[0], batches) == expected


def test_a_pack_is_timed_here(model, deltas, batches):
    sizes = passes(model, lambda: pack_size(model, deltas[0], batches, most=2))
    rows = len(batches[0].rows)
    assert sizes == [rows, rows, 2 * rows, 2 * rows]


def test_a_pack_is_bounded_by_tokens(model, deltas):
    many = make_batches(alike(400, 20), 0, 320, size=10_000)
    assert many[0].ids.numel() * 2 > 16_384
    assert pack_size(model, deltas[0], many) == 1


def test_the_model_is_as_it_was(model, deltas, batches):
    ids = batches[0].ids
    with torch.no_grad():
        before = model(ids).logits
        evaluate_packed(model, deltas, batches)
        assert torch.equal(model(ids).logits, before)
