"""Each copy of a batch is computed with the adapter of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from helpers import refused
from kinds import KINDS, save_kind, write_base
from mashup.delta import Delta, Factors, read_delta
from mashup.model import applied
from mashup.model.together import MixedCopiesError, applied_together, is_plain, stacked


def factors(rank, seed=0, scale=1.5):
    generator = torch.Generator().manual_seed(seed)
    return Factors(
        torch.randn(rank, 6, generator=generator), torch.randn(5, rank, generator=generator), scale
    )


@given(st.lists(st.none() | st.integers(1, 4), min_size=1, max_size=5).filter(any))
def test_stacks_multiply_to_each_delta(ranks):
    given_ = [None if rank is None else factors(rank, rank) for rank in ranks]
    right, left = stacked(given_)
    for one, found in zip(given_, (right @ left).mT, strict=True):
        expected = torch.zeros(5, 6) if one is None else one.dense()
        torch.testing.assert_close(found, expected)


def test_copies_are_computed_apart():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5)).eval()
    deltas = [Delta({"0": factors(rank, rank)}) for rank in (1, 4, 2)]
    x = torch.randn(2, 7, 6)
    with torch.no_grad():
        with applied_together(model, deltas):
            found = model(x.repeat(3, 1, 1)).split(2)
        for one, delta in zip(found, deltas, strict=True):
            with applied(model, delta):
                torch.testing.assert_close(one, model(x))


@pytest.mark.parametrize("shape", [(1, 4, 6), (4, 6)], ids=["cut", "routed"])
def test_rows_of_nobody_are_refused(shape):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5))
    both = [Delta({"0": factors(1)})] * 2
    with torch.no_grad(), applied_together(model, both), pytest.raises(MixedCopiesError):
        model(torch.zeros(shape))


def test_an_unknown_module_is_told():
    model = torch.nn.Sequential(torch.nn.Linear(6, 5))
    with (
        refused("no such module in the base", where="nowhere"),
        applied_together(model, [Delta({"nowhere": factors(1)})]),
    ):
        pass


@pytest.mark.parametrize("kind", [name for name, (family, _) in KINDS.items() if family != "gpt2"])
def test_only_plain_loras_are_plain(tmp_path, kind):
    family, settings = KINDS[kind]
    base = write_base(tmp_path / "base", family)
    model = AutoModelForCausalLM.from_pretrained(base)
    assert not is_plain(model, read_delta(save_kind(base, tmp_path / "a", **settings)))
    assert is_plain(model, read_delta(save_kind(base, tmp_path / "b")))
