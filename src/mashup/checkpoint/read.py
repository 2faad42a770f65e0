"""One folder in, one Checkpoint out; a broken folder becomes a Checkpoint with a problem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mashup.checkpoint import adapter, full, history
from mashup.checkpoint.adapter import Adapter
from mashup.checkpoint.config import CONFIG, AdapterConfig, read_adapter_config
from mashup.checkpoint.distributed import in_pieces, trainer_of_shards
from mashup.checkpoint.full import read_tensors
from mashup.checkpoint.history import read_base
from mashup.checkpoint.naming import named_base, names_of, unique_names
from mashup.checkpoint.stored import total_bytes
from mashup.errors import InputError, Problem
from mashup.files import check_name, read_json, require_folder

Kind = Literal["lora", "full"]
FULL_WEIGHTS = (full.WEIGHTS, full.INDEX, *full.PICKLES)


@dataclass(frozen=True)
class Checkpoint:
    """One past training result.

    Attributes:
        path: its folder.
        kind: ``lora`` (a PEFT adapter) or ``full`` (a whole model).
        name: the end of its path: ``run``, or ``run/checkpoint-N`` for a step of a run. Within a
            library, or a list of parents, as much of the path as no other has.
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
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", next(names_of(self.path)))

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
        return self.problem is None

    @property
    def state(self) -> str:
        """One phrase for tables: ``ok``, a note, or what is wrong."""
        if self.problem:
            return self.problem.what
        kind = "whole model, " if self.kind == "full" else ""
        if not self.base:
            return kind + "base not named"
        missing = f"; no weights for {', '.join(self.unmatched)}" if self.unmatched else ""
        return f"{kind}ok{missing}"


def with_unique_names(checkpoints: Iterable[Checkpoint]) -> tuple[Checkpoint, ...]:
    """The same checkpoints, those that share a name with a longer one."""
    given = tuple(checkpoints)
    names = unique_names([c.path for c in given], [c.name for c in given])
    both = zip(given, names, strict=True)
    return tuple(c if c.name == name else replace(c, name=name) for c, name in both)


def kind_of(names: Iterable[str]) -> Kind | None:
    """What a folder with files of these names holds, None when it is no checkpoint."""
    found = set(names)
    if found & {CONFIG, adapter.WEIGHTS, adapter.PICKLE}:
        return "lora"
    if "config.json" in found and found & set(FULL_WEIGHTS):
        return "full"
    return "full" if trainer_of_shards(found) else None


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a whole model, by the names of its files."""
    return folder.is_dir() and kind_of(path.name for path in folder.iterdir()) == "full"


def check_start(init: Path, *, full: bool) -> None:
    """Whether a run can start from ``init``: an adapter, or a whole model for full fine-tuning.

    Raises:
        InputError: no folder, one of the other kind, or a path that PEFT cannot open.
    """
    check_name(init)
    require_folder(init)
    if is_whole(init) == full:
        return
    if full:
        what, found, expected = "init is an adapter", "adapter_config.json", "a whole model"
        fix = f"merge it into its base first: mashup merge {init} --output-kind full --model BASE"
    else:
        what, found = "init is a whole model", "config.json and weights of a model"
        expected = "an adapter folder"
        fix = f"give `finetuning_type` full, or train a LoRA on it with --model {init}"
    raise InputError(Problem(what, str(init), found, expected, fix))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Describe the checkpoint in ``folder`` from headers and JSON.

    A checkpoint that cannot be used is returned with its ``problem``.

    Raises:
        InputError: the folder is missing or holds no checkpoint at all.
    """
    checkpoint = describe(folder)
    return checkpoint if checkpoint.base else replace(checkpoint, base=named_base(folder))


def describe(folder: Path) -> Checkpoint:
    """:func:`read_checkpoint` by what the folder says itself, without names that users gave.

    Raises:
        InputError: as :func:`read_checkpoint`.
    """
    try:
        return _described(folder)
    except OSError as error:  # no rights, a disk that fails, or deleted while it was read
        found, fix = error.strerror or str(error), "check the path and the permissions"
        return Checkpoint(
            folder, "lora", problem=Problem("cannot read file", str(folder), found, fix=fix)
        )


def _described(folder: Path) -> Checkpoint:
    require_folder(folder)
    kind = kind_of(path.name for path in folder.iterdir())
    if kind is None:
        names = f"{CONFIG} and {adapter.WEIGHTS}"
        fix = "give the folder that holds these two files"
        raise InputError(Problem("no checkpoint here", str(folder), "neither", names, fix))
    return _read_full(folder) if kind == "full" else _read_lora(folder)


def _history(folder: Path) -> dict:
    return {
        "task": history.read_task(folder),
        "metric": history.read_metric(folder),
        "best_step": history.read_best_step(folder),
    }


def _read_full(folder: Path) -> Checkpoint:
    about = _history(folder) | {"base": read_base(folder)}
    whole = any((folder / name).exists() for name in FULL_WEIGHTS)
    pieces = None if whole else in_pieces(folder)
    if pieces:
        return Checkpoint(folder, "full", problem=pieces, **about)
    try:
        refuse_quantised(folder)
        tensors = read_tensors(folder)
    except InputError as error:
        return Checkpoint(folder, "full", problem=error.problems[0], **about)
    about |= {"bytes": total_bytes(tensors), "modules": len(tensors)}
    return Checkpoint(folder, "full", **about)


def refuse_quantised(folder: Path) -> None:
    """Refuse weights that are not numbers of the model but codes for them.

    Raises:
        InputError: ``config.json`` is damaged, or tells how the weights were quantised.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        found, fix = f"a {type(config).__name__}", "copy the folder again"
        raise InputError(Problem("not JSON", str(folder / "config.json"), found, "settings", fix))
    how = config.get("quantization_config")
    if how:
        name = how.get("quant_method", "unknown") if isinstance(how, dict) else "unknown"
        fix = "use the 16-bit weights, or load and save them dequantised (model.dequantize())"
        found, where = f"quantised with {name}", str(folder)
        raise InputError(Problem("quantised weights", where, found, "16- or 32-bit weights", fix))


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
