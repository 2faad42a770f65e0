"""``comparison.json``: the settings and facts of a comparison, as reports read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mashup.state import read_state

ABOUT = "comparison.json"
_FIX = "give the same `mashup compare` again: finished runs are kept; if it is refused, remove {}"


class About(BaseModel, extra="allow"):
    """What was compared, and with which settings."""

    version: Literal[1] = 1
    base: dict[str, Any] = {}
    task: dict[str, Any] = {}
    splits: dict[str, int] = {}
    sample: dict[str, Any] = {}
    sentence: str = ""
    left_out: list[dict[str, str]] = []
    leaks: list[str] = []
    unchanged: list[str] = []
    criterion: str = "loss"
    chosen: list[str] = []
    settings: dict[str, Any] = {}
    seeds: list[int] = []
    learning_rates: list[float] = []
    budgets: list[float] = []
    merge: dict[str, Any] = {}
    arms: list[dict[str, Any]] = []
    rank: int | None = None


def read_about(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``comparison.json``; absent fields stay absent.

    Raises:
        InputError: the file cannot be read or is damaged.
    """
    path = folder / ABOUT
    return read_state(About, path, _FIX.format(path)).model_dump(exclude_unset=True)
