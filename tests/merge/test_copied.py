"""What is no weight is copied where all agree on it, and refused where they do not."""

import pytest
import torch

from helpers import refused
from mashup import merge
from mashup._check import check
from wholes import relative_of, tensors_of, write_whole

UP = "model.layers.0.mlp.up_proj.weight"
EIGHT = torch.float8_e4m3fn


def model(base, folder, seed, **more):
    tensors = tensors_of(relative_of(base, folder.with_name(f"{folder.name}-tmp"), seed=seed))
    return write_whole(folder, tensors | more, base)


def test_equal_buffers_are_copied(tiny_base, tmp_path):
    buffer = {"model.steps": torch.tensor([1, 2])}
    parents = [model(tiny_base, tmp_path / n, s, **buffer) for s, n in enumerate("ab")]
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    assert torch.equal(tensors_of(init.path)["model.steps"], buffer["model.steps"])


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_buffers_that_differ_are_refused(tiny_base, tmp_path, method):
    parents = [
        model(tiny_base, tmp_path / n, s, **{"model.steps": torch.tensor(s)})
        for s, n in enumerate("ab")
    ]
    with refused("tensor cannot be averaged", found="model.steps of type I64"):
        merge(parents, output=tmp_path / "m", accept_base=True, method=method, base=parents[0])


def test_weights_of_eight_bits_are_refused(tiny_base, tmp_path):
    """They were copied from the first parent, and the others' were dropped."""
    one = model(tiny_base, tmp_path / "a", 1)
    weight = tensors_of(one)[UP]
    parents = [
        model(tiny_base, tmp_path / n, 1, **{UP: (weight + s).to(EIGHT)})
        for s, n in enumerate("bc")
    ]
    for given in (parents, [one, parents[1]]):
        with refused("quantised weights", found=UP):
            merge(given, output=tmp_path / "m", accept_base=True)
    with refused("quantised weights", where="/b", found=UP):
        merge(parents[:1], output=tmp_path / "m", base=one, accept_base=True)
    (report,) = check(parents[:1], base=one)
    assert report.problems[0].what == "quantised weights"
