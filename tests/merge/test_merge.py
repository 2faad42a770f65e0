"""Merging folders: what is written computes what it says."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from helpers import Q_PROJ, full_disk, refused, write_adapter, write_full
from lora import peft_logits, save_lora, some_ids
from mashup import UsageError, load_base, merge
from mashup.delta import read_delta
from mashup.errors import OutputError

_CONFIGS = {
    "alpha is not the rank": {"lora_alpha": 12},
    "rsLoRA": {"use_rslora": True},
    "rank and alpha patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "all linear layers": {"target_modules": "all-linear"},
    "some layers": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "a pattern": {"target_modules": r".*layers\.0\..*(q_proj|up_proj)"},
}


@pytest.mark.parametrize("config", _CONFIGS.values(), ids=_CONFIGS.keys())
@pytest.mark.parametrize("factors", ["rotated", "initialised", "balanced"])
def test_one_adapter_with_weight_one_gives_back_its_own_logits(
    tiny_base, tmp_path, config, factors
):
    folder = save_lora(tiny_base, tmp_path / "a", **config)
    init = merge([folder], output=tmp_path / "m", weights=[1.0], factors=factors)
    ids = some_ids()
    expected, found = (peft_logits(tiny_base, path, ids) for path in (folder, init.path))
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


def dense(folder):
    return {name: f.dense() for name, f in read_delta(folder, torch.float64).modules.items()}


def relative(found, expected):
    """Frobenius distance over all modules, relative to ``expected``."""
    error = sum(float((found[n] - expected[n]).norm() ** 2) for n in expected)
    return (error / sum(float(d.norm() ** 2) for d in expected.values())) ** 0.5


@pytest.mark.parametrize("second", [{"r": 7, "lora_alpha": 3}, {"use_rslora": True}, {}])
def test_a_merge_of_two_is_the_mean_of_the_two_deltas(tiny_base, tmp_path, second):
    one = save_lora(tiny_base, tmp_path / "a", seed=1)
    two = save_lora(tiny_base, tmp_path / "b", seed=2, **second)
    init = merge([one, two], output=tmp_path / "m")
    first, other = dense(one), dense(two)
    mean = {name: (first[name] + other[name]) / 2 for name in first}
    assert relative(dense(init.path), mean) < 1e-5
    assert init.manifest["kept_energy"] == pytest.approx(1.0)
    assert init.manifest["relative_error"] == pytest.approx(0.0, abs=1e-6)


def test_a_module_that_a_parent_lacks_is_a_zero_delta_and_is_reported(tiny_base, tmp_path):
    one = save_lora(tiny_base, tmp_path / "a", target_modules=["q_proj"])
    two = save_lora(tiny_base, tmp_path / "b", target_modules=["q_proj", "up_proj"])
    init = merge([one, two], output=tmp_path / "m")
    first, other = dense(one), dense(two)
    mean = {n: (first.get(n, torch.zeros_like(d)) + d) / 2 for n, d in other.items()}
    assert relative(dense(init.path), mean) < 1e-5
    assert sorted(p["coverage"] for p in init.manifest["parents"]) == [0.5, 1.0]
    assert peft_logits(tiny_base, init.path, some_ids()).isfinite().all()


def test_the_order_of_parents_does_not_matter_to_a_single_byte(tiny_base, tmp_path):
    one, two = (save_lora(tiny_base, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 2)))
    forth = merge([one, two], output=tmp_path / "m", weights=[0.3, 0.7])
    back = merge([two, one], output=tmp_path / "n", weights=[0.7, 0.3])
    name = "adapter_model.safetensors"
    assert (forth.path / name).read_bytes() == (back.path / name).read_bytes()


def test_merging_again_and_again_changes_nothing(tiny_base, tmp_path):
    folder = save_lora(tiny_base, tmp_path / "a")
    expected = dense(folder)
    for n in range(3):
        folder = merge([folder], output=tmp_path / str(n), weights=[1.0]).path
    assert relative(dense(folder), expected) < 1e-5


@pytest.mark.parametrize(
    ("rank", "resolved"), [("sum", 8), ("max", 4), (3, 3), ("energy=0.9", None)]
)
def test_ranks(tiny_base, tmp_path, rank, resolved):
    one, two = (save_lora(tiny_base, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 2)))
    init = merge([one, two], output=tmp_path / "m", rank=rank)
    about = init.manifest
    first, other = dense(one), dense(two)
    mean = {name: (first[name] + other[name]) / 2 for name in first}
    error = relative(dense(init.path), mean)
    assert error == pytest.approx(about["relative_error"], abs=1e-5)
    assert error**2 == pytest.approx(1 - about["kept_energy"], abs=1e-5)
    if resolved:
        assert about["resolved_rank"] == resolved
    else:
        assert about["kept_energy"] >= 0.9
        smaller = merge([one, two], output=tmp_path / "s", rank=about["resolved_rank"] - 1)
        assert smaller.manifest["kept_energy"] < 0.9


def test_a_rank_wider_than_a_module_is_cut_there(tmp_path):
    narrow = {Q_PROJ: (16, 4), "model.layers.0.mlp.up_proj": (16, 16)}
    one, two = (
        write_adapter(tmp_path / n, modules=narrow, seed=s) for n, s in (("a", 1), ("b", 2))
    )
    init = merge([one, two], output=tmp_path / "m")
    first, other = dense(one), dense(two)
    assert relative(dense(init.path), {n: (first[n] + other[n]) / 2 for n in first}) < 1e-5
    assert read_delta(init.path).modules[Q_PROJ].rank == 4


@pytest.mark.parametrize(
    "rank", ["none", "0", "-3", "energy=0", "energy=2", "energy=x", "1.5", "²"]
)
def test_impossible_ranks_are_refused_and_nothing_is_written(tmp_path, rank):
    folder = write_adapter(tmp_path / "a")
    with pytest.raises(UsageError, match="bad setting: `rank`"):
        merge([folder], output=tmp_path / "m", rank=rank)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [float("nan"), 1.0], [1.0, 2.0, 3.0]])
def test_impossible_weights_are_refused(tmp_path, weights):
    folders = [write_adapter(tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 2))]
    with pytest.raises(UsageError, match="weights"):
        merge(folders, output=tmp_path / "m", weights=weights)


@pytest.mark.parametrize(
    "config",
    [{"use_rslora": True}, {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"down_proj": 40}}],
)
def test_factor_average_of_one_gives_back_its_logits_whatever_its_scales(
    tiny_base, tmp_path, config
):
    folder = save_lora(tiny_base, tmp_path / "a", **config)
    init = merge([folder], output=tmp_path / "m", weights=[1.0], method="factor_average")
    found, expected = (peft_logits(tiny_base, p, some_ids()) for p in (init.path, folder))
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_factor_average_is_the_average_of_a_and_of_b(tiny_base, tmp_path):
    one, two = (save_lora(tiny_base, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 2)))
    init = merge([one, two], output=tmp_path / "m", method="factor_average")
    found, first, other = (
        load_file(p / "adapter_model.safetensors") for p in (init.path, one, two)
    )
    for name, tensor in found.items():
        assert_close(tensor, (first[name] + other[name]) / 2)
    mean = {n: (d + dense(two)[n]) / 2 for n, d in dense(one).items()}
    error = relative(dense(init.path), mean)
    assert init.manifest["relative_error"] == pytest.approx(error, rel=1e-4)
    assert init.manifest["kept_energy"] is None
    assert error > 0.1  # it is not the mean of the deltas, and says so


@pytest.mark.parametrize("second", [{"rank": 5}, {"alpha": 3}, {"modules": {"other": (16, 16)}}])
def test_factor_average_of_unlike_parents_is_refused(tmp_path, second):
    folders = [write_adapter(tmp_path / "a"), write_adapter(tmp_path / "b", seed=1, **second)]
    with refused("cannot average factors"):
        merge(folders, output=tmp_path / "m", method="factor_average")


def test_the_folder_is_complete(tiny_base, tmp_path):
    one = save_lora(tiny_base, tmp_path / "a")
    base = load_base(tiny_base)
    init = merge([one], output=tmp_path / "m", base=base)
    names = {path.name for path in init.path.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "mashup.json"} < names
    assert {"README.md", "tokenizer.json", "chat_template.jinja"} < names
    card = (init.path / "README.md").read_text()
    assert card.startswith("---\n# base_model is left out")  # it is a folder
    assert init.manifest["parents"][0]["digest"][:12] in card
    assert json.loads((init.path / "mashup.json").read_text()) == init.manifest


def test_without_a_base_the_parents_tokenizer_is_carried(tiny_base, tmp_path, tokenizer):
    one = save_lora(tiny_base, tmp_path / "a")
    tokenizer.save_pretrained(one)
    init = merge([one], output=tmp_path / "m")
    assert (init.path / "tokenizer.json").read_bytes() == (one / "tokenizer.json").read_bytes()


def test_bfloat16_is_cast_once(tiny_base, tmp_path):
    one = save_lora(tiny_base, tmp_path / "a")
    whole = load_file(merge([one], output=tmp_path / "m").path / "adapter_model.safetensors")
    half = merge([one], output=tmp_path / "n", dtype="bfloat16").path / "adapter_model.safetensors"
    for name, tensor in load_file(half).items():
        assert_close(tensor.float(), whole[name], rtol=2**-8, atol=1e-6)
    about = merge([one], output=tmp_path / "o", dtype="bfloat16").manifest
    error = relative(dense(tmp_path / "o"), dense(one))
    assert 1e-3 < error < 1e-2
    assert about["relative_error"] == pytest.approx(error, rel=0.01)


def test_a_result_that_the_dtype_cannot_hold_is_refused(tmp_path):
    folder = write_adapter(tmp_path / "a", alpha=1)
    with refused("result is not finite"):
        merge([folder], output=tmp_path / "m", weights=[1e9], dtype="float16")
    assert not (tmp_path / "m").exists()


def zeroed(folder):
    from safetensors.torch import save_file

    path = folder / "adapter_model.safetensors"
    save_file({n: t * ("lora_A" in n) for n, t in load_file(path).items()}, path)
    return folder


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda p: write_adapter(p, base="owner/other"), "adapter of another base"),
        (lambda p: write_adapter(p, base=""), "base model not named"),
        (lambda p: write_adapter(p, modules={Q_PROJ: (8, 16)}), "checkpoints of different bases"),
        (lambda p: write_adapter(p, use_dora=True), "not a plain LoRA"),
        (lambda p: zeroed(write_adapter(p)), "adapter changes nothing"),
        (write_full, "base model not named"),
    ],
)
def test_parents_that_do_not_go_together_are_refused_and_nothing_is_written(tmp_path, make, what):
    good, bad = write_adapter(tmp_path / "a"), make(tmp_path / "b")
    with refused(what, where=str(bad)):
        merge([good, bad], output=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_parents_of_two_bases_are_told_what_to_do_with_and_without_a_base(tiny_base, tmp_path):
    folders = [write_adapter(tmp_path / "a"), write_adapter(tmp_path / "b", base="owner/other")]
    with refused("adapter of another base", where="/b", found="owner/other") as caught:
        merge(folders, output=tmp_path / "m")
    assert "merge checkpoints of one base" in caught.value.problems[0].fix
    with refused("adapter of another base", where="/b") as caught:
        merge(folders, output=tmp_path / "m", base=tiny_base)
    assert "give the base that it names" in caught.value.problems[0].fix


def test_all_broken_parents_are_named_at_once(tmp_path):
    bad = [write_adapter(tmp_path / n, use_dora=True) for n in "ab"]
    with pytest.raises(ValueError, match=r"(?s)/a.*/b"):
        merge(bad, output=tmp_path / "m")


def test_an_output_that_exists_is_never_touched(tmp_path):
    folder = write_adapter(tmp_path / "a")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/mine").write_text("x")
    with refused("output exists already"):
        merge([folder], output=tmp_path / "m")
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["mine"]


def test_a_full_disk_leaves_nothing(tmp_path):
    folder = write_adapter(tmp_path / "a")
    with full_disk(), pytest.raises(OutputError, match="could not write"):
        merge([folder], output=tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_nothing_to_merge():
    with pytest.raises(UsageError, match="nothing to merge"):
        merge([], output="nowhere")


def test_a_copy_of_a_parent_is_dropped_from_at_random_as_another(tmp_path):
    one = write_adapter(tmp_path / "a")
    shutil.copytree(one, tmp_path / "b")
    given = {"method": "dare_linear", "rank": 16}
    alone = merge([one], output=tmp_path / "m", **given).path
    twice = merge([one, tmp_path / "b"], output=tmp_path / "n", **given).path
    turned = merge([tmp_path / "b", one], output=tmp_path / "o", **given).path
    assert not torch.allclose(dense(alone)[Q_PROJ], dense(twice)[Q_PROJ])
    assert torch.equal(dense(turned)[Q_PROJ], dense(twice)[Q_PROJ])


def test_a_merge_that_would_be_the_base_is_refused(tmp_path):
    one = write_adapter(tmp_path / "a", seed=1)
    two = write_adapter(tmp_path / "b", modules={Q_PROJ.replace("q_proj", "v_proj"): (16, 16)})
    with refused("merge changes nothing", where="model_stock"):
        merge([one, two], output=tmp_path / "m", method="model_stock")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_manifest_tells_the_written_type(tmp_path, dtype):
    one = write_adapter(tmp_path / "a")
    assert merge([one], output=tmp_path / "m", dtype=dtype).manifest["dtype"] == dtype
