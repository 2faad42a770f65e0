"""A folder becomes a Checkpoint (a summary) or an Opened (settings and headers, read once).

A broken folder becomes a Checkpoint with a problem. Checkpoints that a sharded trainer left in
pieces are recognised by file names: those of DeepSpeed (``global_stepN``, ``zero_to_fp32.py``), of
the FSDP of accelerate (``pytorch_model_fsdp_0``) and of the distributed checkpoints of torch
(``*.distcp``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mashup.checkpoint import adapter, full, history
from mashup.checkpoint.adapter import Adapter
from mashup.checkpoint.config import CONFIG, AdapterConfig, read_adapter_config
from mashup.checkpoint.full import changed_apart, open_model, read_settings, read_tensors, untied
from mashup.checkpoint.history import read_base
from mashup.checkpoint.identity import named_base, names_of, unique_names
from mashup.checkpoint.locate import base_of_adapter
from mashup.checkpoint.safetensors import Stored, total_bytes
from mashup.checkpoint.vocabulary import Place, embedding_place
from mashup.errors import InputError, Problem
from mashup.files import check_name, require_folder

Kind = Literal["lora", "full"]
FULL_WEIGHTS = (full.WEIGHTS, full.INDEX, *full.PICKLES)


@dataclass(frozen=True)
class Checkpoint:
    """One past training result.

    Attributes:
        path: its folder.
        kind: ``lora`` (a PEFT adapter) or ``full`` (all weights of a model).
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
        unmatched: names in its settings that match none of its weights.
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
        kind = "full checkpoint, " if self.kind == "full" else ""
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


def is_full_checkpoint(folder: Path) -> bool:
    """Whether a folder is a full checkpoint, by the names of its files."""
    return folder.is_dir() and kind_of(path.name for path in folder.iterdir()) == "full"


def check_start(init: Path, *, full: bool) -> None:
    """Whether a run can start from ``init``: an adapter, or a full checkpoint for full fine-tuning.

    Raises:
        InputError: no folder, one of the other kind, or a path that PEFT cannot open.
    """
    check_name(init)
    require_folder(init)
    if is_full_checkpoint(init) == full:
        return
    if full:
        what, found, expected = "init is an adapter", "adapter_config.json", "a full checkpoint"
        fix = f"merge it into its base first: mashup merge {init} --output-kind full --model BASE"
    else:
        what, found = "init is a full checkpoint", "config.json and weights of a model"
        expected = "an adapter folder"
        fix = f"give `finetuning_type` full, or train a LoRA on it: `base` {init}"
    raise InputError(Problem(what, str(init), found, expected, fix))


@dataclass(frozen=True)
class Opened:
    """A checkpoint with its settings and headers, read once and passed on. It holds no numbers.

    Attributes:
        checkpoint: what and where it is.
        config: settings of an adapter; None for a full checkpoint.
        adapter: what an adapter changes in its base; None for a full checkpoint.
        settings: ``config.json`` of a full checkpoint; empty for an adapter.
        tensors: name to place of all tensors of a full checkpoint; empty for an adapter.
        tied: whether the output head of a full checkpoint is its embedding.
    """

    checkpoint: Checkpoint
    config: AdapterConfig | None = None
    adapter: Adapter | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Stored] = field(default_factory=dict)
    tied: bool = False

    @property
    def path(self) -> Path:
        return self.checkpoint.path

    @property
    def is_full(self) -> bool:
        return self.checkpoint.kind == "full"

    @cached_property
    def values(self) -> Mapping[str, Stored]:
        """Name of a base tensor to its new value: of a tied model without the head."""
        return self.adapter.saved if self.adapter else untied(self.tensors, tied=self.tied)

    @property
    def stored(self) -> Sequence[Stored]:
        """All tensors that are read, of a tied model without the head."""
        if self.adapter is None:
            return tuple(self.values.values())
        one = self.adapter
        halves = (half for module in one.modules.values() for half in (module.A, module.B))
        pairs = (stored for _, stored in (*one.rows.values(), *one.biases.values()))
        return (*halves, *one.saved.values(), *one.originals.values(), *pairs)

    @property
    def apart(self) -> list[str]:
        """Names of what it changes in one of a tied pair of tensors alone."""
        return changed_apart(self.adapter) if self.adapter else list(self.values)

    @property
    def embedding(self) -> Place | None:
        """Its folder and how many rows its new embedding has; None without one."""
        shapes = {name: one.shape for name, one in self.values.items()}
        return embedding_place(self.path, shapes)


