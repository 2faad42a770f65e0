"""Pickles to safetensors: the same tensors, no code run, nothing half written."""

import json
import os
import pickle
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from helpers import full_disk, in_a_child, refused, settle, write_adapter, write_json
from lora import some_ids
from mashup import convert, merge
from mashup._convert import converted
from mashup._merge.shards import ShardWriter
from mashup.errors import OutputError
from mashup.outputs import only_one, temporary_folder
from wholes import relative_of, same_bits, tensors_of

WEIGHTS = "adapter_model.safetensors"


def pickled(folder, files=1):
    """The same model as transformers used to save it; a head is stored even where it is tied."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tensors = model.state_dict()
    (folder / "model.safetensors").unlink()
    if files == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    placed = {n: f"pytorch_model-{i % files + 1}.bin" for i, n in enumerate(tensors)}
    for file in set(placed.values()):
        torch.save({n: t for n, t in tensors.items() if placed[n] == file}, folder / file)
    write_json(folder / "pytorch_model.bin.index.json", {"weight_map": placed})
    return folder


@pytest.fixture(params=["untied", "tied"])
def base(request, tiny_base, tied_base):
    return tiny_base if request.param == "untied" else tied_base


@pytest.mark.parametrize("files", [1, 3])
def test_a_model_is_the_same_afterwards(base, tmp_path, files):
    before = tensors_of(relative_of(base, tmp_path / "a", seed=1))
    folder = pickled(tmp_path / "a", files)
    (written,) = convert(folder)
    assert written == folder / "model.safetensors"
    found = load_file(written)
    assert same_bits({name: found[name] for name in before}, before)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model(some_ids()).logits.isfinite().all()
    assert convert(folder) == []


def test_a_lora_is_the_same_afterwards(tmp_path):
    folder = write_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    torch.save(tensors, folder / "adapter_model.bin")
    path.unlink()
    assert convert(folder) == [path]
    assert same_bits(load_file(path), tensors)
    assert {p.name for p in folder.iterdir()} == {
        *("adapter_config.json", "adapter_model.bin", "adapter_model.safetensors")
    }


class _Code:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.write_bytes(pickle.dumps({"a": _Code()})),
        lambda p: torch.save({"a": torch.ones(2), "b": _Code()}, p),
        lambda p: torch.save([torch.ones(2)], p),
        lambda p: torch.save({"a": {"b": torch.ones(2)}}, p),
        lambda p: torch.save({}, p),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"no pickle"),
    ],
)
def test_a_pickle_of_other_things_is_refused_and_nothing_is_run(tmp_path, capsys, write):
    write_json(tmp_path / "adapter_config.json", {})
    write(tmp_path / "adapter_model.bin")
    with refused("cannot read pickle", where="adapter_model.bin"):
        convert(tmp_path)
    assert "never" not in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.bin"}


def test_a_full_disk_leaves_nothing_that_looks_like_weights(tiny_base, tmp_path):
    folder = pickled(relative_of(tiny_base, tmp_path / "a", seed=1))
    before = {path.name for path in folder.iterdir()}
    with full_disk(4096), pytest.raises(OutputError, match="could not write"):
        convert(folder)
    assert {path.name for path in folder.iterdir()} == before


def test_weights_have_no_name_before_they_are_whole(tiny_base, tmp_path, monkeypatch):
    """What a killed conversion leaves: a part in a hidden folder, and the pickle."""
    folder = pickled(relative_of(tiny_base, tmp_path / "a", seed=1))

    def stop(*_):
        assert not list(folder.glob("*.safetensors*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(ShardWriter, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(folder)


def test_a_folder_without_weights(tmp_path):
    with refused("no pickled weights"):
        convert(tmp_path)
    with refused("no such folder"):
        convert(tmp_path / "x")


def test_a_copy_is_made_once_and_merges_as_the_model_does(tiny_base, tmp_path):
    whole = relative_of(tiny_base, tmp_path / "whole", seed=1)
    folder = pickled(relative_of(tiny_base, tmp_path / "run/checkpoint-5", seed=1))
    settle()
    copy = converted(folder)
    assert (copy.parent.name, copy.name) == ("run", "checkpoint-5")
    assert not list(folder.glob("*.safetensors"))
    stamp = (copy / "model.safetensors").stat().st_mtime_ns
    assert converted(folder) == copy
    assert (copy / "model.safetensors").stat().st_mtime_ns == stamp
    one = merge([copy], output=tmp_path / "m", accept_base=True)
    two = merge([whole], output=tmp_path / "n", accept_base=True)
    assert_close(tensors_of(one.path), tensors_of(two.path))
    config = json.loads((one.path / "config.json").read_text())
    assert config == json.loads((two.path / "config.json").read_text())


def test_a_base_that_was_named_for_a_pickle_holds_for_its_copy(tiny_base, tmp_path):
    from mashup import read_checkpoint
    from mashup.checkpoint.identity import write_names

    folder = pickled(relative_of(tiny_base, tmp_path / "lib/a", seed=1))
    write_names(tmp_path / "lib", {"a": "owner/tiny"})
    assert read_checkpoint(converted(folder)).base == "owner/tiny"


def test_a_copy_is_made_anew_when_the_settings_have_changed(tmp_path):
    folder = write_adapter(tmp_path / "a", alpha=8)
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    first = converted(folder)
    path = folder / "adapter_config.json"
    write_json(path, json.loads(path.read_text()) | {"lora_alpha": 16.5})
    settle()
    second = converted(folder)
    assert json.loads((second / path.name).read_text())["lora_alpha"] == 16.5
    assert converted(folder) == second != first


def test_a_copy_is_made_anew_of_another_pickle_of_the_same_size_and_mtime(tmp_path):
    folder = write_adapter(tmp_path / "a")
    other = load_file(write_adapter(tmp_path / "b", seed=1) / WEIGHTS)
    path = folder / "adapter_model.bin"
    torch.save(load_file(folder / WEIGHTS), path)
    (folder / WEIGHTS).unlink()
    settle()
    status = path.stat()
    first = converted(folder)
    torch.save(other, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert converted(folder) != first
    assert_close(load_file(converted(folder) / WEIGHTS), other)


def test_a_pipe_in_the_place_of_a_pickle_does_not_hang(tmp_path):
    folder = write_adapter(tmp_path / "a")
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / "adapter_model.bin")
    with refused("cannot read pickle", found="not a plain file"):
        convert(folder)


def test_a_head_that_is_its_own_stays_though_it_shares_the_embeddings_memory(tiny_base, tmp_path):
    """Such a file says that they are two tensors: without the head it would start at random."""
    folder = relative_of(tiny_base, tmp_path / "a", seed=1)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    convert(folder)
    assert tensors_of(folder).keys() == tensors.keys()


def test_tensors_that_have_no_names_are_refused(tiny_base, tmp_path):
    folder = pickled(relative_of(tiny_base, tmp_path / "a", seed=1))
    torch.save({1: torch.ones(2)}, folder / "pytorch_model.bin")
    with refused("cannot read pickle", found="a dict of other things"):
        convert(folder)


def test_a_folder_is_converted_by_one_at_a_time_and_a_kill_leaves_nothing(tiny_base, tmp_path):
    folder = pickled(relative_of(tiny_base, tmp_path / "a", seed=1))

    def killed() -> None:
        with only_one(folder), temporary_folder(folder / "weights") as part:
            (part / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(killed)
    with only_one(folder), refused("output is being written", where=str(folder)):
        convert(folder)
    assert convert(folder) == [folder / "model.safetensors"]
    assert not list(tmp_path.rglob(".*"))
