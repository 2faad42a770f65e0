"""The demo's sizes hold together; the real thing is run by ``make demo-quick`` in CI."""

import pytest

from mashup.demo import data, run


@pytest.mark.parametrize("size", [run.FULL, run.QUICK], ids=["full", "quick"])
def test_every_donor_exists_and_none_is_the_target(size):
    recipes = {recipe.name: recipe.kind for recipe in data._RECIPES}
    assert all(recipes[name] != "target" for name in size.donors)
    assert size.target_rows >= 4 * 16
    assert size.samples <= size.target_rows
