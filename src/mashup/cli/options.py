"""One definition for flags, YAML keys and defaults: a pydantic model becomes a command.

Flags are spelled with dashes or underscores; names that transformers and TRL use for the
same thing work as well (``--output_dir``, ``--model_name_or_path``, ...), in YAML too.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import typer
from pydantic import Field
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from mashup.cli import show
from mashup.errors import Problem, UsageError
from mashup.faults import Place, dotted, names_of, read_yaml, suggestion, validated
from mashup.processes import process_count
from mashup.settings import Name, Settings, is_item, item_of, parts_of, words_of

#: Our name -> other names for it in transformers, TRL and their recipes.
ALIASES: dict[str, tuple[str, ...]] = {
    "model": ("model_name_or_path",),
    "dataset": ("dataset_name",),
    "output": ("output_dir",),
    "epochs": ("num_train_epochs",),
    "warmup": ("warmup_ratio",),
    "scheduler": ("lr_scheduler_type",),
    "max_length": ("max_seq_length",),
}
#: Names of other tools -> what to use here. A hint is given where its flags exist.
HINTS: dict[str, str] = {
    "adam_beta1": "leave it out; the optimizer has its usual betas",
    "adam_beta2": "leave it out; the optimizer has its usual betas",
    "adapter": "use --init",
    "base": "use --model",
    "base_model": "use --model",
    "bf16": "use --dtype bfloat16",
    "data_seed": "use --split-seed",
    "dataset_config": "write it behind the name: --dataset owner/name:config",
    "ddp_find_unused_parameters": "leave it out; use accelerate launch for several devices",
    "deepspeed": "not supported; accelerate launch with the whole model on each device is",
    "do_eval": "leave it out; --evaluations says how often",
    "do_train": "leave it out; training is what this command does",
    "eval_strategy": "use --eval-steps, or --evaluations",
    "evaluation_strategy": "use --eval-steps, or --evaluations",
    "fp16": "use --dtype float16",
    "fsdp": "not supported; accelerate launch with the whole model on each device is",
    "learning_rate_scheduler": "use --scheduler",
    "load_best_model_at_end": "use --keep best",
    "load_in_8bit": "not supported; train with your own trainer from the result of mashup init",
    "lora_modules": "use --lora-target-modules",
    "lora_task_type": "leave it out; it is CAUSAL_LM",
    "lr": "use --learning-rate",
    "merge_method": "use --method",
    "model_name": "use --model",
    "models": "list the checkpoint folders under checkpoints",
    "num_epochs": "use --epochs",
    "overwrite_output_dir": "leave it out; choose a new --output, or remove the old one",
    "packing": "leave it out; examples are not packed for training",
    "per_device_eval_batch_size": "leave it out; batches of evaluation are chosen by length",
    "push_to_hub": "not supported; publish the finished folder with: mashup push",
    "resume_from_checkpoint": "leave it out; the same command again continues where it stopped",
    "save_strategy": "use --save-steps",
    "save_total_limit": "leave it out; only the last resume point is kept",
    "target_modules": "use --lora-target-modules",
    "tf32": "leave it out; set it in PyTorch if you need it",
    "torch_dtype": "use --dtype",
    "use_peft": "leave it out; LoRA is the default, --finetuning-type full trains all weights",
    "warmup_steps": "use --warmup, a share of the steps",
}
_TYPED = "the command line"
_SHORT = {"output": "-o", "model": "-m", "dataset": "-d"}
_PANELS = ("Options", "Base model", "Data", "Choosing checkpoints", "Merging", "Training")


class Options(Settings):
    """Base of all commands' options."""

    @classmethod
    def from_file(cls, values: dict[Any, Any], where: str) -> dict[Any, Any]:
        """Values of the file of ``--config`` by our names; ``where`` is the file."""
        del where
        return values


T = TypeVar("T", bound=Options)


class JsonOption(Options):
    json_: bool = Field(False, alias="json", description="print JSON instead of text")


def positional(description: str) -> Any:
    """A field that is given without a flag."""
    return Field(description=description, json_schema_extra={"positional": True})


def add_command(
    app: typer.Typer,
    name: str,
    options: type[T],
    run: Callable[[T], int | None],
    *,
    many: bool = False,
) -> None:
    """Register ``run`` as the subcommand ``name`` with the fields of ``options`` as flags.

    ``many``: whether several processes may do it together.
    """

    def command(**given: Any) -> None:
        if process_count() > 1 and not many:
            raise UsageError(_one_process(name))
        try:
            code = run(parsed(options, given))
        except BrokenPipeError as error:
            if not any(map(show.is_closed, (sys.stdout, sys.stderr))):  # typer would say nothing
                raise RuntimeError("a library lost its connection") from error
            raise
        raise typer.Exit(code or 0)

    panels = _panels(options)
    fields = options.model_fields
    ordered = sorted(fields, key=lambda key: _place(key, fields[key], panels[key]))
    parameters = [_parameter(key, fields[key], panels[key]) for key in ordered]
    command.__signature__ = inspect.Signature([*parameters, _CONFIG])  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    app.command(name, cls=type("Verb", (_Verb,), {"options": options}))(command)


