"""Models with tensors of the same shapes that compute differently are not averaged."""

import json

import pytest

from helpers import refused, write_tiny_model
from mashup import merge


@pytest.fixture
def models(tmp_path, tokenizer):
    return [write_tiny_model(tmp_path / f"m{n}", tokenizer, seed=n) for n in range(2)]


def changed(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.mark.parametrize("values", [{"rms_norm_eps": 1e-3}, {"hidden_act": "gelu"}])
def test_other_arithmetic_is_refused_and_may_be_accepted(models, tmp_path, values):
    named = [changed(model, _name_or_path="owner/base") for model in models]
    changed(named[1], **values)
    with refused("models compute differently", found=next(iter(values))):
        merge(named, output=tmp_path / "m")
    assert merge(named, output=tmp_path / "m", accept_base=True).path.exists()


@pytest.mark.parametrize(
    "values", [{"num_hidden_layers": 3}, {"intermediate_size": 65}, {"hidden_size": 0}]
)
def test_sizes_that_the_tensors_do_not_have_are_refused(models, tmp_path, values):
    named = [changed(model, _name_or_path="owner/base") for model in models]
    changed(named[1], **values)
    with refused("models compute differently", found=next(iter(values))):
        merge(named, output=tmp_path / "m")


def rope(theta, kind="default"):
    return {"rope_parameters": {"rope_theta": theta, "rope_type": kind}}


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (rope(1e4), rope(1e6), "rope_theta"),
        (rope(1e4), rope(1e4, "linear"), "rope_type"),
        ({"rope_parameters": None, "rope_theta": 1e4}, rope(1e6), "rope_theta"),
        ({"rope_parameters": None, "rope_theta": None}, rope(1e6), "rope_theta"),
    ],
)
def test_another_rotation_is_refused_wherever_it_is_said(models, tmp_path, one, other, found):
    named = [changed(model, _name_or_path="owner/base") for model in models]
    changed(named[0], **one)
    changed(named[1], **other)
    with refused("models compute differently", found=found):
        merge(named, output=tmp_path / "m")


def test_a_window_and_none_are_different(models, tmp_path):
    named = [changed(model, _name_or_path="owner/base") for model in models]
    changed(named[0], sliding_window=None)
    changed(named[1], sliding_window=4096)
    with refused("models compute differently", found="sliding_window"):
        merge(named, output=tmp_path / "m")
    changed(named[1], use_sliding_window=False)
    assert merge(named, output=tmp_path / "m").path.exists()


def test_a_rotation_may_be_said_as_older_versions_do(models, tmp_path):
    named = [changed(model, _name_or_path="owner/base") for model in models]
    changed(named[0], rope_parameters=None, rope_theta=1e4, rope_scaling=None)
    changed(named[1], **rope(1e4))
    assert merge(named, output=tmp_path / "m").path.exists()


def test_what_does_not_change_the_arithmetic_may_differ(models, tmp_path):
    named = [changed(model, _name_or_path="owner/base") for model in models]
    changed(named[1], use_cache=False, transformers_version="4.40.0", dtype="float16")
    assert merge(named, output=tmp_path / "m").path.exists()
