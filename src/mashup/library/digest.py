"""Content digest of an adapter, remembered by the size and time of its files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from mashup.checkpoint import read_adapter_config
from mashup.checkpoint.adapter import adapter_weights
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.targets import Targets
from mashup.files import digest_file, digest_of
from mashup.library.index import Index


def adapter_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of an adapter's weights and of the settings that give them meaning."""
    weights = adapter_weights(folder)
    stats = (weights.stat(), (folder / CONFIG).stat())
    stamp = "|".join(f"{status.st_size}:{status.st_mtime_ns}" for status in stats)
    kept = index.digest(folder.resolve(), stamp) if index else None
    if kept:
        return kept
    config = read_adapter_config(folder)
    # What else the targets say decides only whether the weights are all there.
    targets = Targets(parameters=config.targets.parameters, saved=config.targets.saved)
    settings = replace(config, base="", revision=None, targets=targets)
    digest = digest_of(digest_file(weights), asdict(settings))
    if index:
        index.keep_digest(folder.resolve(), stamp, digest)
    return digest