def parsed(options: type[T], given: Mapping[str, Any]) -> T:
    """Options from what typer read, laid over the file of ``--config``.

    Raises:
        UsageError: see :func:`build`; a file that cannot be read.
    """
    named = dict(zip(options.model_fields, names_of(options), strict=True))
    flags = {named.get(key, key): value for key, value in given.items() if value not in (None, [])}
    path = flags.pop("config", None)
    read = options.from_file(read_yaml(Path(path)), path) if path else {}
    values = canonical(options, read, path) if path else {}
    typed = dict.fromkeys(flags, _TYPED)
    return build(options, values | flags, path or _TYPED, typed)


def _one_process(name: str) -> Problem:
    found, expected = f"mashup {name} in {process_count()} processes", "one process"
    fix = "start it plainly; mashup train and mashup loo run over several devices"
    return Problem("works in one process", "accelerate launch", found, expected, fix)


def build(
    options: type[T],
    values: Mapping[Any, Any],
    where: str,
    others: Mapping[str, str] | None = None,
) -> T:
    """Validate ``values``; all faults at once. None stands for the default.

    Args:
        options: what they become.
        values: by name.
        where: the file that they are from.
        others: where single values are from, if not from there.

    Raises:
        UsageError: unknown names (with a suggestion), one setting under two names, missing or
            impossible values.
    """

    def spelled(place: Place) -> str:
        """``--seeds``, also for one of several values; ``LIBRARY`` for what has no flag."""
        names = dotted(tuple(part for part in place if isinstance(part, str)))
        field = options.model_fields.get(names)
        return names.upper() if field and _is_positional(field) else _dashed(names)

    given = canonical(options, values, where)
    about: Any = {"spelled": spelled, "hints": _hints(options), "others": others}
    return validated(options, given, where, **about)


def canonical(options: type[Options], values: Mapping[Any, Any], where: str) -> dict[Any, Any]:
    """Values by our own names, without those that are None.

    Raises:
        UsageError: two names of one setting.
    """
    known = names_of(options)
    others = {other: name for name in known for other in ALIASES.get(name, ())}
    found: dict[Any, list[Any]] = {}
    for key in values:
        plain = key.replace("-", "_") if isinstance(key, str) else key
        found.setdefault(others.get(plain, plain), []).append(key)
    twice = [" and ".join(map(str, keys)) for keys in found.values() if len(keys) > 1]
    if twice:
        what, fix = "one setting under two names", "keep one of them"
        raise UsageError(*(Problem(what, where, names, fix=fix) for names in twice))
    made = {name: values[key] for name, (key,) in found.items()}
    return {str(name): value for name, value in made.items() if value is not None}


def _hints(options: type[Options]) -> dict[str, str]:
    """Hints that name flags of this command only."""
    flags = {flag for flag, _ in _flag_fields(options)}
    named = {name: re.findall(r"--[\w-]+", hint) for name, hint in HINTS.items()}
    return {name: HINTS[name] for name, needed in named.items() if flags.issuperset(needed)}


def _flag_fields(options: type[Options]) -> Iterator[tuple[str, FieldInfo]]:
    """Every spelling of every flag."""
    for key, field in options.model_fields.items():
        if not _is_positional(field):
            yield from ((flag, field) for flag in _flags(key, field))


def _is_positional(field: FieldInfo) -> bool:
    return _extra(field, "positional")


def _extra(field: FieldInfo, name: str) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get(name))


def _item(field: FieldInfo) -> Any:
    """What one value of a list is; None for a flag with one value."""
    return Name if _extra(field, "several") else item_of(field.annotation)


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class _Verb(TyperCommand):
    """A command that takes flags as people type them, and whose help fits 80 columns."""

    options: ClassVar[type[Options]]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing
        return super().parse_args(ctx, args if completing else as_typed(self.options, args))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """One name a flag, and a mark at what must be given (by a flag or in the file)."""
        for parameter in self.params:
            field = self.options.model_fields.get(parameter.name or "")
            parameter.required = bool(field and field.is_required())
            others = {_dashed(other) for other in ALIASES.get(parameter.name or "", ())}
            parameter.opts = [name for name in parameter.opts if name not in others]
        super().format_help(ctx, formatter)


