"""Merges of full checkpoints: to the bit where that can be, whatever the order and the files."""

import shutil

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from deltas import merged, noise
from helpers import Q_PROJ, refused, write_adapter
from lora import some_ids
from mashup import merge
from mashup._merge.changes import CHUNK
from mashup._merge.methods import METHODS
from mashup._merge.shards import ShardWriter
from mashup.delta import read_delta
from wholes import relative_of, same_bits, tensors_of, write_whole

MEASURED = ("greedy_soup", "factor_average")  # needs a model; LoRAs only
WHOLE = [name for name in METHODS if name not in MEASURED]
RANDOM = [name for name in WHOLE if "seed" in METHODS[name].takes]
MEANS = ["linear", "task_arithmetic"]


def count(method):
    """As many parents as a method takes, three at most."""
    return min(3, METHODS[method].parents[1])


@pytest.fixture(scope="module")
def parents(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parents")
    return [relative_of(tiny_base, folder / str(n), seed=n) for n in range(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", MEANS)
def test_one_parent_of_weight_one_comes_back_to_the_bit(tiny_base, tmp_path, method, dtype):
    parent = relative_of(tiny_base, tmp_path / "a", seed=1, dtype=dtype)
    expected = tensors_of(parent)
    found = merge([parent], output=tmp_path / "m", method=method, weights=[1.0], accept_base=True)
    assert same_bits(tensors_of(found.path), expected)
    based = merge([parent], output=tmp_path / "n", method=method, base=tiny_base, accept_base=True)
    if dtype in (torch.float32, torch.float64):  # else the base is the wider of the two
        assert same_bits(tensors_of(based.path), expected)


@pytest.mark.parametrize("method", MEANS)
def test_special_numbers_come_back_to_the_bit_as_well(tiny_base, tmp_path, method):
    tensors = tensors_of(tiny_base)
    odd = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38])
    tensors["model.norm.weight"][: len(odd)] = odd
    parent = write_whole(tmp_path / "a", tensors, tiny_base)
    init = merge([parent], output=tmp_path / "m", method=method, base=tiny_base, accept_base=True)
    assert same_bits(tensors_of(init.path), tensors)


@pytest.mark.parametrize("method", WHOLE)
def test_neither_order_nor_files_matter_to_a_byte(tiny_base, parents, tmp_path, method):
    some, weights = parents[: count(method)], [0.5, 0.3, 0.7][: count(method)]
    given = {"base": tiny_base, "method": method, "accept_base": True}
    forth = merge(some, output=tmp_path / "m", weights=weights, **given)
    back = merge(some[::-1], output=tmp_path / "n", weights=weights[::-1], shard_size=2e-5, **given)
    assert len(list(back.path.glob("*.safetensors"))) > 2
    assert same_bits(tensors_of(forth.path), tensors_of(back.path))


@pytest.mark.parametrize("method", WHOLE)
def test_threads_do_not_matter_to_a_byte(tiny_base, parents, tmp_path, method):
    given = {"base": tiny_base, "method": method, "accept_base": True}
    made, before = [], torch.get_num_threads()
    for threads in (1, 4):
        torch.set_num_threads(threads)
        out = tmp_path / str(threads)
        made.append(merge(parents[: count(method)], output=out, **given).path)
    torch.set_num_threads(before)
    assert same_bits(*map(tensors_of, made))


def test_parents_that_differ_where_no_digest_looks_have_no_order_either(tiny_base, tmp_path):
    tensors = tensors_of(tiny_base)
    folders = []
    for n in range(3):
        tensors["model.embed_tokens.weight"][0] = torch.randn(32) * 10.0**n
        folders.append(write_whole(tmp_path / str(n), tensors, tiny_base))
    forth = merge(folders, output=tmp_path / "m", accept_base=True)
    back = merge(folders[::-1], output=tmp_path / "n", accept_base=True)
    assert same_bits(tensors_of(forth.path), tensors_of(back.path))


@pytest.mark.parametrize("method", WHOLE)
def test_the_seed_decides_random_methods_and_no_others(tiny_base, parents, tmp_path, method):
    given = {"base": tiny_base, "method": method, "accept_base": True}
    some = parents[: count(method)]
    one, again, other = (
        tensors_of(merge(some, output=tmp_path / str(n), seed=seed, **given).path)
        for n, seed in enumerate((1, 1, 2))
    )
    assert same_bits(one, again)
    assert same_bits(one, other) == (method not in RANDOM)


def test_a_seed_depends_on_content_and_not_on_the_folders_name(tiny_base, parents, tmp_path):
    copied = shutil.copytree(parents[0], tmp_path / "copy")
    given = {"base": tiny_base, "method": "dare_linear", "accept_base": True}
    one, other = (
        merge([folder, parents[1]], output=tmp_path / str(n), **given)
        for n, folder in enumerate((parents[0], copied))
    )
    assert same_bits(tensors_of(one.path), tensors_of(other.path))


def test_a_merge_saved_and_loaded_is_the_same_model(tiny_base, parents, tmp_path):
    init = merge(parents, output=tmp_path / "m", accept_base=True, shard_size=3e-5)
    model = AutoModelForCausalLM.from_pretrained(init.path)
    model.save_pretrained(tmp_path / "again")
    assert same_bits(tensors_of(tmp_path / "again"), tensors_of(init.path))
    once_more = merge([init.path], output=tmp_path / "n", accept_base=True)
    assert same_bits(tensors_of(once_more.path), tensors_of(init.path))
    with torch.no_grad():
        assert bool(model(some_ids()).logits.isfinite().all())


@pytest.mark.parametrize(
    ("number", "stored", "written"),
    [
        (1e300, torch.float64, "float32"),
        (1e39, torch.float64, "bfloat16"),
        (3.402e38, torch.float32, "bfloat16"),
        (7e4, torch.float32, "float16"),
    ],
)
def test_numbers_that_the_written_type_cannot_hold_are_refused(
    tiny_base, tmp_path, number, stored, written
):
    tensors = tensors_of(relative_of(tiny_base, tmp_path / "tmp", seed=1, dtype=stored))
    tensors["model.norm.weight"][3] = number
    parent = write_whole(tmp_path / "a", tensors, tiny_base)
    with refused("result is not finite", where="model.norm.weight"):
        merge([parent], output=tmp_path / "m", accept_base=True, dtype=written)


@pytest.mark.parametrize("given", [{"scale": 1e-10}, {"weights": [1e-10]}])
def test_a_tiny_weight_counts(tiny_base, tmp_path, given):
    """What is close to zero is dropped only where it is left over from weights that sum to one."""
    adapter = write_adapter(tmp_path / "a", alpha=4e8, modules={Q_PROJ: (32, 32)})
    options = {"base": tiny_base, "accept_base": True, "output_kind": "full", "dtype": "float32"}
    (factors,) = read_delta(adapter).modules.values()
    found = merge([adapter], output=tmp_path / "m", **options, **given)
    change = tensors_of(found.path)[f"{Q_PROJ}.weight"] - tensors_of(tiny_base)[f"{Q_PROJ}.weight"]
    torch.testing.assert_close(change, 1e-10 * factors.dense(), rtol=1e-3, atol=1e-6)
    assert change.abs().max() > 1e-3


def test_weights_that_sum_to_one_but_for_rounding_need_no_base(tiny_base, tmp_path):
    parents = [relative_of(tiny_base, tmp_path / str(n), seed=n) for n in range(3)]
    given = {"weights": [0.1, 0.2, 0.7 + 1e-12], "accept_base": True}
    alone = merge(parents, output=tmp_path / "m", **given)
    based = merge(parents, output=tmp_path / "n", base=tiny_base, **given)
    assert same_bits(tensors_of(alone.path), tensors_of(based.path))
    wrong = {"weights": [0.1, 0.2, 0.7001], "accept_base": True}
    with refused("base model is needed"):
        merge(parents, output=tmp_path / "o", **wrong)


@pytest.fixture
def wide(tiny_base, tmp_path):
    """Relatives of a base that has one tensor of a single long row, and codes of another one."""
    long = {"model.long": noise(1, 1_300_000), "model.codes": torch.arange(1_300_000)}
    base = write_whole(tmp_path / "base", tensors_of(tiny_base) | long, tiny_base)
    changed = [
        tensors_of(base) | {"model.long": long["model.long"] + noise(1, 1_300_000, seed=n) / 9}
        for n in (1, 2)
    ]
    return base, [write_whole(tmp_path / f"w{n}", one, base) for n, one in enumerate(changed)]


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "breadcrumbs", "slerp"])
def test_a_long_row_is_merged_in_pieces(wide, tmp_path, monkeypatch, method):
    base, parents = wide
    sizes = []

    def write(self, name, start, rows, before=ShardWriter.write):
        sizes.append(rows.numel())
        before(self, name, start, rows)

    monkeypatch.setattr(ShardWriter, "write", write)
    given = {"base": base, "method": method, "accept_base": True}
    found = tensors_of(merge(parents, output=tmp_path / "m", **given).path)
    assert max(sizes) <= CHUNK
    origin = tensors_of(base)
    deltas = [(tensors_of(p)["model.long"] - origin["model.long"]).flatten() for p in parents]
    wanted = merged(method, deltas, None if METHODS[method].sums else [0.5, 0.5])
    assert_close((found["model.long"] - origin["model.long"]).flatten(), wanted, atol=1e-6, rtol=0)
    assert torch.equal(found["model.codes"], origin["model.codes"])
