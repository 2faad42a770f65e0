"""The folder of a base model: as given, or in the Hub's cache, downloaded if need be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mashup.errors import InputError, Problem

_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py", "README.md")


def locate(name: str | Path, files: Sequence[str] = _FILES) -> Path:
    """The folder that holds the files of ``name``, a folder or a Hub id.

    Args:
        name: of the base model.
        files: patterns of what is downloaded where it is not in the Hub's cache.

    Raises:
        InputError: neither a folder nor a reachable model of the Hub.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        found = " ".join(str(error).split())[:300]
        fix = "check --model: a folder with config.json and weights, or a Hub id that is reachable"
        expected = "a causal language model"
        problem = Problem("cannot load base model", str(name), found, expected, fix)
        raise InputError(problem) from error