def open_checkpoint(given: Checkpoint | str | Path) -> Opened:
    """Read the settings and headers of a checkpoint.

    Args:
        given: a folder, or a checkpoint that was described before, which keeps its name and base.

    Raises:
        InputError: no checkpoint, or a broken one; with all problems of its files.
    """
    if isinstance(given, Checkpoint):
        if given.problem:
            raise InputError(given.problem)
        opened = _open(given.path, given.kind)
        return replace(opened, checkpoint=given)
    opened, problems = examine(Path(given))
    if problems:
        raise InputError(*problems)
    return opened


def examine(folder: Path) -> tuple[Opened, tuple[Problem, ...]]:
    """:func:`open_checkpoint` of a folder that may be broken: what could be read, and all problems.

    Raises:
        InputError: the folder is missing or holds no checkpoint at all.
    """
    try:
        kind = _kind(folder)
        try:
            opened = _open(folder, kind)
        except InputError as error:
            return Opened(_broken(folder, kind, error.problems[0])), error.problems
        about = _history(folder) | _summary(opened)
        checkpoint = Checkpoint(folder, kind, **about)
    except OSError as error:
        problem = _unreadable(folder, error)
        return Opened(Checkpoint(folder, "lora", problem=problem)), (problem,)
    return replace(opened, checkpoint=_with_base(checkpoint)), ()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Describe the checkpoint in ``folder`` from headers and JSON.

    A checkpoint that cannot be used is returned with its ``problem``. The head of a tied model
    is not compared with its embedding, since that would read weights.

    Raises:
        InputError: the folder is missing or holds no checkpoint at all.
    """
    return _with_base(describe(folder))


def describe(folder: Path) -> Checkpoint:
    """:func:`read_checkpoint` by what the folder says itself, without names that users gave.

    Raises:
        InputError: as :func:`read_checkpoint`.
    """
    try:
        kind = _kind(folder)
        try:
            opened = _open(folder, kind, heads=False)
        except InputError as error:
            return _broken(folder, kind, error.problems[0])
        return Checkpoint(folder, kind, **_history(folder) | _summary(opened))
    except OSError as error:  # no rights, a disk that fails, or deleted while it was read
        return Checkpoint(folder, "lora", problem=_unreadable(folder, error))


def _with_base(checkpoint: Checkpoint) -> Checkpoint:
    """With the base that a user named, where the folder names none."""
    return checkpoint if checkpoint.base else replace(checkpoint, base=named_base(checkpoint.path))


def _unreadable(folder: Path, error: OSError) -> Problem:
    found, fix = error.strerror or str(error), "check the path and the permissions"
    return Problem("cannot read file", str(folder), found, fix=fix)


def _kind(folder: Path) -> Kind:
    require_folder(folder)
    kind = kind_of(path.name for path in folder.iterdir())
    if kind is None:
        names = f"{CONFIG} and {adapter.WEIGHTS}"
        fix = "give the folder that holds these two files"
        raise InputError(Problem("no checkpoint here", str(folder), "neither", names, fix))
    return kind


def _open(folder: Path, kind: Kind, *, heads: bool = True) -> Opened:
    """The content of a folder; its checkpoint is filled in by the caller.

    Args:
        folder, kind: of the checkpoint.
        heads: compare the stored head of a tied model with its embedding.

    Raises:
        InputError: missing, damaged or of an unknown kind; all problems at once.
    """
    bare = Checkpoint(folder, kind, name=folder.name)
    if kind == "lora":
        config = read_adapter_config(folder)
        return Opened(bare, config, adapter.read_adapter(folder, config))
    whole = any((folder / name).exists() for name in FULL_WEIGHTS)
    if not whole and (pieces := in_pieces(folder)):
        raise InputError(pieces)
    if heads:
        settings, tensors, tied = open_model(folder)
        return Opened(bare, settings=settings, tensors=tensors, tied=tied)
    settings = read_settings(folder)
    return Opened(bare, settings=settings, tensors=read_tensors(folder))


def _history(folder: Path) -> dict[str, Any]:
    return {
        "task": history.read_task(folder),
        "metric": history.read_metric(folder),
        "best_step": history.read_best_step(folder),
    }


def _summary(opened: Opened) -> dict[str, Any]:
    """Fields of a Checkpoint that its settings and headers tell."""
    folder, config, read = opened.path, opened.config, opened.adapter
    if config is None or read is None:
        size, count = total_bytes(opened.tensors), len(opened.tensors)
        return {"base": read_base(folder, opened.settings), "bytes": size, "modules": count}
    places = {*read.modules, *(name.rpartition(".")[0] for name in (*read.copied, *read.rows))}
    return {
        "bytes": (folder / adapter.WEIGHTS).stat().st_size,
        "rank": max(module.rank for module in read.modules.values()),
        "targets": tuple(sorted({name.rsplit(".", 1)[-1] for name in places})),
        "modules": len(read.modules),
        "base": config.base,
        "unmatched": read.unmatched,
    }


def _broken(folder: Path, kind: Kind, problem: Problem) -> Checkpoint:
    """What a checkpoint tells that cannot be used."""
    about = _history(folder)
    if kind == "full":
        return Checkpoint(folder, kind, problem=problem, **about | {"base": read_base(folder)})
    weights = folder / adapter.WEIGHTS
    about["bytes"] = weights.stat().st_size if weights.exists() else 0
    try:
        config = read_adapter_config(folder)
        about |= {"base": config.base, "rank": config.rank}
    except InputError:
        about["base"] = base_of_adapter(folder)
    return Checkpoint(folder, kind, problem=problem, **about)


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


def is_optimizer(folder: str, names: Iterable[str]) -> bool:
    """Whether a folder of this name with files of these names is FSDP's optimizer, no model."""
    return folder.startswith("optimizer_") and any(name.endswith(".distcp") for name in names)


