"""``allow_partial``: every method merges what fits and leaves the rest as the base has it."""

import pytest
import torch

from mashup import merge
from mashup._merge.methods import METHODS
from wholes import relative_of, tensors_of, write_whole

WHOLE = [name for name in METHODS if name not in ("greedy_soup", "factor_average")]
NORM, OTHER = "model.norm.weight", "model.layers.0.input_layernorm.weight"


@pytest.fixture
def partial(tiny_base, tmp_path):
    """A parent that lacks a tensor, has one too many, and one of another shape."""
    tensors = tensors_of(relative_of(tiny_base, tmp_path / "whole", seed=1))
    del tensors[NORM]
    tensors["model.extra.weight"] = torch.ones(2)
    tensors[OTHER] = torch.ones(3)
    return write_whole(tmp_path / "partial", tensors, tiny_base)


@pytest.mark.parametrize("method", WHOLE)
def test_what_a_parent_lacks_is_a_delta_of_zero(tiny_base, tmp_path, partial, method):
    other = relative_of(tiny_base, tmp_path / "b", seed=2)
    given = {"base": tiny_base, "accept_base": True, "allow_partial": True, "method": method}
    init = merge([partial, other], output=tmp_path / "m", **given)
    whole = [tmp_path / "whole", other]
    expected = tensors_of(merge(whole, output=tmp_path / "n", **given).path)
    found, base = tensors_of(init.path), tensors_of(tiny_base)
    assert found.keys() == base.keys()
    fixed = "seed" not in METHODS[method].takes
    assert all(
        torch.equal(found[n], expected[n]) or not fixed for n in found.keys() - {NORM, OTHER}
    )
    (left_out,) = init.manifest["partial"].values()
    assert {kind: len(names) for kind, names in left_out.items()} == {
        "unused": 1,
        "missing": 1,
        "misshapen": 1,
    }


@pytest.mark.parametrize("method", WHOLE)
def test_what_all_lack_is_the_bases(tiny_base, tmp_path, partial, method):
    count = METHODS[method].parents[0]
    given = {"base": tiny_base, "accept_base": True, "allow_partial": True, "method": method}
    made = tensors_of(merge([partial] * count, output=tmp_path / "m", **given).path)
    base = tensors_of(tiny_base)
    assert torch.equal(made[NORM], base[NORM])
    assert torch.equal(made[OTHER], base[OTHER])
