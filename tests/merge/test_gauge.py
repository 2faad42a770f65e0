"""``B·G`` and ``G⁻¹·A`` are the same delta for every invertible G, so they merge the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from helpers import write_adapter
from mashup import merge
from mashup._merge.algebra import random_orthogonal, weighted_sum
from mashup._merge.methods import METHODS
from mashup.delta import Factors, inner, read_delta
from wholes import distance

FIXED = [n for n, m in METHODS.items() if "seed" not in m.takes and n != "greedy_soup"]


def gauge(seed, stretch=10.0):
    """A 4 by 4 matrix that is safe to invert: two rotations and a stretch."""
    turns = [random_orthogonal(4, torch.Generator().manual_seed(seed + n)) for n in (0, 1)]
    return turns[0] @ torch.diag(torch.tensor([1 / stretch, 1.0, 1.0, stretch]).double()) @ turns[1]


def regauged(source, folder, G):
    """The same adapter in other factors."""
    config = (source / "adapter_config.json").read_text()
    folder.mkdir()
    (folder / "adapter_config.json").write_text(config)
    tensors = load_file(source / "adapter_model.safetensors")
    for name, tensor in tensors.items():
        turned = G.inverse() @ tensor.double() if "lora_A" in name else tensor.double() @ G
        tensors[name] = turned.float().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def dense(folder):
    return {name: f.dense() for name, f in read_delta(folder, torch.float64).modules.items()}


def both_ways(method, tmp_path):
    some = [write_adapter(tmp_path / str(n), seed=n) for n in (1, 2)]
    others = [regauged(path, tmp_path / f"g{n}", gauge(n)) for n, path in enumerate(some)]
    assert all(distance(dense(a), dense(b)) < 1e-6 for a, b in zip(some, others, strict=True))
    given = {"method": method, "weights": [0.4, 0.4], "rank": 16}  # order may change: one weight
    return [
        dense(merge(parents, output=tmp_path / name, **given).path)
        for name, parents in (("m", some), ("n", others))
    ]


@pytest.mark.parametrize("method", [name for name in FIXED if name != "factor_average"])
def test_merges_do_not_depend_on_the_factors(method, tmp_path):
    assert distance(*both_ways(method, tmp_path)) < 1e-5


def test_factor_averages_do(tmp_path):
    assert distance(*both_ways("factor_average", tmp_path)) > 0.5


@given(st.integers(0, 99), st.floats(1, 30))
def test_spectra_and_inner_products_do_not_depend_on_the_factors(seed, stretch):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(4, 9, generator=generator).double()
    B = torch.randn(7, 4, generator=generator).double()
    G = gauge(seed, stretch)
    one, other = Factors(A, B, 0.7), Factors(torch.linalg.solve(G, A), B @ G, 0.7)
    spectra = [weighted_sum([(1.0, f)]).S for f in (one, other)]
    torch.testing.assert_close(*spectra, rtol=1e-7, atol=1e-9)
    norms = [inner(f, g) for f, g in ((one, one), (one, other), (other, other))]
    expected = one.dense().square().sum()
    torch.testing.assert_close(torch.stack(norms), expected.expand(3), rtol=1e-7, atol=1e-9)
