"""greedy_soup: add a parent to the mean only if that lowers the loss on the sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mashup._merge.methods.linear import mix
from mashup._merge.methods.method import Method

#: Weights, one per parent, to the loss of their merge.
Measure = Callable[[Sequence[float]], float]


def chosen_weights(count: int, measure: Measure) -> tuple[tuple[float, ...], list[float]]:
    """Weights of the greedy soup (arXiv 2203.05482, recipe 1), and every loss that was measured.

    Parents are measured alone, then tried in the order of their losses. Each is kept if it lowers
    the loss of the mean of those kept so far. The m that are kept have the weight 1/m.
    """
    alone = [measure(_mean((i,), count)) for i in range(count)]
    order = sorted(range(count), key=lambda i: alone[i])
    kept, best, losses = order[:1], alone[order[0]], list(alone)
    for candidate in order[1:]:
        loss = measure(_mean((*kept, candidate), count))
        losses.append(loss)
        if loss < best:
            kept, best = [*kept, candidate], loss
    return _mean(kept, count), losses


def _mean(kept: Sequence[int], count: int) -> tuple[float, ...]:
    return tuple(1 / len(kept) if i in kept else 0.0 for i in range(count))


GREEDY_SOUP = Method(
    "greedy_soup",
    "λ Σ δᵢ / m over the m parents that lower the sample's loss, tried best first",
    "Wortsman et al., arXiv 2203.05482",
    mix=mix,
    takes=("scale",),
)
