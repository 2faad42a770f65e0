"""One folder in, one Checkpoint out; a broken folder becomes a Checkpoint with a problem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mashup.checkpoint import adapter, history
from mashup.checkpoint.adapter import Adapter
from mashup.checkpoint.config import CONFIG, AdapterConfig, read_adapter_config
from mashup.errors import InputError, Problem

Kind = Literal["lora", "full"]
FULL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
FULL_NOTE = "full, not used yet"


@dataclass(frozen=True)
class Checkpoint:
    """One past training result.

    Attributes:
        path: its folder.
        kind: ``lora`` (a PEFT adapter) or ``full`` (a whole model).
        base: name of the base model as recorded, "" when blank.
        rank: the largest rank of its modules; None for full checkpoints.
        targets: last parts of the adapted modules' names, sorted.
        modules: how many modules it adapts.
        task: what it was trained on, "" when unknown.
        metric: name and value of a metric that the folder tells.
        bytes: size of its weights.
        best_step: the best step of its run as its trainer state says.
        unmatched: names in its settings that none of its weights bears.
        problem: why it cannot be used, None when it can.
    """

    path: Path
    kind: Kind
    base: str = ""
    rank: int | None = None
    targets: tuple[str, ...] = ()
    modules: int = 0
    task: str = ""
    metric: tuple[str, float] | None = None
    bytes: int = 0
    best_step: int | None = None
    unmatched: tuple[str, ...] = ()
    problem: Problem | None = None

    @property
    def name(self) -> str:
        """Folder name; ``run/checkpoint-N`` for a step of a run."""
        path = self.path.absolute()  # "." has no name of its own
        return path.name if self.step is None else f"{path.parent.name}/{path.name}"

    @property
    def run(self) -> Path:
        """Folder of the run that it belongs to."""
        return history.run_of(self.path)

    @property
    def step(self) -> int | None:
        """N of ``checkpoint-N``; None for the final result of a run."""
        return history.step_of(self.path)

    @property
    def usable(self) -> bool:
        return self.kind == "lora" and self.problem is None

    @property
    def state(self) -> str:
        """One phrase for tables: ``ok``, a note, or what is wrong."""
        if self.problem:
            return self.problem.what
        if self.kind == "full":
            return FULL_NOTE
        if not self.base:
            return "base not named"
        return f"ok; no weights for {', '.join(self.unmatched)}" if self.unmatched else "ok"


def kind_of(names: Iterable[str]) -> Kind | None:
    """What a folder with files of these names holds, None when it is no checkpoint."""
    found = set(names)
    if found & {CONFIG, adapter.WEIGHTS, adapter.PICKLE}:
        return "lora"
    return "full" if "config.json" in found and found & set(FULL_WEIGHTS) else None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Describe the checkpoint in ``folder`` from headers and JSON.

    A checkpoint that cannot be used is returned with its ``problem``.

    Raises:
        InputError: the folder is missing or holds no checkpoint at all.
    """
    if not folder.is_dir():
        raise InputError(Problem("no such folder", str(folder), fix="check the path"))
    kind = kind_of(path.name for path in folder.iterdir())
    if kind is None:
        names = f"{CONFIG} and {adapter.WEIGHTS}"
        fix = "give the folder that holds these two files"
        raise InputError(Problem("no checkpoint here", str(folder), "neither", names, fix))
    if kind == "full":
        return Checkpoint(folder, "full", bytes=_full_bytes(folder), **_history(folder))
    return _read_lora(folder)


def _history(folder: Path) -> dict:
    return {
        "task": history.read_task(folder),
        "metric": history.read_metric(folder),
        "best_step": history.read_best_step(folder),
    }


def _full_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _read_lora(folder: Path) -> Checkpoint:
    about = _history(folder)
    weights = folder / adapter.WEIGHTS
    about["bytes"] = weights.stat().st_size if weights.exists() else 0
    try:
        config = read_adapter_config(folder)
        about |= {"base": config.base, "rank": config.rank}
        read = adapter.read_adapter(folder, config)
    except InputError as error:
        return Checkpoint(folder, "lora", problem=error.problems[0], **about)
    return Checkpoint(folder, "lora", **about | _summary(read, config))


def _summary(read: Adapter, config: AdapterConfig) -> dict:
    places = {*read.modules, *(name.rpartition(".")[0] for name in (*read.copied, *read.rows))}
    return {
        "rank": max(module.rank for module in read.modules.values()),
        "targets": tuple(sorted({name.rsplit(".", 1)[-1] for name in places})),
        "modules": len(read.modules),
        "base": config.base,
        "unmatched": read.unmatched,
    }
