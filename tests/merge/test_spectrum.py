"""The spectrum of a dense delta, exact or found by a randomised range finder."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from deltas import noise
from mashup._merge.algebra import dense_spectrum, generator_for, rounding_energy
from mashup.delta import Factors


def dense_of(spectrum):
    return spectrum.U @ spectrum.S.diag() @ spectrum.Vt


def with_spectrum(S, d_out, d_in):
    left = torch.linalg.qr(noise(d_out, len(S)).double())[0]
    right = torch.linalg.qr(noise(d_in, len(S), seed=1).double())[0]
    return (left * S) @ right.T


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_without_a_rank_it_is_all_of_the_svd(d_out, d_in, seed):
    delta = noise(d_out, d_in, seed=seed)
    spectrum = dense_spectrum(delta, None, generator_for(0, "m"))
    assert_close(dense_of(spectrum), delta.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (160, 160)])
@pytest.mark.parametrize("rank", [1, 8, 20])
def test_of_a_low_rank_delta_it_finds_all(shape, rank):
    delta = with_spectrum(torch.logspace(0, -2, rank).double(), *shape)
    spectrum = dense_spectrum(delta, rank, generator_for(0, "m"))
    assert len(spectrum.S) == rank
    assert_close(dense_of(spectrum), delta, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
def test_of_a_decaying_spectrum_it_keeps_nearly_the_most_that_can_be_kept(decay):
    S = torch.arange(1, 201).double() ** -decay
    delta = with_spectrum(S, 220, 260)
    spectrum = dense_spectrum(delta, 16, generator_for(0, "m"))
    best, kept = float((S[:16] ** 2).sum()), float(spectrum.energy.sum())
    assert kept / best > 0.998
    error = float((dense_of(spectrum) - delta).norm())
    assert error < 1.01 * float(S[16:].norm())  # Eckart and Young's is the least there is


def test_of_noise_without_any_decay_it_keeps_most():
    delta = noise(256, 256)
    S = torch.linalg.svdvals(delta)
    kept = float(dense_spectrum(delta, 16, generator_for(0, "m")).energy.sum())
    assert 0.9 < kept / float((S[:16] ** 2).sum()) <= 1.0


def test_the_seed_decides_it_and_nothing_else():
    delta = noise(200, 200)
    one, again = (dense_spectrum(delta, 8, generator_for(3, "m")).U for _ in range(2))
    assert torch.equal(one, again)


@given(st.integers(0, 99), st.sampled_from([torch.bfloat16, torch.float16]))
def test_the_energy_of_rounding_is_that_of_the_difference(seed, dtype):
    A, B = noise(3, 9, seed=seed).double(), noise(7, 3, seed=seed + 1).double()
    exact = Factors(A, B, 1.7)
    rounded = Factors(A.to(dtype).double(), B.to(dtype).double(), 1.7)
    expected = float((exact.dense() - rounded.dense()).square().sum())
    assert rounding_energy(exact, rounded) == pytest.approx(expected, rel=1e-6)
