"""Checkpoints that a sharded trainer left in pieces: recognised by file names, told how to mend.

Names are those of DeepSpeed (``global_stepN``, ``zero_to_fp32.py``), of accelerate's FSDP
(``pytorch_model_fsdp_0``) and of torch's distributed checkpoints (``*.distcp``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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


def in_pieces(folder: Path) -> Problem | None:
    """The problem of a folder without weights of its own but with a trainer's shards."""
    trainer = trainer_of_shards(sorted(path.name for path in folder.iterdir()))
    if trainer is None:
        return None
    commands = {
        "DeepSpeed": "python zero_to_fp32.py . consolidated --safe_serialization",
        "FSDP": f"accelerate merge-weights {_FSDP}_0 consolidated",
    }
    fix = f"in this folder run '{commands[trainer]}' and use the folder that it makes, with config"
    found, expected = f"shards of {trainer}", "whole weights"
    return Problem("checkpoint in pieces", str(folder), found, expected, fix)
