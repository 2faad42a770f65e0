"""Content digest of a checkpoint, remembered by the size and time of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from mashup.checkpoint import read_adapter_config, read_tensors
from mashup.checkpoint.adapter import adapter_weights
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.identity import settings_digest
from mashup.checkpoint.read import is_whole
from mashup.checkpoint.targets import Targets
from mashup.files import digest_file, digest_of
from mashup.library.index import Index

_SAMPLE = 4096  # bytes


def adapter_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of an adapter's weights and of the settings that give them meaning."""
    weights = adapter_weights(folder)
    stats = (weights.stat(), (folder / CONFIG).stat())
    stamp = "|".join(f"{status.st_size}:{status.st_mtime_ns}" for status in stats)

    def make() -> str:
        config = read_adapter_config(folder)
        # What else the targets say decides only whether the weights are all there.
        targets = Targets(parameters=config.targets.parameters, saved=config.targets.saved)
        settings = replace(config, base="", revision=None, targets=targets)
        return digest_of(digest_file(weights), asdict(settings))

    return _remembered(folder, stamp, index, make)


def _remembered(folder: Path, stamp: str, index: Index | None, make: Callable[[], str]) -> str:
    """The digest that was kept for a folder with this stamp, else a new one, which is kept."""
    kept = index.digest(folder.resolve(), stamp) if index else None
    if kept:
        return kept
    digest = make()
    if index:
        index.keep_digest(folder.resolve(), stamp, digest)
    return digest


def checkpoint_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of a checkpoint of either kind, of all its bytes; see :func:`whole_digest`."""
    if is_whole(folder):
        return whole_digest(folder, index)
    return adapter_digest(folder, index)


def whole_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of all bytes of a whole model's weights, remembered by their size and time."""
    files = sorted({stored.path for stored in read_tensors(folder).values()})
    stats = [(path.name, path.stat()) for path in files]
    stamp = "|".join(f"{name}:{s.st_size}:{s.st_mtime_ns}" for name, s in stats)
    return _remembered(folder, stamp, index, lambda: digest_of([digest_file(p) for p in files]))


def base_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of everything in a base's folder that results depend on.

    Its weights (:func:`whole_digest`), config, tokenizer and chat template
    (:func:`mashup.checkpoint.identity.settings_digest`).

    Raises:
        InputError: a file of settings is no JSON.
    """
    return digest_of(whole_digest(folder, index), settings_digest(folder))


def model_digest(folder: Path) -> str:
    """Digest (hex) of a whole model: its headers, and 4 KiB of every tensor.

    Reading all of a large model for a name would take longer than merging it. Training changes
    nearly every number, so the samples tell two checkpoints apart; they do not prove that two
    files are the same to the byte, which the manifest says (``sampled``).
    """
    parts = []
    for name, stored in sorted(read_tensors(folder).items()):
        with stored.path.open("rb") as stream:
            stream.seek(stored.info.begin + max(0, stored.info.bytes - _SAMPLE) // 2)
            sample = stream.read(min(_SAMPLE, stored.info.bytes))
        parts.append((name, stored.dtype, stored.shape, hashlib.sha256(sample).hexdigest()))
    return digest_of(parts)
