"""``mashup check``: what a merge would refuse is told, without merging, all at once."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import trees
from helpers import Q_PROJ, assert_problem, refused, write_adapter, write_full, write_json
from mashup import check
from mashup.errors import InputError
from vocabularies import resized
from wholes import relative_of, tensors_of, write_whole


def only(folder, **options):
    (report,) = check([folder], **options)
    return report


def whats(report):
    return [problem.what for problem in report.problems]


def test_good_ones_are_ok(tiny_base, tmp_path):
    lora = write_adapter(tmp_path / "a", base=str(tiny_base), modules={Q_PROJ: (32, 32)})
    whole = relative_of(tiny_base, tmp_path / "b", seed=1)
    reports = check([lora, whole], base=tiny_base)
    assert [whats(report) for report in reports] == [[], []]
    assert [report.dtypes for report in reports] == [("F32",), ("F32",)]
    assert reports[1].bytes == sum(t.nbytes for t in tensors_of(whole).values())
    assert "names no base" in reports[1].notes[0]


def test_a_folder_of_checkpoints_is_walked_and_each_is_told_once(tmp_path):
    trees.axolotl(tmp_path / "run")
    reports = check([tmp_path / "run", tmp_path / "run/checkpoint-10"])
    names = [str(r.checkpoint.path.relative_to(tmp_path / "run")) for r in reports]
    assert names == [".", "checkpoint-10", "checkpoint-20", "merged"]


def broken(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    return folder


_WRONG = {
    "truncated": (lambda p: broken(write_adapter(p)), "truncated safetensors"),
    "other name": (lambda p: write_adapter(p, base="owner/x"), "adapter of another base"),
    "other module": (lambda p: write_adapter(p, modules={"x": (4, 4)}), "adapter of another base"),
    "other width": (lambda p: write_adapter(p), "adapter of another base"),
    "DeepSpeed": (trees.deepspeed, "checkpoint in pieces"),
    "FSDP": (trees.fsdp, "checkpoint in pieces"),
    "nothing of it": (write_full, "full checkpoint of another base"),
}


@pytest.mark.parametrize(("make", "what"), _WRONG.values(), ids=_WRONG.keys())
def test_what_is_wrong_is_told(tiny_base, tmp_path, make, what):
    folder = make(tmp_path / "a")
    report = only(folder, base=tiny_base)
    assert what in whats(report)
    assert_problem(next(p for p in report.problems if p.what == what), what, where=str(folder))


def test_all_that_is_wrong_is_told_at_once(tiny_base, tied_base, tmp_path):
    tensors = {n: t for n, t in tensors_of(tiny_base).items() if "layers.1" not in n}
    norm = tensors["model.norm.weight"]
    one = write_whole(tmp_path / "a", tensors | {"more": norm[:4].clone()}, tiny_base)
    config = json.loads((one / "config.json").read_text())
    write_json(one / "config.json", config | {"num_attention_heads": 8})
    assert whats(only(one, base=tied_base)) == [
        "models compute differently",
        "tied weights differ",
        "tensors without a place",
        "tensors missing",
    ]
    accepted = only(one, base=tied_base, accept_base=True)
    assert "models compute differently" not in whats(accepted)


def test_all_shards_that_are_missing_are_told(tmp_path):
    write_json(tmp_path / "config.json", {})
    placed = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    write_json(tmp_path / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
    assert whats(only(tmp_path)) == ["missing shard", "missing shard"]


def test_another_vocabulary_is_a_note_where_rows_can_be_aligned(tiny_base, tmp_path):
    one = resized(tiny_base, tmp_path / "a", ["<a>", "<b>"], seed=1)
    report = only(one, base=tiny_base)
    assert whats(report) == []
    assert any("2 tokens more, 0 fewer" in note for note in report.notes)
    (one / "tokenizer.json").unlink()
    assert whats(only(one, base=tiny_base)) == ["no tokenizer"]


def test_without_a_base_checkpoints_are_compared_among_themselves(tmp_path):
    for name, base in {"a": "owner/one", "b": "other/One", "c": "owner/two", "d": ""}.items():
        write_adapter(tmp_path / name, base=base)
    notes = {r.checkpoint.name: r.notes for r in check([tmp_path])}
    assert (notes["a"], notes["b"]) == ((), ())
    assert "another base than most here (one)" in notes["c"][0]
    assert "names no base" in notes["d"][0]


def test_a_quantised_base_is_noted(tmp_path):
    report = only(write_adapter(tmp_path / "a", base="unsloth/Llama-3.2-1B-Instruct-bnb-4bit"))
    assert whats(report) == []
    assert "quantised base" in report.notes[0]


def test_a_base_that_is_quantised_itself_is_refused(tmp_path):
    base = write_full(tmp_path / "base")
    write_json(base / "config.json", {"quantization_config": {"quant_method": "bitsandbytes"}})
    with refused("quantised weights", where=str(base), found="bitsandbytes"):
        check([write_adapter(tmp_path / "a")], base=base)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_read_looks_at_every_number(tmp_path, value):
    folder = write_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    next(reversed(tensors.values()))[-1, -1] = value
    save_file(tensors, path)
    assert whats(only(folder)) == []
    assert whats(only(folder, read=True)) == ["weights are not finite"]


def test_paths_without_a_checkpoint_are_an_error(tmp_path):
    with refused("no checkpoint here"):
        check([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        check([tmp_path / "x"])


def test_a_library_of_several_bases_is_compared_with_its_own_only(tiny_base, tmp_path):
    write_adapter(tmp_path / "lib/a", base=str(tiny_base), modules={Q_PROJ: (32, 32)})
    other = write_adapter(tmp_path / "lib/other", base="owner/x")
    broken(write_adapter(tmp_path / "lib/broken", base="owner/x"))
    good, bad, foreign = check([tmp_path / "lib"], base=tiny_base)
    assert (whats(good), good.is_foreign) == ([], False)
    assert whats(bad) == ["truncated safetensors"]
    assert (whats(foreign), foreign.is_foreign) == ([], True)
    named = check([tmp_path / "lib", other], base=tiny_base)[2]
    assert "adapter of another base" in whats(named)


def test_a_library_of_other_bases_alone_is_a_problem(tiny_base, tmp_path):
    write_adapter(tmp_path / "lib/a", base="owner/x")
    (report,) = check([tmp_path / "lib"], base=tiny_base)
    assert "adapter of another base" in whats(report)
