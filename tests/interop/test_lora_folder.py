"""A merged LoRA in plain PEFT, transformers and TRL: a fresh process that has only the folder."""

import math

import pytest
from torch.testing import assert_close

from lora import mean_logits, peft_logits, some_ids


@pytest.fixture(scope="module")
def used(use, init):
    return use(init)


@pytest.fixture(scope="module")
def expected(base, parents):
    """Logits of the base with the exact mean of the parents' deltas."""
    return mean_logits(base, parents, some_ids())


@pytest.mark.parametrize("how", ["loaded", "transformers", "before"])
def test_peft_transformers_and_trl_before_a_step_compute_the_mean_of_the_parents(
    used, expected, how
):
    assert_close(used.logits[how], expected, rtol=1e-4, atol=1e-4)


def test_the_mean_is_neither_parent_nor_the_base(base, parents, expected):
    for folder in parents:
        other = peft_logits(base, folder, some_ids())
        assert float((other - expected).abs().max()) > 1
    bare = mean_logits(base, [], some_ids())
    assert float((bare - expected).abs().max()) > 1


def test_the_first_loss_of_training_is_the_loss_of_the_init(used):
    (loss,) = used.facts["losses"]
    assert math.isfinite(loss)
    assert loss == pytest.approx(used.facts["loss_before"], rel=1e-4)


def test_one_step_moves_the_adapter_and_trains_nothing_else(used):
    assert used.facts["trainable"]
    assert all("lora_" in name for name in used.facts["trainable"])
    assert not used.logits["after"].equal(used.logits["before"])


def test_the_process_never_met_mashup(used):
    assert used.facts["mashup"] == []
