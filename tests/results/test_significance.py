"""Tests over tasks against their papers, scipy's own defaults and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mashup.results.significance import (
    examples_needed,
    holm,
    least_p,
    mean_difference,
    wilcoxon_p,
)
from mashup.results.statistics import Difference, paired_bootstrap

PS = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=12)


def test_the_mean_over_tasks_adds_errors_in_squares():
    mean = mean_difference([Difference(0.02, -0.01, 0.05), Difference(0.06, 0.02, 0.10)])
    assert mean.value == pytest.approx(0.04)
    assert mean.high - mean.value == pytest.approx(math.hypot(0.03, 0.04) / 2)
    assert mean.low == pytest.approx(0.04 - 0.025)


def test_one_task_is_its_own_mean():
    lopsided = Difference(0.1, -0.05, 0.2)
    assert mean_difference([lopsided]) == lopsided


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5, 6, 7, 8), (3, -1, 4, 1.5, -9, 2.6, 5), (1, -2)])
def test_wilcoxon_is_scipys_exact_test_where_nothing_is_tied(values):
    assert wilcoxon_p(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)


def test_wilcoxon_with_ties_is_by_all_signs():
    values = np.array([1, 1, 2, -1, 3.0])
    ranks = stats.rankdata(abs(values))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    sums = ranks @ (signs > 0)
    own, middle = ranks @ (values > 0), ranks.sum() / 2
    share = np.mean(abs(sums - middle) >= abs(own - middle) - 1e-9)
    assert wilcoxon_p(values) == pytest.approx(share)


def test_no_p_without_differences():
    assert wilcoxon_p([0.3]) is None
    assert wilcoxon_p([0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize("crumbs", [1e-18, -1e-18, 3e-17])
def test_rounding_errors_are_neither_differences_nor_break_ties(crumbs):
    gains = [0.015, 0.02, 0.02, 0.03]
    level = wilcoxon_p([*gains, 0.0, 0.0, 0.0, 0.0])
    assert level == pytest.approx(0.125)
    assert wilcoxon_p([*gains[:2], 0.02 + crumbs, 0.03, *[crumbs] * 4]) == level
    assert wilcoxon_p([crumbs] * 4) is None


def test_the_least_p_is_reached_when_all_tasks_agree():
    assert wilcoxon_p(range(1, 9)) == pytest.approx(least_p(8)) == pytest.approx(2 / 2**8)


def test_holm_as_in_a_textbook():
    adjusted = holm([0.01, 0.04, None, 0.03, 0.005])
    assert adjusted == [pytest.approx(p) if p else None for p in (0.03, 0.06, None, 0.06, 0.02)]


@given(PS)
def test_holm_never_makes_smaller_and_keeps_the_order(ps):
    adjusted = holm(ps)
    pairs = [(p, a) for p, a in zip(ps, adjusted, strict=True) if p is not None]
    assert [a is None for a in adjusted] == [p is None for p in ps]
    assert all(p <= a <= 1 for p, a in pairs)
    assert [a for _, a in sorted(pairs)] == sorted(a for _, a in pairs)


def test_so_many_more_examples_do_tell_the_difference():
    draw = np.random.default_rng(0)
    few = draw.binomial(1, 0.62, 200), draw.binomial(1, 0.58, 200)
    seen = paired_bootstrap(*few)
    assert seen.verdict(higher_is_better=True) == "within noise"
    more = examples_needed(seen, 200)
    whole = 1 + more / 200
    half = (seen.high - seen.low) / 2 / math.sqrt(whole)
    assert half == pytest.approx(abs(seen.value))
    copies = math.ceil(1.2 * whole)
    again = paired_bootstrap(*(np.tile(one, copies) for one in few), resamples=500)
    assert again.verdict(higher_is_better=True) == "better"


def test_no_number_of_examples_tells_nothing_from_nothing():
    assert examples_needed(Difference(0.0, -0.1, 0.1), 100) == math.inf
