"""An adapter must fit its base in both directions."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from helpers import refused
from kinds import save_kind, write_base
from mashup.checkpoint import FOREIGN, laid_out, open_checkpoint
from mashup.checkpoint.fit import PARTIAL
from mashup.model import fit_loaded, read_change, shapes_of
from mashup.model.names import names_in
from wholes import tensors_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def base(family, **config):
        key = family + str(config)
        if key not in made:
            made[key] = write_base(tmp_path_factory.mktemp("bases") / "b", family, **config)
        return made[key]

    return base


def problems(base, folder, cut="", **config):
    """Of the adapter without the tensors that hold ``cut`` in their names."""
    if cut:
        path = folder / "adapter_model.safetensors"
        save_file({n: t for n, t in load_file(path).items() if cut not in n}, path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return loaded(AutoModelForCausalLM.from_pretrained(base), folder)


def loaded(model, folder):
    return list(
        fit_loaded(open_checkpoint(folder), shapes_of(model), model, accept_base=True).problems
    )


@pytest.mark.parametrize(
    ("family", "config", "cut", "found"),
    [
        ("llama", {}, "layers.1.self_attn.v_proj", "layers.1.self_attn.v_proj"),
        ("llama", {"target_modules": r".*\.[qv]_proj"}, "layers.1.", "layers.1.self_attn.q_proj"),
        ("llama", {"modules_to_save": ["norm"]}, "layers.0.input", "layers.0.input_layernorm"),
        ("biased", {"bias": "all"}, "layers.1.self_attn.o_proj.bias", "o_proj.bias"),
        ("biased", {"bias": "lora_only"}, "layers.0.self_attn.q_proj.base", "q_proj.bias"),
        ("mixtral", {"target_parameters": ["experts.down_proj"]}, "layers.1.mlp", "down_proj"),
    ],
)
def test_what_the_settings_name_in_the_base_must_have_weights(
    folders, tmp_path, family, config, cut, found
):
    folder = save_kind(folders(family), tmp_path, **config)
    assert problems(folders(family), folder) == []
    (problem,) = problems(folders(family), folder, cut)
    assert (problem.what, problem.code) == ("tensors missing", PARTIAL)
    assert found in problem.found


def test_a_name_that_the_base_has_not_either_is_fine(folders, tmp_path):
    base = folders("llama")
    folder = save_kind(base, tmp_path, target_modules=["q_proj", "c_attn"])
    assert problems(base, folder) == []
    assert problems(base, folder, target_modules=["q_proj", "o_proj"]) != []


def test_layers_that_the_settings_leave_out_need_no_weights(folders, tmp_path):
    base = folders("llama")
    assert problems(base, save_kind(base, tmp_path, layers_to_transform=[1])) == []


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"modules_to_save": ["lm_head"]}, "lm_head.weight"),
        ({"trainable_token_indices": [1, 319]}, "embed_tokens.weight: [320"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
    ],
)
def test_another_vocabulary_is_told(folders, tmp_path, config, found):
    folder = save_kind(folders("llama"), tmp_path, **config)
    (problem,) = problems(folders("llama", vocab_size=300), folder)
    assert (problem.what, problem.code) == ("tensors of another shape", PARTIAL)
    assert found in problem.found


def test_another_number_of_experts_is_another_base(folders, tmp_path):
    config = {"target_modules": [], "target_parameters": ["experts.down_proj"]}
    folder = save_kind(folders("mixtral"), tmp_path, **config)
    (problem,) = problems(folders("mixtral", intermediate_size=64), folder)
    assert (problem.what, problem.code) == ("adapter of another base", FOREIGN)
    assert "[3, 32, 48], not [3, 32, 64]" in problem.found


@pytest.mark.parametrize(
    ("family", "layout"), [("mixtral", "experts"), ("gpt-oss", "experts_transposed")]
)
def test_the_bases_shapes_tell_the_layout_that_peft_reads_from_its_code(
    folders, tmp_path, family, layout
):
    config = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    folder = save_kind(folders(family), tmp_path, **config)
    model = AutoModelForCausalLM.from_pretrained(folders(family))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    modules = open_checkpoint(folder).adapter.modules
    made = [module for module in laid_out(modules, shapes).values() if module.experts > 1]
    assert {module.layout for module in made} == {layout}
    assert len(made) == 4


class _Backwards(torch.nn.Module):
    """Experts that hold their second parameter first, as no model of transformers does."""

    def __init__(self):
        super().__init__()
        self.down_proj = torch.nn.Parameter(torch.randn(3, 8, 8))
        self.gate_up_proj = torch.nn.Parameter(torch.randn(3, 8, 8))

    def forward(self, x):
        return x @ self.gate_up_proj[0] @ self.down_proj[1]


def test_a_base_that_holds_its_parameters_in_another_order_is_told(tmp_path):
    model = torch.nn.ModuleDict({"experts": _Backwards()})
    names = ["experts.down_proj", "experts.gate_up_proj"]
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=[], target_parameters=names))
    wrapped.save_pretrained(tmp_path)
    bare = torch.nn.ModuleDict({"experts": _Backwards()})
    (problem,) = loaded(bare, tmp_path)
    assert "another order" in problem.found


# Names of tensors in a file, and what the loaded model calls them.


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


@pytest.mark.parametrize("family", ["mixtral", "qwen3-moe"])
def test_experts_that_a_file_keeps_apart_are_the_loaded_models_stacks(tmp_path, family):
    folder = write_base(tmp_path / "base", family)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert any(".experts.2." in name for name in tensors_of(folder))
    saved, loaded = read_change(model, folder).saved, model.state_dict()
    assert saved.keys() == loaded.keys()
    for name, tensor in loaded.items():
        assert torch.equal(saved[name], tensor)


@pytest.mark.parametrize(
    ("cut", "what", "found"),
    [
        ("experts.1.w3", "tensors without a place", "some of a stack are missing"),
        ("experts.2.", "tensors of another shape", "[2, 96, 32], not [3, 96, 32]"),
    ],
)
def test_an_expert_that_is_missing_is_reported(tmp_path, cut, what, found):
    folder = write_base(tmp_path / "base", "mixtral")
    model = AutoModelForCausalLM.from_pretrained(folder)
    path = folder / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if cut not in n}, path)
    with refused(what, where=str(folder), found=found):
        read_change(model, folder)
