"""Content digest of an adapter, remembered by the size and time of its files."""

from __future__ import annotations

from pathlib import Path

from mashup.checkpoint.adapter import adapter_weights
from mashup.checkpoint.config import CONFIG
from mashup.files import digest_file, digest_of, read_json
from mashup.library.index import Index


def adapter_digest(folder: Path, index: Index | None = None) -> str:
    """Digest (hex) of an adapter's weights and of the settings that give them meaning."""
    weights, config = adapter_weights(folder), folder / CONFIG
    stats = (weights.stat(), config.stat())
    stamp = "|".join(f"{status.st_size}:{status.st_mtime_ns}" for status in stats)
    kept = index.digest(folder.resolve(), stamp) if index else None
    if kept:
        return kept
    settings = {k: v for k, v in read_json(config).items() if k != "base_model_name_or_path"}
    digest = digest_of(digest_file(weights), settings)
    if index:
        index.keep_digest(folder.resolve(), stamp, digest)
    return digest
