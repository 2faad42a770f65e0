"""Newton's weights: never worse than uniform on the sample, and a bad donor gets little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import prompt_rows, write_full, write_jsonl
from kinds import KINDS, save_kind, write_base
from lora import save_lora
from mashup import TrainSettings, load_base, load_task, train
from mashup._score import newton as module
from mashup._score.newton import Odds, best_weights, gain, newton_step, newton_weights, uncovered
from mashup._score.slopes import mean_of, moved, weighted_sum
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task(str(write_jsonl(tmp_path_factory.mktemp("d") / "t.jsonl", prompt_rows(80))))


@pytest.fixture(scope="module")
def folders(base, task, tiny_base, tmp_path_factory):
    """A run that knows the task, and one that was shaken."""
    root = tmp_path_factory.mktemp("donors")
    settings = TrainSettings(max_steps=6, batch_size=8, learning_rate=1e-2)
    train(base, task, output=root / "good", settings=settings)
    return [root / "good", save_lora(tiny_base, root / "bad", size=0.4)]


@pytest.fixture(scope="module")
def batches(base, task):
    return batches_for(base, sample_tokens(base, task, 24, 42, 512))


def loss(base, batches, point):
    with moved(base.model, point):
        return evaluate(base.model, batches).loss


def test_the_merge_is_better_than_the_uniform_one_and_the_bad_donor_gets_less(
    base, folders, batches
):
    weights = newton_weights(base, folders, batches)
    assert 0 <= weights[1] < weights[0]
    found = loss(base, batches, weighted_sum(folders, weights))
    assert found < loss(base, batches, mean_of(folders))


def test_without_a_search_the_whole_step_is_taken(base, folders, batches, monkeypatch):
    monkeypatch.setattr(module, "evaluate", None)  # it would be called
    weights = newton_weights(base, folders, batches, search=False)
    assert min(weights) >= 0


def test_uniform_weights_stay_where_every_step_measures_worse():
    from mashup._score.newton import _best_share

    assert _best_share(lambda share: 1.0 + share, 1.0) == 0
    assert _best_share(lambda share: abs(share - 0.5), 1.0) == 0.5


def test_a_single_donor_may_be_scaled(base, folders, batches):
    (weight,) = newton_weights(base, folders[:1], batches)
    scaled = loss(base, batches, weighted_sum(folders[:1], [weight]))
    assert scaled <= loss(base, batches, mean_of(folders[:1])) + 1e-6


numbers = st.floats(-3, 3, width=32)


@st.composite
def samples(draw):
    """Summed losses ``(n,)`` and their slopes ``(n, N)``."""
    n, count = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    losses = draw(arrays(float, n, elements=st.floats(0.01, 8)))
    return losses, draw(arrays(float, (n, count), elements=numbers))


@given(samples(), st.integers(1, 20))
def test_at_the_point_it_has_the_losses_and_slopes_that_it_was_made_of(sample, tokens):
    losses, slopes = sample
    odds, none = Odds.of(losses, slopes, tokens), np.zeros(slopes.shape[1])
    assert odds.loss(none) == pytest.approx(losses.sum() / tokens, rel=1e-6)
    slope, _ = odds.quadratic(none)
    np.testing.assert_allclose(slope, slopes.sum(0) / tokens, rtol=1e-6, atol=1e-9)


@given(samples(), st.data())
def test_slope_and_curvature_are_those_of_the_predicted_loss(sample, data):
    losses, slopes = sample
    odds = Odds(losses, slopes, 3)
    step = data.draw(arrays(float, slopes.shape[1], elements=st.floats(-0.5, 0.5)))
    slope, curvature = odds.quadratic(step)
    h = 1e-4
    for i, unit in enumerate(np.eye(len(step)) * h):
        ahead, back = odds.loss(step + unit), odds.loss(step - unit)
        assert slope[i] == pytest.approx((ahead - back) / (2 * h), abs=1e-6)
        change = odds.quadratic(step + unit)[0] - odds.quadratic(step - unit)[0]
        np.testing.assert_allclose(curvature[i], change / (2 * h), atol=1e-5)


@given(samples())
def test_whole_steps_of_many_donors_are_those_of_each(sample):
    losses, slopes = sample
    odds = Odds.of(losses, slopes, 2)
    units = np.eye(slopes.shape[1])
    each = [odds.loss(unit) for unit in units]
    np.testing.assert_allclose(odds.loss(units), each)


@given(samples(), st.sampled_from([0.01, 0.1, 1.0]))
def test_no_small_move_improves_the_best_weights(sample, ridge):
    losses, slopes = sample
    odds = Odds(np.log(np.expm1(losses)), slopes, 2)
    at = np.full(slopes.shape[1], 1 / slopes.shape[1])
    w = best_weights(odds, at, ridge)
    _, curvature = odds.quadratic(np.zeros(len(at)))
    pull = max(ridge * np.diag(curvature).mean(), 1e-12)
    slope = odds.quadratic(w - at)[0] + pull * (w - at)
    assert (w >= 0).all()
    assert (slope >= -1e-4).all()  # Karush, Kuhn, Tucker
    np.testing.assert_allclose(slope * w, 0, atol=1e-4)


def test_a_certain_answer_has_finite_odds():
    odds = Odds.of(np.array([0.0, 1e-12, 700.0]), np.ones((3, 1)), 3)
    assert np.isfinite(odds.start).all()
    assert np.isfinite(odds.along).all()
    assert np.isfinite(odds.loss(np.ones(1)))


def test_a_donor_that_answers_wrongly_gets_nothing():
    odds = Odds(np.zeros(4), np.array([[2.0, -1.0]] * 4), 4)
    assert best_weights(odds, np.array([0.5, 0.5]), 0.1)[1] == 0


numbers = st.floats(-3, 3, width=32)


@st.composite
def models(draw):
    """Slopes and a curvature that is positive definite and not nearly singular."""
    n = draw(st.integers(1, 5))
    each = draw(arrays(float, (7, n), elements=numbers))
    return draw(arrays(float, n, elements=numbers)), each.T @ each + np.eye(n)


@given(models())
def test_no_other_weights_are_better(model):
    g, H = model
    w = newton_step(g, H)
    slope = g + H @ w
    assert (w >= 0).all()
    assert (slope >= -1e-6).all()  # Karush, Kuhn, Tucker
    np.testing.assert_allclose(slope * w, 0, atol=1e-6)


@given(models())
def test_it_is_the_free_minimum_where_that_is_positive(model):
    g, H = model
    free = -np.linalg.solve(H, g)
    if (free > 0).all():
        np.testing.assert_allclose(newton_step(g, H), free, rtol=1e-5, atol=1e-7)
    assert gain(g, H, newton_step(g, H)) >= gain(g, H, free) - 1e-9


def test_no_step_is_made_where_nothing_helps():
    assert newton_step(np.array([1.0, 0.0]), np.eye(2)).tolist() == [0, 0]


REASONS = {
    "saved modules": "modules saved whole",
    "all biases": "modules saved whole",
    "bias of B": "a bias of B",
    "token rows": "trained token rows",
    "experts": "parameters adapted themselves",
    "embedding and head": "modules saved whole",  # PEFT saves an adapted embedding's values too
    "embedding, GPT-2": None,
}


@pytest.mark.parametrize("kind", REASONS)
def test_kinds_are_covered_or_say_why_not(tmp_path, kind):
    family, settings = KINDS[kind]
    base = write_base(tmp_path / "base", family)
    assert uncovered(save_kind(base, tmp_path / "lora", **settings)) == REASONS[kind]


def test_a_whole_model_is_not_covered(tmp_path):
    assert uncovered(write_full(tmp_path / "full")) == "a full checkpoint"
