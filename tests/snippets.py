"""The snippets of docs/use-the-init.md, with real paths in place of its names."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "use-the-init.md"


def snippet(section: str, language: str) -> str:
    """The first fenced block of a language under a heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    return re.findall(rf"^```{language}\n(.*?)^```", body, re.DOTALL | re.M)[0]


def filled(text: str, *, base: Path, init: Path, rows: Path, output: Path) -> str:
    """A snippet that runs: ``BASE``, ``init/``, ``new_task.jsonl`` and ``run/`` are real."""
    names = {"BASE": base, "init/": init, "new_task.jsonl": rows, "run/": output}
    return re.sub("|".join(map(re.escape, names)), lambda found: str(names[found[0]]), text)
