"""Which checkpoints the gradient can score; the others are evaluated as they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mashup.checkpoint import Adapter, read_adapter, read_adapter_config, read_checkpoint


def uncovered(folder: Path) -> str | None:
    """Why the gradient strategy cannot score a checkpoint, None when it can; from headers alone.

    Covered is LoRA on linear layers, GPT-2's Conv1D and embeddings. New values and token rows
    may lie far from the base's, stacked experts have no output of their own, and a bias of B is
    rare: such donors need a true evaluation.

    Raises:
        InputError: unreadable.
    """
    if read_checkpoint(folder).kind == "full":
        return "a whole model"
    return _reason(read_adapter(folder, read_adapter_config(folder)))


def _reason(adapter: Adapter) -> str | None:
    if adapter.saved or adapter.originals:
        return "modules saved whole"
    if adapter.rows:
        return "trained token rows"
    if adapter.biases:
        return "a bias of B"
    if any(module.kind == "parameter" for module in adapter.modules.values()):
        return "parameters adapted themselves"
    return None


def module_names(folders: Iterable[Path]) -> list[str]:
    """All modules that some adapter adapts, in order of first sight; from headers alone.

    Raises:
        InputError: unreadable.
    """
    names: dict[str, None] = {}
    for folder in folders:
        names |= dict.fromkeys(read_adapter(folder, read_adapter_config(folder)).modules)
    return list(names)
