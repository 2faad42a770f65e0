"""Names of tensors in a file, and what the loaded model calls them."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from helpers import refused
from kinds import write_base
from mashup.model import read_change
from mashup.model.shapes import names_in
from wholes import tensors_of

FAMILIES = ("llama", "tied", "gemma", "gemma2", "mistral", "gpt2", "seeing")


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    if request.param == "seeing":
        return request.getfixturevalue("seeing_base")
    return write_base(tmp_path / "base", request.param)


def test_every_stored_tensor_is_the_parameter_of_its_name(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    stored, loaded = tensors_of(folder), model.state_dict()
    names = names_in(model, stored)
    for name in stored:
        assert torch.equal(stored[name], loaded[names[name]])


def test_a_model_that_sees_has_other_names_in_its_file(seeing_base):
    model = AutoModelForCausalLM.from_pretrained(seeing_base)
    with safe_open(seeing_base / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    names = names_in(model, stored)
    assert set(names.values()) == {name for name, _ in model.named_parameters()}
    assert not stored & set(names.values())


def test_names_of_the_loaded_model_stay(seeing_base):
    model = AutoModelForCausalLM.from_pretrained(seeing_base)
    own = [name for name, _ in model.named_parameters()]
    assert names_in(model, own) == {name: name for name in own}


def test_tensors_that_are_joined_on_loading_have_no_place_of_their_own(tmp_path):
    """Experts lie apart in a Mixtral's file, and are one stack in memory."""
    folder = write_base(tmp_path / "base", "mixtral")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with refused("tensors without a place", where=str(folder), found="joined with others"):
        read_change(model, folder)
