"""mergekit and we say the same where the methods are the same."""

from pathlib import Path

import pytest

from mashup import merge
from oracles.cases import EQUAL, Case
from oracles.peers import FAMILIES
from wholes import distance, tensors_of


def ours(one: Case, models: Path, output: Path) -> Path:
    """Our merge of a case."""
    given = {"base": models / one.base, "method": one.method, "accept_base": True, **one.ours}
    return merge([models / name for name in one.parents], output=output, **given).path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", EQUAL)
def test_mergekit_says_the_same(peer, models, tmp_path, family, name):
    one = EQUAL[name]
    found = tensors_of(ours(one, models / family, tmp_path / "m"))
    expected = tensors_of(peer / family / name)
    base = tensors_of(models / family / one.base)
    assert distance(found, expected, base) < 1e-6
