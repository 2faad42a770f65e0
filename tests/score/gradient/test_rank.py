"""Donors are ranked by predicted losses, in memory that does not grow with them."""

import numpy as np
import pytest

from helpers import prompt_rows
from kinds import save_kind
from mashup._score.gradient.rank import rank, way_to
from mashup.delta import read_delta
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.model import applied, load_base
from mashup.task import Example, tokenize


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float64")


@pytest.fixture(scope="module")
def batches(base):
    examples = [Example.of(row["prompt"], row["completion"]) for row in prompt_rows(9)]
    return make_batches(tokenize(base.tokenizer, examples, max_length=512), 0, 320)


@pytest.fixture(scope="module")
def folders(tiny_base, tmp_path_factory):
    root = tmp_path_factory.mktemp("donors")
    small = {"lora_alpha": 0.02}  # so that a linear model holds, whatever is drawn
    return [save_kind(tiny_base, root / str(n), seed=n, **small) for n in range(5)]


def test_small_donors_are_in_the_order_of_their_losses(base, batches, folders):
    found = rank(base, folders, batches, point="mean")
    true = []
    for folder in folders:
        with applied(base.model, read_delta(folder)):
            true.append(evaluate(base.model, batches).loss)
    assert np.argsort(found.values).tolist() == np.argsort(true).tolist()


@pytest.mark.parametrize("point", ["even", "mean", "base"])
def test_values_do_not_depend_on_how_many_are_in_memory(base, batches, folders, point):
    whole = rank(base, folders, batches, point=point)
    parts = rank(base, folders, batches, point=point, chunk=2)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-6)
    np.testing.assert_array_equal(parts.norms, whole.norms)
    assert parts.forward_equivalents == 3 * whole.forward_equivalents


def test_order_of_donors_does_not_matter(base, batches, folders):
    ahead, back = rank(base, folders, batches), rank(base, folders[::-1], batches)
    np.testing.assert_allclose(ahead.values, back.values[::-1], rtol=1e-5)


def test_a_donor_that_diverged_does_not_drag_the_point_away():
    norms = np.array([1.0, 2.0, 3.0, 1000.0, 0.0])
    np.testing.assert_allclose(way_to("even", norms) * norms, [0.5] * 4 + [0])
    np.testing.assert_allclose(way_to("mean", norms), 0.2)
    assert not way_to("base", norms).any()
    assert not way_to("even", np.zeros(2)).any()
