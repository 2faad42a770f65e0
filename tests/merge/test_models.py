"""Merged full checkpoints in transformers: files, types, ties, and the logits of the exact mean."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from lora import some_ids
from mashup import merge
from wholes import relative_of, same_bits, tensors_of


@pytest.fixture(params=["untied", "tied"])
def base(request, tiny_base, tied_base):
    return tiny_base if request.param == "untied" else tied_base


def logits(folder, tensors=None):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if tensors:
        model.load_state_dict(tensors, strict=False)
    with torch.no_grad():
        return model.eval()(some_ids()).logits


def mean_of(folders):
    all_tensors = [tensors_of(folder) for folder in folders]
    return {
        n: torch.stack([one[n].double() for one in all_tensors]).mean(0) for n in all_tensors[0]
    }


@pytest.mark.parametrize("shard_size", [1000.0, 2e-5], ids=["one file", "shards"])
def test_the_logits_are_those_of_the_exact_mean(base, tmp_path, shard_size):
    parents = [relative_of(base, tmp_path / n, seed=s) for s, n in enumerate("abc")]
    init = merge(parents, output=tmp_path / "m", accept_base=True, shard_size=shard_size)
    assert_close(logits(init.path), logits(base, mean_of(parents)), rtol=1e-5, atol=1e-6)
    assert tensors_of(init.path).keys() == tensors_of(base).keys()
    assert init.manifest["fingerprint"]["hidden_size"] == 32
    names = {path.name for path in init.path.iterdir()}
    assert ("model.safetensors.index.json" in names) == (shard_size == 2e-5)


def test_shards_of_parents_and_the_index_of_the_result(tiny_base, tmp_path):
    parents = []
    for seed, name in enumerate("ab"):
        whole = AutoModelForCausalLM.from_pretrained(
            relative_of(tiny_base, tmp_path / name, seed=seed)
        )
        whole.save_pretrained(tmp_path / f"{name}-shards", max_shard_size="30KB")
        parents.append(tmp_path / f"{name}-shards")
    one = merge(parents, output=tmp_path / "m", accept_base=True)
    many = merge(parents, output=tmp_path / "n", accept_base=True, shard_size=3e-5)
    assert same_bits(tensors_of(one.path), tensors_of(many.path))
    index = json.loads((many.path / "model.safetensors.index.json").read_text())
    tensors = tensors_of(many.path)
    assert index["weight_map"].keys() == tensors.keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    files = sorted(many.path.glob("model-*.safetensors"))
    assert {path.name for path in files} == set(index["weight_map"].values())
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert all(path.stat().st_size < 30_000 + 12_000 for path in files)  # data and header


def test_bfloat16_stays_bfloat16_and_is_rounded_once(tiny_base, tmp_path):
    parents = [
        relative_of(tiny_base, tmp_path / n, seed=s, dtype=torch.bfloat16)
        for s, n in enumerate("ab")
    ]
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    rounded = {n: t.to(torch.bfloat16) for n, t in mean_of(parents).items()}
    assert same_bits(tensors_of(init.path), rounded)
    assert AutoModelForCausalLM.from_pretrained(init.path).dtype == torch.bfloat16


def test_types_that_differ_within_a_model_are_kept_and_between_models_the_wider_wins(
    tiny_base, tmp_path
):
    def mixed(folder, norms):
        tensors = tensors_of(folder)
        typed = {n: t.to(norms if "norm" in n else torch.bfloat16) for n, t in tensors.items()}
        save_file(typed, folder / "model.safetensors")
        return folder

    one = mixed(relative_of(tiny_base, tmp_path / "a", seed=1), torch.float32)
    two = mixed(relative_of(tiny_base, tmp_path / "b", seed=2), torch.bfloat16)
    for given in ([one, two], [two, one]):
        init = merge(given, output=tmp_path / given[0].name / "m", accept_base=True)
        found = {n: t.dtype for n, t in tensors_of(init.path).items()}
        assert {found[n] for n in found if "norm" in n} == {torch.float32}
        assert {found[n] for n in found if "norm" not in n} == {torch.bfloat16}


def test_dtype_is_what_was_asked_for(tiny_base, tmp_path):
    parents = [relative_of(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    init = merge(parents, output=tmp_path / "m", accept_base=True, dtype="bfloat16")
    assert {t.dtype for t in tensors_of(init.path).values()} == {torch.bfloat16}
    assert json.loads((init.path / "config.json").read_text())["dtype"] == "bfloat16"


def test_integers_are_copied(tiny_base, tmp_path):
    parents = []
    for seed, name in enumerate("ab"):
        folder = relative_of(tiny_base, tmp_path / name, seed=seed)
        counter = {"model.steps": torch.tensor([1, 2, 1 << 40])}
        save_file(tensors_of(folder) | counter, folder / "model.safetensors")
        parents.append(folder)
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    assert tensors_of(init.path)["model.steps"].tolist() == [1, 2, 1 << 40]
