"""``mashup env``: what this machine and environment are, for bug reports."""

from __future__ import annotations

import os
import platform
from typing import Any

import typer

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command


class Options(JsonOption):
    pass


def register(app: typer.Typer) -> None:
    add_command(app, "env", Options, run)


def run(options: Options) -> None:
    """Versions, device, precision, threads, memory, caches and switches."""
    facts = describe()
    if options.json_:
        show.print_json(facts)
    else:
        show.table(("what", "value"), [(key, str(value)) for key, value in facts.items()])


def describe() -> dict[str, Any]:
    import torch

    from mashup._merge.manifest import versions
    from mashup.files import user_cache
    from mashup.model.device import pick_device, pick_dtype

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
