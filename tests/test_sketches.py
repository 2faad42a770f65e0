"""Sketches keep angles: on average all of them, and exactly those that are small."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from deltas import cosine, delta_inner, noise
from kinds import KINDS, load_kind, save_kind, write_base
from mashup.clusters import cosine_rows
from mashup.delta import Delta, Factors, inner, read_delta
from mashup.sketches import SIZE, changes, from_bytes, sketch, to_bytes

SHAPES = {f"layers.{n}.{name}": (24, 40) for n in range(8) for name in ("q_proj", "v_proj")}


def drawn(seed, mixed=None, share=0.0):
    """Factors for each of :data:`SHAPES`, with a share of those of ``mixed`` in both halves."""
    made = {}
    for n, (name, (d_out, d_in)) in enumerate(SHAPES.items()):
        A, B = noise(4, d_in, seed=1000 * seed + n), noise(d_out, 4, seed=1000 * seed + n + 500)
        if mixed is not None:
            A = share * mixed.modules[name].A + (1 - share) * A
            B = share * mixed.modules[name].B + (1 - share) * B
        made[name] = Factors(A, B, 0.5)
    return Delta(made)


def estimate(one, other):
    return float(cosine_rows(np.stack([sketch(one), sketch(other)]))(0)[1])


@pytest.mark.parametrize(
    ("share", "most"), [(0.0, 0.15), (0.5, 0.12), (0.9, 0.01), (0.99, 2e-4), (1.0, 1e-6)]
)
def test_the_error_of_a_cosine_vanishes_where_deltas_are_alike(share, most):
    errors = []
    for seed in range(1, 21):
        one = drawn(seed)
        other = drawn(seed + 100, mixed=one, share=share)
        errors.append(abs(estimate(one, other) - cosine(one, other)))
    assert max(errors) < most


def test_estimates_are_right_on_average():
    deltas = [drawn(seed) for seed in range(40)]
    sketches = np.stack([sketch(delta) for delta in deltas]).astype(float)
    found = sketches @ sketches.T
    norm = np.mean([delta_inner(delta, delta) for delta in deltas])
    assert np.diag(found).mean() == pytest.approx(norm, rel=0.03)
    others = found[~np.eye(40, dtype=bool)] / norm
    assert abs(others.mean()) < 0.01
    assert 0.01 < others.std() < 0.06  # 1/32 in theory, for deltas of high rank


@given(st.floats(-4, 4), st.integers(1, 3))
def test_a_sketch_depends_on_the_delta_alone_and_is_linear(scale, experts):
    A, B = noise(2 * experts, 9), noise(6, 2 * experts, seed=1)
    one, scaled = (sketch(Delta({"m": Factors(A, B, s, experts=experts)})) for s in (1.0, scale))
    np.testing.assert_allclose(scaled, scale * one, rtol=1e-5, atol=1e-5)
    turned = sketch(Delta({"m": Factors(2 * A, B / 2, 1.0, experts=experts)}))
    np.testing.assert_allclose(turned, one, rtol=1e-5, atol=1e-5)


def test_factors_and_the_same_change_as_a_value_have_one_sketch():
    factors, old = Factors(noise(2, 9), noise(6, 2, seed=1), 0.5), noise(6, 9, seed=2)
    value = Delta({}, saved={"m": old + factors.dense()})
    found = sketch(value, {"m": old}.get)
    np.testing.assert_allclose(found, sketch(Delta({"m": factors})), atol=1e-4)


def test_experts_and_modules_are_kept_apart():
    A, B = noise(4, 60), noise(50, 4, seed=1)
    one = Delta({"m": Factors(A, B, 1.0, experts=2)})
    swapped = Factors(A.roll(2, 0), B[:, [1, 0, 3, 2]], 1.0, experts=2)
    torch.testing.assert_close(swapped.dense(), one.modules["m"].dense().flip(0))
    assert abs(estimate(one, Delta({"m": swapped}))) < 0.2
    assert abs(estimate(one, Delta({"n": one.modules["m"]}))) < 0.2


def test_signs_and_buckets_never_change():
    """Sketches that are kept in an index are compared with those of later versions."""
    d_out, d_in = 30, 50
    factors = Factors(torch.ones(1, d_in), torch.ones(d_out, 1), 1.0)
    expected = np.zeros((32, 32))
    for out in hashlib.shake_256(b"q_proj:out").digest(d_out):
        for into in hashlib.shake_256(b"q_proj:in").digest(d_in):
            expected[out % 32, into % 32] += (-1) ** (out // 128 + into // 128)
    assert np.array_equal(sketch(Delta({"q_proj": factors})).reshape(32, 32), expected)


def test_bytes_come_back():
    made = sketch(drawn(0))
    kept = to_bytes(made)
    assert (made.dtype, made.shape, len(kept)) == (np.float32, (SIZE,), 4096)
    assert np.array_equal(from_bytes(kept), made)
    with pytest.raises(ValueError, match="4096 bytes, these are 8"):
        from_bytes(kept[:8])


def test_a_larger_vocabulary_keeps_the_buckets_of_its_rows():
    rows = noise(12, 5)
    more = torch.cat([rows, torch.zeros(4, 5)])
    small, large = (sketch(Delta({}, saved={"e": value}), {}.get) for value in (rows, more))
    np.testing.assert_allclose(large, small, atol=1e-6)


# -- inner products from factors: those of the dense deltas, whatever the deltas are made of

#: Kinds of change that PEFT can merge into a model.
TOLD = [
    *("embedding, rsLoRA", "embedding, GPT-2", "saved modules", "all biases", "bias of B"),
    *("token rows", "experts and router", "experts, stored transposed", "everything"),
]


def factors(rank, scale=1.0, experts=1, seed=0):
    A, B = noise(experts * rank, 7, seed=seed), noise(5, rank * experts, seed=seed + 1)
    return Factors(A, B, scale, experts=experts)


ranks, scales = st.integers(1, 4), st.floats(-3, 3)


@given(ranks, ranks, scales, scales, st.sampled_from([1, 3]))
def test_a_product_of_factors_is_that_of_dense_matrices(r1, r2, s1, s2, experts):
    one, other = factors(r1, s1, experts), factors(r2, s2, experts, seed=5)
    expected = (one.dense().double() * other.dense().double()).sum()
    torch.testing.assert_close(inner(one, other), expected, rtol=1e-5, atol=1e-4)


def test_modules_that_one_lacks_count_for_its_norm_alone():
    one = Delta({"q": factors(2), "v": factors(3, seed=2)})
    other = Delta({"v": factors(1, seed=9), "o": factors(2, seed=4)})
    expected = float(inner(one.modules["v"], other.modules["v"]))
    assert delta_inner(one, other) == pytest.approx(expected)
    norms = [sum(float(inner(f, f)) for f in d.modules.values()) for d in (one, other)]
    assert cosine(one, other) == pytest.approx(expected / math.sqrt(norms[0] * norms[1]))


def test_the_angle_does_not_depend_on_scale_and_a_delta_of_nothing_has_none():
    one, more = Delta({"q": factors(2, 0.5)}), Delta({"q": factors(2, 7.0)})
    assert cosine(one, more) == pytest.approx(1)
    assert cosine(one, Delta({"q": factors(2, -1.0)})) == pytest.approx(-1)
    assert cosine(one, Delta({"q": factors(2, 0.0)})) == 0


def flat_change(base, folder):
    """All of ``W - W0`` of a model that PEFT merged, as one vector."""
    old = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    new = load_kind(base, folder).merge_and_unload().named_parameters()
    return torch.cat([(value - old[name]).flatten().double() for name, value in new]).detach()


@pytest.mark.parametrize("kind", TOLD)
def test_a_cosine_is_that_of_the_models_that_peft_merges(tmp_path, kind):
    family, config = KINDS[kind]
    base = write_base(tmp_path / "base", family)
    folders = [save_kind(base, tmp_path / str(seed), seed=seed, **config) for seed in (0, 1)]
    one, other = (flat_change(base, folder) for folder in folders)
    expected = float(one @ other / one.norm() / other.norm())
    stored = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert cosine(*map(read_delta, folders), stored.get) == pytest.approx(expected, abs=2e-4)


# -- what a delta changes beside its factors: values, rows, biases, as differences to the base


def test_saved_values_without_the_base_are_refused():
    with pytest.raises(ValueError, match="takes the base's"):
        cosine(Delta({}, saved={"norm.weight": torch.ones(3)}), Delta({}))


def test_rows_that_the_base_lacks_are_changes_as_a_whole():
    base = {"embed.weight": torch.ones(2, 3)}
    grown = Delta({}, saved={"embed.weight": 2 * torch.ones(3, 3), "head.weight": torch.ones(1)})
    found = dict(changes(grown, base.get))
    assert found["embed.weight"].tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 2]]
    assert found["head.weight"].tolist() == [1]
    longer = Delta({}, saved={"embed.weight": 3 * torch.ones(4, 3)})
    assert delta_inner(grown, longer, base.get) == 3 * (1 * 2 + 1 * 2 + 2 * 3)


def test_rows_of_tokens_meet_by_their_ids():
    base = {"embed.weight": torch.ones(5, 2)}
    one = Delta({}, rows={"embed.weight": ((1, 7), torch.tensor([[2.0, 1.0], [4.0, 0.0]]))})
    other = Delta({}, rows={"embed.weight": ((7, 3), torch.tensor([[0.5, 9.0], [1.0, 2.0]]))})
    assert delta_inner(one, other, base.get) == 4 * 0.5
    onto_saved = Delta({}, saved={"embed.weight": torch.zeros(5, 2)}, rows=one.rows)
    assert dict(changes(onto_saved, base.get))["embed.weight[1]"].tolist() == [2, 1]


def test_a_bias_that_is_saved_and_shifted_changes_by_the_sum():
    base = {"q.bias": torch.tensor([1.0, 1.0])}
    saved, shift = torch.tensor([3.0, 1.0]), (0.5, torch.tensor([2.0, 4.0]))
    both = Delta({}, saved={"q.bias": saved}, biases={"q.bias": shift})
    assert dict(changes(both, base.get))["q.bias"].tolist() == [3, 2]
    assert saved.tolist() == [3, 1]
