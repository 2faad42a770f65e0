"""Content digest of an adapter, remembered by the size and time of its files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from mashup.checkpoint import read_adapter_config
from mashup.checkpoint.adapter import adapter_weights
from mashup.checkpoint.config import CONFIG
from mashup.files import digest_file, digest_of
from mashup.library.index import Index


def adapter_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of an adapter's weights and of the settings that give them meaning."""
    weights, config = adapter_weights(folder), folder / CONFIG
    stats = (weights.stat(), config.stat())
    stamp = "|".join(f"{status.st_size}:{status.st_mtime_ns}" for status in stats)
    kept = index.digest(folder.resolve(), stamp) if index else None
    if kept:
        return kept
    settings = replace(read_adapter_config(folder), base="", revision=None)
    digest = digest_of(digest_file(weights), asdict(settings))
    if index:
        index.keep_digest(folder.resolve(), stamp, digest)
    return digest
