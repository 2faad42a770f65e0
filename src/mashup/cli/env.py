"""``mashup env``, ``methods`` and ``tasks``: what this installation has and knows."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from typing import Any

import typer

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command


def register(app: typer.Typer) -> None:
    add_command(app, "methods", JsonOption, list_methods)
    add_command(app, "tasks", JsonOption, list_tasks)
    add_command(app, "env", JsonOption, list_facts)


def list_methods(options: JsonOption) -> None:
    """List the merge methods with their formulas, settings and papers."""
    from mashup._merge.methods import METHODS

    columns = ("method", "formula", "settings", "source")
    rows = [(m.name, m.formula, " ".join(m.takes), m.paper) for m in METHODS.values()]
    if options.json_:
        show.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    show.table(columns, rows)
    show.line("δ is a parent's difference from the base, w its weight, λ is --scale.")


def list_tasks(options: JsonOption) -> None:
    """List the benchmarks whose rows can be used as they are on the Hub."""
    from mashup.task.records import known_records

    if options.json_:
        show.print_json([asdict(record) for record in known_records()])
        return
    rows = [
        (r.name, f"{r.hub}:{r.config}" if r.config else r.hub, ", ".join(r.columns), r.source)
        for r in known_records()
    ]
    show.table(("name", "--dataset on the Hub", "columns", "source"), rows)
    show.line("Other datasets need rows with messages, or with prompt and completion.")


def list_facts(options: JsonOption) -> None:
    """Print versions, device, precision, threads, memory and caches, for a bug report."""
    facts = describe()
    if options.json_:
        show.print_json(facts)
    else:
        show.table(("what", "value"), [(key, str(value)) for key, value in facts.items()])


def describe() -> dict[str, Any]:
    import torch

    from mashup._merge.manifest import versions
    from mashup.files import user_cache
    from mashup.model.base import pick_device, pick_dtype

    device = pick_device()
    return {
        **versions(),
        "platform": platform.platform(),
        "device": str(device),
        "dtype": str(pick_dtype(device)),
        "threads": torch.get_num_threads(),
        "memory": show.size(_memory()),
        "cache": str(user_cache()),
        "HF_HOME": os.environ.get("HF_HOME", "(not set)"),
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "(not set)"),
    }


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not on every system
        return 0
