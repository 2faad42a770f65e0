"""Checkpoint to JSON text and back, for the index and for ``--json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mashup.checkpoint import Checkpoint
from mashup.errors import Problem


def to_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """JSON-able fields of a checkpoint, with its name and state."""
    record = asdict(checkpoint) | {"path": str(checkpoint.path)}
    return record | {"name": checkpoint.name, "state": checkpoint.state}


def dump(checkpoint: Checkpoint) -> str:
    return json.dumps(to_record(checkpoint))


def load(text: str, folder: Path) -> Checkpoint | None:
    """The checkpoint in ``folder`` by its record; None for a text that is none of this version."""
    try:
        record = json.loads(text)
        del record["name"], record["state"]
        record["path"] = folder
        record["targets"] = tuple(record["targets"])
        record["unmatched"] = tuple(record["unmatched"])
        record["metric"] = tuple(record["metric"]) if record["metric"] else None
        record["problem"] = Problem(**record["problem"]) if record["problem"] else None
        checkpoint = Checkpoint(**record)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return checkpoint if _is_sound(checkpoint) else None


def _is_sound(one: Checkpoint) -> bool:
    metric = one.metric or ("", 0.0)
    texts = (one.base, one.task, *one.targets, *one.unmatched, metric[0])
    counts = (one.modules, one.bytes, one.rank or 0, one.best_step or 0)
    return (
        one.kind in ("lora", "full")
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(count, int) for count in counts)
        and len(metric) == 2
        and isinstance(metric[1], int | float)
    )
