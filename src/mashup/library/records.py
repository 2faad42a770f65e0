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


def load(text: str) -> Checkpoint:
    record = json.loads(text)
    del record["name"], record["state"]
    record["path"] = Path(record["path"])
    record["targets"] = tuple(record["targets"])
    record["unmatched"] = tuple(record.get("unmatched", ()))
    record["metric"] = tuple(record["metric"]) if record["metric"] else None
    record["problem"] = Problem(**record["problem"]) if record["problem"] else None
    return Checkpoint(**record)
