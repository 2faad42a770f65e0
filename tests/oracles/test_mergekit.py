"""mergekit and we say the same where the methods are the same."""

import pytest

from oracles.cases import EQUAL, ours
from oracles.peers import FAMILIES
from wholes import distance, tensors_of


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", EQUAL)
def test_mergekit_says_the_same(peer, models, tmp_path, family, name):
    one = EQUAL[name]
    found = tensors_of(ours(one, models / family, tmp_path / "m"))
    expected = tensors_of(peer / family / name)
    base = tensors_of(models / family / one.base)
    assert distance(found, expected, base) < 1e-6