def in_pieces(folder: Path) -> Problem | None:
    """The problem of a folder without weights of its own but with a trainer's shards."""
    names = sorted(path.name for path in folder.iterdir())
    trainer = trainer_of_shards(names)
    if trainer is None:
        return None
    fix = _deepspeed(names) if trainer == "DeepSpeed" else _fsdp(names)
    found, expected = f"shards of {trainer}", "whole weights"
    return Problem("checkpoint in pieces", str(folder), found, expected, fix)


def _deepspeed(names: Sequence[str]) -> str:
    """DeepSpeed leaves a script that joins its shards; without it the package has the same."""
    script = "zero_to_fp32.py" if "zero_to_fp32.py" in names else "-m deepspeed.utils.zero_to_fp32"
    return _run(f"python {script} . consolidated --safe_serialization")


def _fsdp(names: Sequence[str]) -> str:
    """accelerate joins a folder of shards; a model that is in one file only has another name."""
    files = [name for name in names if name.startswith(_FSDP) and name.endswith(".bin")]
    if files:
        return f"rename {files[0]} to pytorch_model.bin, then run 'mashup convert' on the folder"
    shards = next((name for name in names if name.startswith(_FSDP)), ".")
    return _run(f"accelerate merge-weights {shards} consolidated")


def _run(command: str) -> str:
    return (
        f"run '{command}' in this folder, copy config.json and the tokenizer into consolidated, "
        "and use that"
    )
