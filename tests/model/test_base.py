"""Loading a base: what is kept, what is refused."""

import json
import shutil
import warnings

import pytest
import torch
from transformers.utils import logging

from helpers import refused, write_tiny_model
from mashup._score.scorer import model_key
from mashup.errors import UsageError
from mashup.model import load_base
from mashup.model.base import cpu_has_bfloat16, pick_dtype, quiet_transformers, slow_dtype


def test_a_base_knows_its_dtype_context_and_digest(tiny_base):
    base = load_base(tiny_base, dtype="float32")
    assert base.dtype == torch.float32
    assert base.context == 512
    assert base.digest == load_base(tiny_base, dtype="float32").digest
    assert base.digest != load_base(tiny_base, dtype="bfloat16").digest


def test_two_models_of_one_shape_have_different_digests(tiny_base, tmp_path, tokenizer):
    other = write_tiny_model(tmp_path / "other", tokenizer, seed=1)
    assert load_base(tiny_base).digest != load_base(other).digest


def test_a_changed_setting_changes_the_digest_and_a_changed_path_does_not(tiny_base, tmp_path):
    before = load_base(tiny_base).digest
    shutil.copytree(tiny_base, tmp_path / "copy")
    assert load_base(tmp_path / "copy").digest == before
    path = tmp_path / "copy/config.json"
    path.write_text(path.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-03'))
    assert load_base(tmp_path / "copy").digest != before


def test_one_changed_weight_changes_the_digest(tiny_base):
    from mashup.model.base import weights_digest

    base = load_base(tiny_base)
    before = base.digest
    with torch.no_grad():
        base.model.model.layers[1].mlp.up_proj.weight[3, 5] += 1
    assert weights_digest(base.model) != before


def test_a_missing_base_is_refused(tmp_path):
    with refused("no such base model", where="nothing"):
        load_base(tmp_path / "nothing")


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2000])


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil(folder / "ran")}, folder / "pytorch_model.bin")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def long_by_text(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": [4096]}))


@pytest.mark.parametrize(
    ("damage", "title", "found"),
    [
        (long_by_text, "damaged tokenizer", "model_max_length [4096]"),
        (cut, "cannot load base model", "header"),
        (pickled, "cannot load base model", "Weights only load failed"),
        ({"vocab_size": "32"}, "cannot load base model", "expected int, got str"),
        ({"pad_token_id": 10**6}, "cannot load base model", "Padding_idx"),
        ({"hidden_act": float("nan")}, "cannot load base model", "hidden_act"),
        ({"auto_map": 1}, "cannot load base model", "int"),
        ({"intermediate_size": 99}, "base model is incomplete", "(32, 99) by config.json"),
        ({"num_hidden_layers": 3}, "base model is incomplete", "layers.2"),
        ({"num_hidden_layers": 10**30}, "cannot load base model", "num_hidden_layers: 1e+30"),
        ({"text_config": {"num_experts": 10**6}}, "cannot load base model", "num_experts"),
        ({"model_type": "bert"}, "base model is incomplete", "not in the files"),
    ],
)
def test_a_damaged_base_is_refused(tiny_base, tmp_path, damage, title, found):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    if callable(damage):
        damage(folder)
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | damage))
    with refused(title, where="base", found=found):
        load_base(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_a_usage_error(tiny_base, device):
    with pytest.raises(UsageError, match="no such device"):
        load_base(tiny_base, device=device)


def test_attention_is_as_asked_and_no_other_base(tiny_base):
    plain, asked = load_base(tiny_base), load_base(tiny_base, attn_implementation="eager")
    assert asked.model.config._attn_implementation == "eager"
    assert plain.model.config._attn_implementation == "sdpa"
    assert asked.digest == plain.digest
    assert (plain.asked, asked.asked) == ({}, {"attention": "eager"})
    assert model_key(plain, "") != model_key(asked, "")


def test_attention_that_cannot_be_is_told_with_the_way_out(tiny_base):
    with refused("cannot attend like that", where="`attn_implementation` nonsense"):
        load_base(tiny_base, attn_implementation="nonsense")


def test_remote_code_is_never_on_by_itself(tmp_path, tiny_base):
    (tmp_path / "m").mkdir()
    for path in tiny_base.iterdir():
        (tmp_path / "m" / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "m/config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.EvilConfig"}}
    config["model_type"] = "evil"
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    marker = tmp_path / "ran"
    (tmp_path / "m/evil.py").write_text(f"open({str(marker)!r}, 'w').write('x')\n")
    with refused("base model wants to run its own code"):
        load_base(tmp_path / "m")
    assert not marker.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about the CPU")
def test_the_cpu_computes_in_bfloat16_only_where_it_does_so_natively():
    native = pick_dtype(torch.device("cpu")) == torch.bfloat16
    assert native == cpu_has_bfloat16()


def test_who_asks_for_bfloat16_where_it_is_slow_reads_so(monkeypatch):
    monkeypatch.setattr("mashup.model.base.cpu_has_bfloat16", lambda: False)
    assert "slower than float32" in slow_dtype("bfloat16", "cpu")
    assert slow_dtype("auto", "cpu") == slow_dtype("float32", "cpu") == ""
    monkeypatch.setattr("mashup.model.base.cpu_has_bfloat16", lambda: True)
    assert slow_dtype("bfloat16", "cpu") == ""


# Silence is temporary.


def test_levels_bars_and_warnings_come_back():
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
        warnings.warn("not seen", UserWarning, stacklevel=1)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", UserWarning, stacklevel=1)


def test_a_model_in_memory_brings_the_processor_of_its_folder(tmp_path, tiny_base):
    from transformers import AutoModelForImageTextToText

    from pictures import write_sighted

    folder = write_sighted(tmp_path / "llava", "llava")
    base = load_base(AutoModelForImageTextToText.from_pretrained(folder))
    assert base.sees
    assert type(base.processor("row 1")).__name__ == "LlavaProcessor"
    assert not load_base(tiny_base).sees
