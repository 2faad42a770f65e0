"""``mashup check``, ``mashup convert``, ``mashup scan --base`` and ``merge --allow-pickle``."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import Q_PROJ, write_adapter, write_full, write_json
from mashup import scan


@pytest.fixture
def mashup(mashup):
    """The same with runs of spaces and lines as one space."""

    def run(*arguments):
        code, *texts = mashup(*arguments)
        return code, *(" ".join(text.split()) for text in texts)

    return run


def test_check_prints_one_table_and_exits_with_3_when_anything_is_wrong(mashup, tmp_path):
    write_adapter(tmp_path / "lib/good")
    code, out, err = mashup("check", tmp_path / "lib")
    assert (code, err) == (0, "")
    assert "1 checked by headers, 0 with problems" in out
    write_adapter(tmp_path / "lib/bad", use_dora=True)
    write_adapter(tmp_path / "lib/blank", base="")
    code, out, err = mashup("check", tmp_path / "lib")
    assert code == 3
    assert "3 checked by headers, 1 with problems" in out
    assert "blank: names no base" in out
    assert "fix" in err


def test_check_as_json(mashup, tmp_path):
    write_adapter(tmp_path / "lib/good")
    code, out, err = mashup("check", tmp_path / "lib", "--json", "--read")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert (row["name"], row["problems"], row["dtypes"]) == ("good", [], ["F32"])


def pickled(folder):
    """The same adapter with its weights as a pickle."""
    path = folder / "adapter_model.safetensors"
    torch.save(load_file(path), folder / "adapter_model.bin")
    path.unlink()
    return folder


def test_a_pickle_is_refused_allowed_or_converted(mashup, tmp_path):
    safe, folder = write_adapter(tmp_path / "safe"), pickled(write_adapter(tmp_path / "a"))
    code, _, err = mashup("merge", folder, "-o", tmp_path / "m", "--weights", 1)
    assert code == 3
    assert "pickle refused" in err
    assert "mashup convert" in err
    assert "--allow-pickle" in err
    code, _, _ = mashup("merge", folder, "-o", tmp_path / "m", "--weights", 1, "--allow-pickle")
    assert code == 0
    assert {p.name for p in folder.iterdir()} == {"adapter_config.json", "adapter_model.bin"}
    about = json.loads((tmp_path / "m/mashup.json").read_text())
    assert about["parents"][0]["path"] == str(folder)
    code, out, _ = mashup("convert", folder)
    assert code == 0
    assert "written" in out
    name = "adapter_model.safetensors"
    assert load_file(folder / name).keys() == load_file(safe / name).keys()
    code, out, _ = mashup("convert", folder)
    assert "nothing to do" in out
    code, _, _ = mashup("merge", folder, "-o", tmp_path / "n", "--weights", 1)
    assert code == 0


def test_scan_names_the_base_of_checkpoints_that_do_not_say(mashup, tmp_path):
    for name in ("a", "b"):
        write_adapter(tmp_path / f"lib/{name}/checkpoint-5", base="", seed=ord(name))
    code, out, _ = mashup("scan", tmp_path / "lib")
    assert "base model not named (2 times): a/checkpoint-5, b/checkpoint-5" in out
    assert "name it with --base ID:MODEL" in out
    code, out, _ = mashup("scan", tmp_path / "lib", "--base", "*:owner/tiny")
    assert code == 0
    assert {c.base for c in scan(tmp_path / "lib").checkpoints} == {"owner/tiny"}
    folders = [tmp_path / f"lib/{name}/checkpoint-5" for name in "ab"]
    code, out, _ = mashup("merge", *folders, "-o", tmp_path / "m")
    assert code == 0
    assert json.loads((tmp_path / "m/mashup.json").read_text())["base"] == "owner/tiny"
    assert json.loads((folders[0] / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == ""  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "what"),
    [
        ("owner/tiny", "bad setting"),
        ("owner/tiny", "--only-base"),
        ("good:", "bad setting"),
        ("goof:owner/tiny", "did you mean good"),
        ("good:owner/other", "base is named already"),
    ],
)
def test_base_pairs_that_cannot_be(mashup, tmp_path, pair, what):
    write_adapter(tmp_path / "lib/good")
    code, _, err = mashup("scan", tmp_path / "lib", "--base", pair)
    assert code == 2
    assert what in err
    assert not (tmp_path / "lib/.mashup/bases.json").exists()


def test_methods_are_listed_with_their_papers(mashup):
    code, out, _ = mashup("methods", "--json")
    assert code == 0
    assert {"linear", "ties", "slerp"} <= {row["method"] for row in json.loads(out)}


def test_check_of_a_whole_model_with_the_wrong_config(mashup, tmp_path):
    folder = write_full(tmp_path / "a")
    write_json(folder / "config.json", ["x"])
    code, _, err = mashup("check", folder)
    assert code == 3
    assert "not JSON" in err


def test_merge_and_check_agree_that_a_lora_is_of_another_width(mashup, tmp_path, tiny_base):
    wrong = write_adapter(tmp_path / "l", base=str(tiny_base), modules={Q_PROJ: (16, 16)})
    for command in (("merge", wrong, "-o", tmp_path / "m"), ("check", wrong)):
        code, out, err = mashup(*command, "--model", tiny_base)
        assert code == 3
        assert "[16, 16], not [32, 32]" in out + err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("where", ["/proc/none", ""])
def test_a_copy_without_a_cache_to_put_it_in_is_an_error_of_output(
    mashup, tmp_path, monkeypatch, where
):
    folder = write_adapter(tmp_path / "a")
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", where)
    monkeypatch.setattr(Path, "home", no_home)
    code, _, err = mashup("merge", folder, "--allow-pickle", "-o", tmp_path / "out")
    assert code == 3
    assert "could not write" in err
    assert "XDG_CACHE_HOME" in err
    assert not (tmp_path / "out").exists()