def as_typed(options: type[Options], arguments: Sequence[str]) -> list[str]:
    """Arguments as click takes them.

    ``--learning_rate`` becomes ``--learning-rate``. The flag of a list is repeated before each
    of its values: ``--seeds 1 2`` becomes ``--seeds 1 --seeds 2``. What follows such a flag
    belongs to it as long as it can be one of its values and is no file or folder.

    Raises:
        UsageError: flags that are not there, with a suggestion or what replaces them.
    """
    fields: dict[str, FieldInfo | None] = {"--config": None, "--help": None, "-h": None}
    fields |= dict(_flag_fields(options))
    made: list[str] = []
    unknown: list[str] = []
    plain: list[tuple[str, str]] = []
    many, waiting = "", False
    for n, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        field = fields.get(name)
        if waiting:
            made.append(argument)
            waiting = False
        elif argument == "--":
            made += arguments[n:]
            plain += [(one, "") for one in arguments[n + 1 :]]
            break
        elif name in fields:
            made.append(name + equals + value)
            many = name if field and _item(field) is not None else ""
            switch = name in ("--help", "-h") or (field is not None and field.annotation is bool)
            waiting = not equals and not switch
        elif name.startswith("--"):
            unknown.append(name)
            many = ""
        elif many and _belongs(argument, _item(fields[many])):  # type: ignore[arg-type]
            made += [many, argument]
        else:
            made.append(argument)
            plain.append((argument, many))
            many = ""
    problems = [*_unknown_flags(options, unknown, fields), *_too_many(options, plain)]
    if problems:
        raise UsageError(*problems)
    return made


def _too_many(options: type[Options], plain: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Arguments without a flag that are more than the command takes.

    Args:
        options: of the command.
        plain: each with the flag of a list that stands before it, or "".
    """
    fields = [field for field in options.model_fields.values() if _is_positional(field)]
    if any(item_of(field.annotation) is not None for field in fields):
        return
    strays = [one for one in plain if one[1]] + [one for one in plain[::-1] if not one[1]]
    for argument, flag in strays[: len(plain) - len(fields)]:
        fix = f"if it belongs to {flag}: it cannot be one of its values" if flag else "leave it out"
        yield Problem("unexpected argument", argument, fix=fix)


def _belongs(argument: str, item: Any) -> bool:
    """Whether an argument is one more value of a list, rather than a path behind it."""
    if not all(is_item(part, item) for part in parts_of(argument, item)):
        return False
    kind = get_args(item)[0] if get_args(item) else item
    return kind is not str or not os.path.exists(argument)


def _unknown_flags(
    options: type[Options], names: Sequence[str], known: Mapping[str, Any]
) -> Iterator[Problem]:
    hints = _hints(options)
    by_fix: dict[str, list[str]] = {}
    for name in names:
        near = suggestion(name, known, {_dashed(key): hint for key, hint in hints.items()})
        by_fix.setdefault(near or "see --help for the flags of this command", []).append(name)
    for fix, same in by_fix.items():
        yield Problem("unknown flag", ", ".join(same), fix=fix)


def _place(key: str, field: FieldInfo, panel: str) -> tuple[Any, ...]:
    """Where a field stands in the help: arguments, then panel by panel, required ones first."""
    rank = _PANELS.index(panel) if panel in _PANELS else len(_PANELS)
    return not _is_positional(field), rank, not field.is_required(), key == "json_"


def _panels(options: type[Options]) -> dict[str, str]:
    """The panel of each field: that of the class that first had it."""
    panels: dict[str, str] = {}
    for home in reversed(options.__mro__):
        for key in inspect.get_annotations(home):
            panels.setdefault(key, vars(home).get("panel", "Options"))
    return panels


_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option("--config", help="YAML or JSON file with these names", metavar="FILE"),
    ],
)


def _parameter(key: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    """A typer parameter for one field; None means "not given", pydantic fills the default."""
    made: Any
    if _is_positional(field):
        text = field.description or ""
        made = typer.Argument(help=text, metavar=key.upper(), show_default=False)
    else:
        words = words_of(field.annotation)
        made = typer.Option(
            *_flags(key, field),
            help=_help(key, field),
            metavar=_metavar(field),
            rich_help_panel=panel,
            autocompletion=(lambda: list(words)) if words else None,
        )
    kind: Any = bool if field.annotation is bool else str
    if _item(field) is not None:
        kind = list[str]
    annotation = Annotated[kind | None, made]
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _flags(key: str, field: FieldInfo) -> list[str]:
    names = [field.alias or key, *ALIASES.get(key, ())]
    return [*([_SHORT[key]] if key in _SHORT else []), *map(_dashed, names)]


def _help(key: str, field: FieldInfo) -> str:
    """The description, then the choices, the default and other names."""
    text, words = field.description or "", words_of(field.annotation)
    notes = [", ".join(words)] if words and not all(word in text for word in words) else []
    default = field.default
    if words and default == words:
        notes.append("default: all")
    elif not field.is_required() and default not in (None, False, ()):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        notes.append(f"default: {shown}")
    notes += [f"also {_dashed(other)}" for other in ALIASES.get(key, ())]
    return f"{text} ({'; '.join(notes)})" if notes else text


def _metavar(field: FieldInfo) -> str:
    """The kind of value; nothing for switches."""
    if field.annotation is bool:
        return ""
    item = _item(field)
    kind = item if item is not None else field.annotation
    parts = (kind, *get_args(kind))
    sign = "N" if int in parts else "X" if float in parts else "TEXT"
    return sign if item is None else f"{sign}..."
