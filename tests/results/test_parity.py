"""Parity: fair to both arms; the paper's rule is flattering, and shown to be."""

from mashup.results import fair_parity, paper_parity
from mashup.results.curve import Point


def curve(losses, accuracies=None):
    """Points every 10 steps, one second a step."""
    accuracies = accuracies or [0.0] * len(losses)
    return [
        Point(10 * n, 10.0 * n, 100 * n, loss, accuracy, loss, accuracy)
        for n, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


def test_the_first_crossing_of_scratchs_final_loss():
    parity = fair_parity(curve([1.5, 0.9, 0.5]), curve([3.0, 2.0, 1.0]), overhead=4.0)
    assert (parity.steps, parity.scratch_steps) == (10, 20)
    assert (parity.seconds, parity.scratch_seconds) == (14.0, 20.0)


def test_identical_noisy_curves_save_nothing_under_the_fair_rule_and_much_under_the_papers():
    noisy = curve([3.0, 1.0, 1.2, 1.1, 1.1], [0.1, 0.6, 0.7, 0.5, 0.6])
    fair, paper = fair_parity(noisy, noisy), paper_parity(noisy, noisy)
    assert (fair.steps, fair.scratch_steps) == (10, 10)
    assert fair.seconds == fair.scratch_seconds
    assert (paper.steps, paper.scratch_steps) == (10, 40)  # three quarters "saved"


def test_never_stays_never():
    parity = fair_parity(curve([3.0, 2.5]), curve([3.0, 1.0]), overhead=1.0)
    assert (parity.steps, parity.seconds) == (None, None)


def test_a_start_that_is_good_enough_costs_only_its_overhead():
    parity = fair_parity(curve([0.5, 0.4]), curve([3.0, 1.0]), overhead=30.0)
    assert (parity.steps, parity.seconds) == (0, 30.0)
    assert parity.scratch_seconds == 10.0


def test_scratch_pays_for_its_own_search():
    parity = fair_parity(curve([3.0, 1.0]), curve([3.0, 1.0]), 5.0, 5.0)
    assert parity.seconds == parity.scratch_seconds == 15.0
