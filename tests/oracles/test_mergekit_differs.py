"""Where mergekit means something else, and by how much. The numbers stand in docs/merging.md."""

import math

import pytest
import torch
from torch.testing import assert_close

from helpers import refused
from oracles.cases import DIFFERENT, ours
from wholes import distance, tensors_of


@pytest.fixture
def both(peer, models, tmp_path):
    """Name of a case to mergekit's tensors, ours, and those of our base."""

    def made(name):
        one, family = DIFFERENT[name], models / "llama"
        found = tensors_of(ours(one, family, tmp_path / name))
        return tensors_of(peer / "llama" / name), found, tensors_of(family / one.base)

    return made


@pytest.fixture
def stored(models):
    return lambda name: tensors_of(models / "llama" / name)


def kept(made, base):
    """Name to (share of the numbers that a method kept, what they were multiplied by)."""
    return {n: made[n] != base[n] for n in made}


def cosine(one, other, base):
    a, b = ((tensor - base).flatten().double() for tensor in (one, other))
    return float((a @ b) / (a.norm() * b.norm()))


def test_dare_and_della_without_rescaling_keep_deltas_as_they_are(both, stored):
    for name in ("dare, not rescaled", "della, not rescaled"):
        theirs, found, base = both(name)
        parent = stored("p0")
        assert all(torch.equal(theirs[n][k], parent[n][k]) for n, k in kept(theirs, base).items())
        chance = {n: (parent[n] - base[n]) / (found[n] - base[n]) for n in found}
        if name.startswith("dare"):  # ours divides what it keeps by the density
            for n, k in kept(found, base).items():
                assert_close(chance[n][k], torch.full_like(chance[n][k], 0.5), rtol=0.1, atol=0)


def test_dare_rescales_by_what_the_draw_kept_where_the_paper_divides_by_the_density(both, stored):
    theirs, _, base = both("dare, rescaled")
    parent, factors = stored("p0"), {}
    for n, k in kept(theirs, base).items():
        delta = parent[n] - base[n]
        factors[n] = float(((theirs[n] - base[n])[k] / delta[k]).median())
        assert factors[n] == pytest.approx(float(delta.abs().sum() / delta[k].abs().sum()), 1e-3)
    large = [f for n, f in factors.items() if parent[n].numel() > 1000]
    small = [f for n, f in factors.items() if parent[n].numel() < 100]
    assert max(abs(f / 2 - 1) for f in large) < 0.1  # 1 / density is 2
    assert 0.1 < max(abs(f / 2 - 1) for f in small) < 0.5


def test_dare_ties_sums_by_default_where_ties_averages(both):
    theirs, found, base = both("dare_ties, by default")
    ratio = torch.cat([((theirs[n] - base[n]) / (found[n] - base[n])).flatten() for n in found])
    ratio = ratio[ratio.isfinite()]  # the sum of the weights that agree: between 0.5 and 3.5
    assert float(ratio.median()) == pytest.approx(2.5, abs=0.6)
    agreeing = torch.arange(0.5, 3.51, 0.5)  # sums of some of the weights 1, 0.5 and 2
    assert_close(
        (ratio[:, None] - agreeing).abs().min(dim=1).values.quantile(0.95),
        torch.tensor(0.0),
        rtol=0,
        atol=0.01,
    )


def test_model_stock_goes_backwards_when_parents_point_apart_and_we_say_that_nothing_is_left(
    peer, models, stored, tmp_path
):
    case = DIFFERENT["opposites"]
    with refused("merge changes nothing", where="model_stock"):
        ours(case, models / "llama", tmp_path / "ours")
    theirs, base = tensors_of(peer / "llama/opposites"), stored(case.base)
    one, other = stored("p0"), stored("far")
    for n in base:
        angle = cosine(one[n], other[n], base[n])
        ratio = 2 * angle / (1 + angle)
        assert ratio < (-0.9 if base[n].numel() > 100 else 0)  # away from both parents
        mean = (one[n] + other[n]) / 2 - base[n]
        assert_close(theirs[n] - base[n], ratio * mean, rtol=1e-3, atol=1e-5)


def test_slerp_is_a_chord_above_a_cosine_of_0_9995_and_ours_is_an_arc(both):
    theirs, found, _ = both("nearly one line")
    limit = math.acos(0.9995) ** 2 / 8  # what arc and chord can differ by, half way
    assert 1e-6 < distance(found, theirs) < limit < 1.3e-4


def test_slerp_of_weights_is_not_slerp_of_deltas(both):
    theirs, found, base = both("slerp of weights")
    assert distance(found, theirs, base) == pytest.approx(0.15, abs=0.03)


def test_linear_without_normalising_multiplies_the_base_as_well(both, stored):
    theirs, found, base = both("linear, not normalised")
    for n in base:
        total = sum(stored(f"p{k}")[n] for k in range(3))
        assert_close(theirs[n], total)
        assert_close(found[n], total - 2 * base[n], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_rounded_at_every_step_or_once(both, stored):
    theirs, found, base = both("half, computed in half")
    exact = {n: t.double() for n, t in base.items()}
    for k, weight in enumerate((1.0, 0.5, 2.0)):
        delta = {n: t.double() - base[n].double() for n, t in stored(f"h{k}").items()}
        exact = {n: t + weight * delta[n] for n, t in exact.items()}
    errors = [distance(made, exact, base) for made in (theirs, found)]
    assert errors == pytest.approx([0.0034, 0.0023], abs=0.0004)


def test_bfloat16_computed_in_float32_is_the_same_to_the_bit(peer, both):
    theirs, found, _ = both("half, computed in float32")
    assert all(torch.equal(theirs[n], found[n]) for n in found)
