"""Both ways: a tensor without a place and a place without a tensor are errors, or are recorded."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from helpers import refused, write_json
from lora import save_lora
from mashup import InputError, load_base, merge
from wholes import relative_of, tensors_of, write_whole

NORM = "model.norm.weight"


def changed(folder, change):
    tensors = tensors_of(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


_CASES = {
    "unused": (
        "tensors without a place",
        lambda t: t.update({"model.more.weight": torch.ones(4)}),
    ),
    "missing": ("tensors missing", lambda t: t.pop(NORM)),
    "misshapen": ("tensors of another shape", lambda t: t.update({NORM: t[NORM][:16].clone()})),
}


@pytest.mark.parametrize(("kind", "case"), _CASES.items(), ids=_CASES)
def test_what_does_not_fit_is_an_error_or_stands_in_the_manifest(tiny_base, tmp_path, kind, case):
    what, change = case
    good = relative_of(tiny_base, tmp_path / "a", seed=1)
    bad = changed(relative_of(tiny_base, tmp_path / "b", seed=2), change)
    given = {"base": tiny_base, "accept_base": True}
    with refused(what, where=str(bad), found="1, the first model."):
        merge([good, bad], output=tmp_path / "m", **given)
    init = merge([good, bad], output=tmp_path / "m", allow_partial=True, **given)
    (partial,) = init.manifest["partial"].values()
    assert [key for key, names in partial.items() if names] == [kind]
    one, two, known, found = map(tensors_of, (good, bad, tiny_base, init.path))
    assert found.keys() == known.keys()
    assert_close(found["lm_head.weight"], (one["lm_head.weight"] + two["lm_head.weight"]) / 2)
    norm = two[NORM] if kind == "unused" else known[NORM]
    assert_close(found[NORM], (one[NORM] + norm) / 2)


def test_all_misfits_of_all_parents_are_told_at_once(tiny_base, tmp_path):
    parents = [
        changed(relative_of(tiny_base, tmp_path / kind, seed=1), change)
        for kind, (_, change) in _CASES.items()
    ]
    with pytest.raises(InputError) as caught:
        merge(parents, output=tmp_path / "m", base=tiny_base, accept_base=True)
    assert {p.what for p in caught.value.problems} == {what for what, _ in _CASES.values()}


def test_a_lora_for_modules_that_the_model_lacks(tiny_base, tmp_path):
    lora = save_lora(tiny_base, tmp_path / "a", target_modules=["q_proj"])
    thin = changed(
        relative_of(tiny_base, tmp_path / "thin", seed=1, size=0),
        lambda t: [t.pop(name) for name in list(t) if "layers.1." in name],
    )
    given = {"output": tmp_path / "m", "base": thin, "output_kind": "full", "accept_base": True}
    with refused("tensors without a place", found="model.layers.1.self_attn.q_proj.weight"):
        merge([lora], **given)


def test_buffers_that_are_computed_are_no_matter(tiny_base, tmp_path):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    old = changed(
        relative_of(tiny_base, tmp_path / "a", seed=1), lambda t: t.update({name: torch.ones(4)})
    )
    new = relative_of(tiny_base, tmp_path / "b", seed=2)
    init = merge([old, new], output=tmp_path / "m", base=tiny_base, accept_base=True)
    assert "partial" not in init.manifest


def test_a_base_in_four_bits_is_warned_of(tiny_base, tmp_path):
    lora = save_lora(tiny_base, tmp_path / "a")
    config = json.loads((lora / "adapter_config.json").read_text())
    name = "unsloth/Tiny-bnb-4bit"
    write_json(lora / "adapter_config.json", config | {"base_model_name_or_path": name})
    init = merge([lora], output=tmp_path / "m", weights=[1.0])
    (note,) = init.manifest["notes"]
    assert str(lora) in note
    assert "quantised base (unsloth/Tiny-bnb-4bit)" in note


def reconfigured(base, folder, **config):
    """The base with other settings; ``num_hidden_layers`` cuts its file as well."""
    layers = config.get("num_hidden_layers", 2)
    tensors = {n: t for n, t in tensors_of(base).items() if f"layers.{layers}." not in n}
    before = json.loads((base / "config.json").read_text())
    write_json(write_whole(folder, tensors, base) / "config.json", before | config)
    return folder


@pytest.fixture
def loras(tiny_base, tmp_path):
    return [save_lora(tiny_base, tmp_path / f"lora{n}", seed=n) for n in range(2)]


@pytest.mark.parametrize("loaded", [False, True])
def test_loras_are_compared_with_a_base_that_is_given(tiny_base, loras, tmp_path, loaded):
    thin = reconfigured(tiny_base, tmp_path / "thin" / tiny_base.name, num_hidden_layers=1)
    given = {"output": tmp_path / "m", "base": load_base(thin) if loaded else thin}
    with refused("tensors without a place", found="3, the first model.layers.1.") as caught:
        merge(loras, **given)
    assert len(caught.value.problems) == 2  # one a parent
    assert not (tmp_path / "m").exists()
    init = merge(loras, allow_partial=True, **given)
    assert not any("layers.1." in name for name in tensors_of(init.path))
    assert all(len(one["unused"]) == 3 for one in init.manifest["partial"].values())


def test_a_base_whose_file_has_other_names_than_the_model(seeing_base, tmp_path):
    loras = [save_lora(seeing_base, tmp_path / f"s{n}", seed=n) for n in range(2)]
    assert merge(loras, output=tmp_path / "m", base=seeing_base).manifest["modules"] == 8


def test_a_quantised_base_is_compared_by_its_settings(tiny_base, loras, tmp_path):
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    base = reconfigured(tiny_base, tmp_path / "q" / tiny_base.name, **quantised)
    merge(loras, output=tmp_path / "m", base=base)
    wide = reconfigured(tiny_base, tmp_path / "w" / tiny_base.name, **quantised, hidden_size=64)
    with refused("adapter of another base", found="layers.0"):
        merge(loras, output=tmp_path / "n", base=wide)
