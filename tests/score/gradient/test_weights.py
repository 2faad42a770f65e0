"""Newton's weights: never worse than uniform on the sample, and a bad donor gets little."""

import pytest

from helpers import prompt_rows, write_jsonl
from lora import save_lora
from mashup import TrainSettings, load_base, load_task, train
from mashup._score.gradient import mean_of, moved, weighted_sum
from mashup._score.gradient import weights as module
from mashup._score.gradient.weights import newton_weights
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
    from mashup._score.gradient.weights import _best_share

    assert _best_share(lambda share: 1.0 + share, 1.0) == 0
    assert _best_share(lambda share: abs(share - 0.5), 1.0) == 0.5


def test_a_single_donor_may_be_scaled(base, folders, batches):
    (weight,) = newton_weights(base, folders[:1], batches)
    scaled = loss(base, batches, weighted_sum(folders[:1], [weight]))
    assert scaled <= loss(base, batches, mean_of(folders[:1])) + 1e-6
