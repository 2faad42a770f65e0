"""Checkpoints that a sharded trainer left in pieces: recognised by file names, told how to mend.

Names are those of DeepSpeed (``global_stepN``, ``zero_to_fp32.py``), of accelerate's FSDP
(``pytorch_model_fsdp_0``) and of torch's distributed checkpoints (``*.distcp``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mashup.errors import Problem

_FSDP = "pytorch_model_fsdp"
_STEP = re.compile(r"global_step\d+$")


def trainer_of_shards(names: Iterable[str]) -> str | None:
    """``DeepSpeed`` or ``FSDP`` when files and folders of these names are a model in pieces."""
    for name in names:
        if name == "zero_to_fp32.py" or _STEP.match(name):
            return "DeepSpeed"
        if name.startswith(_FSDP) or name.endswith(".distcp"):
            return "FSDP"
    return None


def is_optimizer(folder: str, names: Iterable[str]) -> bool:
    """Whether a folder of this name with files of these names is FSDP's optimizer, no model."""
    return folder.startswith("optimizer_") and any(name.endswith(".distcp") for name in names)


def in_pieces(folder: Path) -> Problem | None:
    """The problem of a folder without weights of its own but with a trainer's shards."""
    names = sorted(path.name for path in folder.iterdir())
    trainer = trainer_of_shards(names)
    if trainer is None:
        return None
    fix = _deepspeed(names) if trainer == "DeepSpeed" else _fsdp(names)
    found, expected = f"shards of {trainer}", "whole weights"
    return Problem("checkpoint in pieces", str(folder), found, expected, fix)


def _deepspeed(names: Sequence[str]) -> str:
    """DeepSpeed leaves a script that joins its shards; without it the package has the same."""
    script = "zero_to_fp32.py" if "zero_to_fp32.py" in names else "-m deepspeed.utils.zero_to_fp32"
    return _run(f"python {script} . consolidated --safe_serialization")


def _fsdp(names: Sequence[str]) -> str:
    """accelerate joins a folder of shards; a model that is in one file only has another name."""
    files = [name for name in names if name.startswith(_FSDP) and name.endswith(".bin")]
    if files:
        return f"rename {files[0]} to pytorch_model.bin, then run 'mashup convert' on the folder"
    shards = next((name for name in names if name.startswith(_FSDP)), ".")
    return _run(f"accelerate merge-weights {shards} consolidated")


def _run(command: str) -> str:
    return (
        f"run '{command}' in this folder, copy config.json and the tokenizer into consolidated, "
        "and use that"
    )
