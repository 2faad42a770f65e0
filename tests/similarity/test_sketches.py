"""Sketches keep angles: on average all of them, and exactly those that are small."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deltas import noise
from mashup.delta import Delta, Factors
from mashup.similarity.clusters import cosine_rows
from mashup.similarity.products import cosine, delta_inner
from mashup.similarity.sketches import SIZE, from_bytes, sketch, to_bytes

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
