"""Content digest of a checkpoint, remembered by the stamp of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mashup.checkpoint import Opened, Stored, read_adapter_config, read_tensors
from mashup.checkpoint.adapter import adapter_weights
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.identity import settings_digest
from mashup.checkpoint.read import is_full_checkpoint
from mashup.checkpoint.targets import Targets
from mashup.errors import InputError, Problem
from mashup.files import digest_file, digest_of, stamp
from mashup.library.index import Index

_SAMPLE = 4096  # bytes


def checkpoint_digest(
    given: Opened | Path, index: Index | None = None, *, afresh: bool = False
) -> str:
    """Digest (hex) of a checkpoint of either kind, of all bytes of its weights.

    Args:
        given: the checkpoint, opened or by its folder.
        index: remembers the digest by the stamp of the files (:func:`mashup.files.stamp`).
        afresh: take only what was made through this ``index`` object, from the bytes themselves:
            what is kept for good under a digest must not stand on an older note.

    Raises:
        InputError: unreadable, or gone.
    """
    folder = given.path if isinstance(given, Opened) else given
    try:
        is_full = given.is_full if isinstance(given, Opened) else is_full_checkpoint(folder)
        digest = full_digest if is_full else adapter_digest
        return digest(given, index, afresh=afresh)
    except OSError as error:
        fix = "check the path and the permissions"
        found = error.strerror or str(error)
        raise InputError(Problem("cannot read file", str(folder), found, fix=fix)) from error


def adapter_digest(
    given: Opened | Path, index: Index | None = None, *, afresh: bool = False
) -> str:
    """Digest (hex) of an adapter's weights and of the settings that give them meaning."""
    folder = given.path if isinstance(given, Opened) else given
    weights = adapter_weights(folder)

    def make() -> str:
        known = given.config if isinstance(given, Opened) else None
        config = known or read_adapter_config(folder)
        # What else the targets say decides only whether the weights are all there.
        targets = Targets(parameters=config.targets.parameters, saved=config.targets.saved)
        settings = asdict(replace(config, base="", revision=None, targets=targets, raw={}))
        del settings["raw"]
        return digest_of(digest_file(weights), settings)

    return _remembered(folder, (weights, folder / CONFIG), index, make, afresh)


def full_digest(given: Opened | Path, index: Index | None = None, *, afresh: bool = False) -> str:
    """Digest (hex) of all bytes of a full checkpoint's weights."""
    files = sorted({stored.path for stored in _tensors(given).values()})

    def make() -> str:
        return digest_of([digest_file(path) for path in files])

    folder = given.path if isinstance(given, Opened) else given
    return _remembered(folder, files, index, make, afresh)


def _tensors(given: Opened | Path) -> Mapping[str, Stored]:
    return given.tensors if isinstance(given, Opened) else read_tensors(given)


def _remembered(
    folder: Path, files: Sequence[Path], index: Index | None, make: Callable[[], str], afresh: bool
) -> str:
    """The digest that was noted for files with this stamp, else a new one, which is noted."""
    if index is None:
        return make()
    place, before = folder.resolve(), _stamp(files)
    if before and index.hashed.get(place, ("", ""))[0] == before:
        return index.hashed[place][1]
    known = index.digest(place, before) if before and not afresh else None
    if known:
        return known
    digest = make()
    if before and _stamp(files) == before:  # nothing was written while it was read
        index.hashed[place] = before, digest
        index.keep_digest(place, before, digest)
    return digest


def _stamp(files: Sequence[Path]) -> str:
    return stamp({path.name: path.stat() for path in files})


def base_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of everything in a base's folder that results depend on.

    Its weights (:func:`full_digest`), config, tokenizer and chat template
    (:func:`mashup.checkpoint.identity.settings_digest`).

    Raises:
        InputError: a file of settings is no JSON.
    """
    return digest_of(full_digest(folder, index), settings_digest(folder))


def model_digest(given: Opened | Path) -> str:
    """Digest (hex) of a full checkpoint: its headers, and 4 KiB of every tensor.

    Reading all of a large model for a name would take longer than merging it. Training changes
    nearly every number, so the samples tell two checkpoints apart; they do not prove that two
    files are the same to the byte, which the manifest says (``sampled``).
    """
    parts = []
    for name, stored in sorted(_tensors(given).items()):
        with stored.path.open("rb") as stream:
            stream.seek(stored.info.begin + max(0, stored.info.bytes - _SAMPLE) // 2)
            sample = stream.read(min(_SAMPLE, stored.info.bytes))
        parts.append((name, stored.dtype, stored.shape, hashlib.sha256(sample).hexdigest()))
    return digest_of(parts)
