"""breadcrumbs against the masks of its paper."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from deltas import merged, noise


def naive(delta, density, gamma):
    """arXiv 2312.06795, section 3: sort, drop the head and the tail, keep what is between."""
    values = delta.flatten().tolist()
    order = sorted(range(len(values)), key=lambda i: -abs(values[i]))
    keep = max(1, int(density * len(values)))
    head = min(int(gamma * len(values)), len(values) - keep)
    between = set(order[head : head + keep])
    return torch.tensor([v if i in between else 0.0 for i, v in enumerate(values)])


@given(
    st.integers(0, 99),
    st.lists(st.floats(-2, 3), min_size=1, max_size=3),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
)
def test_breadcrumbs_is_what_the_paper_says(seed, weights, density, gamma):
    deltas = [noise(6, 7, seed=seed + 100 * n) for n in range(len(weights))]
    found = merged("breadcrumbs", deltas, weights, density=density, gamma=gamma)
    kept = [w * naive(d, density, gamma) for w, d in zip(weights, deltas, strict=True)]
    assert_close(found.flatten(), torch.stack(kept).sum(0), rtol=1e-5, atol=1e-6)


def test_outliers_and_crumbs_are_dropped():
    delta = torch.tensor([100.0, 3.0, -2.0, 0.1, 0.2])
    found = merged("breadcrumbs", [delta], density=0.4, gamma=0.2)
    assert found.tolist() == [0, 3, -2, 0, 0]


def test_a_share_that_is_kept_is_never_given_up_for_outliers():
    delta = torch.tensor([4.0, 3.0, 2.0, 1.0])
    found = merged("breadcrumbs", [delta], density=0.75, gamma=0.5)
    assert found.tolist() == [0, 3, 2, 1]
