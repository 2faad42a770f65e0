"""Groups: a leader each, in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mashup.clusters import cosine_rows, groups, leaders


def vectors(seed, count, size=8, kinds=None):
    """Directions, each near one of ``kinds`` of them in turn."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((kinds or count, size))
    made = centres[np.arange(count) % len(centres)]
    return (made + 0.05 * generator.standard_normal((count, size))).astype(np.float32)


def test_copies_of_one_run_have_one_leader():
    assert groups(vectors(0, 12, size=1024, kinds=3), 0.9).tolist() == [0, 1, 2] * 4


def test_a_chain_is_cut_where_its_leader_ends():
    angles = np.deg2rad([0, 20, 40, 60])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert groups(chain, 0.9).tolist() == [0, 0, 2, 2]


@given(st.integers(0, 99), st.integers(1, 30), st.floats(0.3, 1.0))
def test_members_are_like_their_leader_and_leaders_unlike_each_other(seed, count, same):
    made = vectors(seed, count, size=3)
    row = cosine_rows(made)
    found = groups(made, same)
    led = np.unique(found)
    assert (found[led] == led).all()
    assert all(leader <= index for index, leader in enumerate(found))
    assert all(row(leader)[index] >= same for index, leader in enumerate(found) if leader != index)
    assert all(row(one)[other] < same for one in led for other in led if one < other)


@given(st.integers(0, 99), st.integers(1, 5))
def test_a_limit_finds_the_first_leaders_of_all(seed, limit):
    row = cosine_rows(vectors(seed, 20, size=3))
    every, some = (leaders(row, 20, 0.7, stop) for stop in (None, limit))
    first = np.unique(every)[:limit]
    assert np.array_equal(np.unique(some[some >= 0]), first)
    assert np.array_equal(some >= 0, np.isin(every, first))


def test_rows_beyond_a_block_are_right():
    made = vectors(1, 1100, size=4)
    lengths, row = np.linalg.norm(made, axis=1), cosine_rows(made)
    for index in (0, 511, 512, 1099, 3):
        expected = made @ made[index] / lengths / lengths[index]
        np.testing.assert_allclose(row(index), expected, atol=1e-5)


def test_a_sketch_of_nothing_is_like_no_other():
    made = np.zeros((3, 4), np.float32)
    made[1] = 1
    assert cosine_rows(made)(0).tolist() == [0, 0, 0]
    assert groups(made, 0.9).tolist() == [0, 1, 2]
    assert groups(made[:0], 0.9).tolist() == []


def test_numbers_near_the_end_of_float32_have_cosines_too():
    sketches = np.array([[3e38, 0], [2e38, 2e38], [np.inf, 1], [0, 0]], np.float32)
    row = cosine_rows(sketches)
    np.testing.assert_allclose(row(0), [1, 0.5**0.5, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(row(2), [0, 0, 0, 0])
