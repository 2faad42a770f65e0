"""The algebra: exact, whatever the style of the factors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mashup._merge.algebra import (
    factorise,
    generator_for,
    random_orthogonal,
    weighted_sum,
)
from mashup.delta import Factors
from mashup.settings import FACTOR_STYLES


@st.composite
def parents(draw, most=3):
    """Weighted factors of one module, of any ranks and scales."""
    d_out, d_in = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    made = []
    for _ in range(draw(st.integers(1, most))):
        rank = draw(st.integers(1, 6))
        A = torch.randn(rank, d_in, generator=generator)
        B = torch.randn(d_out, rank, generator=generator)
        scale = draw(st.floats(0.1, 4))
        made.append((draw(st.floats(-2, 2)), Factors(A, B, scale)))
    return made


def exact(pairs):
    """The sum in float64, the long way."""
    return sum(w * f.scale * (f.B.double() @ f.A.double()) for w, f in pairs)


@given(parents())
def test_the_spectrum_is_the_svd_of_the_weighted_sum(pairs):
    spectrum = weighted_sum(pairs)
    dense = exact(pairs)
    assert_close(spectrum.U @ spectrum.S.diag() @ spectrum.Vt, dense, rtol=1e-9, atol=1e-9)
    expected = torch.linalg.svdvals(dense)[: len(spectrum.S)]
    assert_close(spectrum.S[: len(expected)], expected, rtol=1e-7, atol=1e-7)


@given(parents(), st.sampled_from(FACTOR_STYLES), st.floats(0.1, 5), st.integers(0, 3))
def test_factors_of_full_rank_are_exact(pairs, style, scale, more):
    spectrum = weighted_sum(pairs)
    rank = min(len(spectrum.S) + more, spectrum.U.shape[0], spectrum.Vt.shape[1])
    factors = factorise(spectrum, rank, scale, style, generator_for(0, "m"))
    assert factors.A.shape == (rank, spectrum.Vt.shape[1])
    assert factors.B.shape == (spectrum.U.shape[0], rank)
    assert_close(factors.dense(), exact(pairs), rtol=1e-9, atol=1e-9)


@given(parents(), st.sampled_from(FACTOR_STYLES), st.integers(1, 4))
def test_a_lower_rank_is_the_best_one_of_that_rank(pairs, style, rank):
    spectrum = weighted_sum(pairs)
    rank = min(rank, len(spectrum.S))
    dense = factorise(spectrum, rank, 2.0, style, generator_for(0, "m")).dense()
    S = torch.linalg.svdvals(exact(pairs))
    best = float(S[rank:].norm())  # Eckart and Young
    assert float((dense - exact(pairs)).norm()) == pytest.approx(best, abs=1e-8)


@given(parents(), st.sampled_from(["rotated", "initialised"]))
def test_rows_of_a_are_as_long_as_those_of_pefts_initialisation(pairs, style):
    spectrum = weighted_sum(pairs)
    rank = min(len(spectrum.S), spectrum.U.shape[0], spectrum.Vt.shape[1])
    A = factorise(spectrum, rank, 2.0, style, generator_for(0, "m")).A
    assert_close(A.norm(dim=1), torch.full((rank,), 1 / math.sqrt(3)).double())


def test_peft_initialises_rows_of_that_length():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(2048, 8)), LoraConfig(r=64, target_modules=["0"])
    )
    A = next(p.detach() for n, p in model.named_parameters() if "lora_A" in n)
    assert float(A.norm(dim=1).mean()) == pytest.approx(1 / math.sqrt(3), rel=0.02)


def test_rotation_spreads_the_energy_over_the_rank_directions():
    pairs = [(1.0, Factors(torch.diag(torch.logspace(0, -3, 8)), torch.eye(8), 1.0))]
    spectrum = weighted_sum(pairs)
    share = {}
    for style in ("initialised", "rotated"):
        B = factorise(spectrum, 8, 1.0, style, generator_for(0, "m")).B
        share[style] = float((B**2).sum(0).max() / (B**2).sum())
    assert share["initialised"] > 0.8
    assert share["rotated"] < 0.5


@given(st.integers(1, 20), st.integers(0, 100))
def test_random_rotations_are_orthogonal(size, seed):
    Q = random_orthogonal(size, torch.Generator().manual_seed(seed))
    assert_close(Q @ Q.T, torch.eye(size, dtype=torch.float64))


def test_a_generator_depends_on_seed_and_name_alone():
    def draw(*key):
        return float(torch.rand(1, generator=generator_for(*key)))

    assert draw(1, "a") == draw(1, "a")
    assert len({draw(1, "a"), draw(1, "b"), draw(2, "a")}) == 3
