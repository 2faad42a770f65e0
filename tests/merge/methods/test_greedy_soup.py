"""The greedy soup: what is tried, in which order, and what is kept."""

from mashup._merge.methods.greedy_soup import chosen_weights


def soup(losses, count):
    """Weights that are chosen, and the sets that were measured, in order."""
    tried = []

    def measure(weights):
        chosen = frozenset(i for i, weight in enumerate(weights) if weight)
        tried.append(chosen)
        assert sum(weights) == 1
        return losses[chosen]

    weights, measured = chosen_weights(count, measure)
    assert measured == [losses[chosen] for chosen in tried]
    return weights, tried


def test_parents_are_tried_best_first_and_kept_if_they_help():
    losses = {frozenset(s): loss for s, loss in {(0,): 3, (1,): 1, (2,): 2}.items()}
    losses |= {frozenset((1, 2)): 1.5, frozenset((0, 1)): 0.5}
    weights, tried = soup(losses, 3)
    assert weights == (0.5, 0.5, 0.0)
    assert tried == [{0}, {1}, {2}, {1, 2}, {1, 0}]


def test_a_parent_that_changes_nothing_is_left_out():
    losses = {frozenset((0,)): 1, frozenset((1,)): 1, frozenset((0, 1)): 1}
    assert soup(losses, 2)[0] == (1.0, 0.0)
