"""Slopes along whole models, against finite differences and true losses."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mashup
from helpers import prompt_rows, write_jsonl
from lora import save_lora
from mashup import load_base, load_task
from mashup._score.gradient.directional import gradient_at
from mashup._score.gradient.wholes import mean_of_wholes, whole_slope
from mashup.delta import Delta
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.model import applied
from wholes import tensors_of, write_whole

score = partial(mashup.score, criterion="loss")


@pytest.fixture(scope="module", params=["tiny_base", "tied_base"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder, dtype="float32")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task(write_jsonl(tmp_path_factory.mktemp("data") / "new.jsonl", prompt_rows(120)))


def write_relative(folder, base, seed, size):
    """Noise on matrices alone: norms are not in the slope."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: t + size * torch.randn(t.shape, generator=generator) * (t.dim() > 1)
        for name, t in tensors_of(base).items()
    }
    return write_whole(folder, tensors, base)


@pytest.fixture(scope="module")
def library(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("library")
    for seed in range(24):
        write_relative(place / f"run{seed:02}", folder, seed, 0.001 * (1 + seed % 3))
    return place


def loss_between(base, folder, share, batches):
    own = dict(base.model.named_parameters())
    whole = load_file(folder / "model.safetensors")
    values = {n: own[n].detach() + share * (whole[n] - own[n].detach()) for n in own}
    with applied(base.model, Delta({}, saved=values)):
        return evaluate(base.model, batches).loss


def test_slopes_are_those_of_finite_differences(base, task, library):
    batches = batches_for(base, sample_tokens(base, task, 32, 42, 512))
    one = library / "run02"
    names = list(mean_of_wholes(base.model, [one]))
    slope = whole_slope(gradient_at(base.model, batches, names), base.model, one)
    step = 0.05
    losses = [loss_between(base, one, share, batches) for share in (-step, step)]
    assert slope == pytest.approx((losses[1] - losses[0]) / (2 * step), rel=0.02)


def test_the_mean_of_models_is_the_point(base, library):
    one, two = library / "run00", library / "run01"
    point = mean_of_wholes(base.model, [one, two])
    own = base.model.get_submodule("model.layers.0.mlp.up_proj").weight
    values = [load_file(f / "model.safetensors") for f in (one, two)]
    name = "model.layers.0.mlp.up_proj"
    expected = sum(v[f"{name}.weight"] for v in values) / 2 - own
    torch.testing.assert_close(point[name], expected)


def test_the_best_predicted_race_and_they_are_better_than_chance(base, task, folder, library):
    found = score(library, base, task, samples=64, strategy="gradient")
    whole = score(library, base, task, samples=64, strategy="exhaustive")
    assert len(found.ranking) == 16
    assert len(found.expected) == 8
    taken = [whole.score_of(one.path).loss for one in found.ranking]
    assert np.mean(taken) < np.mean([one.loss for one in whole.ranking])
    assert found.ranking[0].loss <= np.quantile([one.loss for one in whole.ranking], 0.25)


def test_both_kinds_race_together(base, task, folder, tmp_path):
    save_lora(folder, tmp_path / "lib/lora", size=0.02)
    write_relative(tmp_path / "lib/whole", folder, 1, 0.002)
    found = score(tmp_path / "lib", base, task, samples=8, strategy="gradient")
    assert {one.name for one in found.ranking} == {"lora", "whole"}
