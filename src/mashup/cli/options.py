"""One definition for flags, YAML keys and defaults: a pydantic model becomes a command.

Flags are spelled with dashes or underscores; names that transformers and TRL use for the
same thing work as well (``--output_dir``, ``--model_name_or_path``, ...), in YAML too.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import Field
from pydantic.fields import FieldInfo

from mashup.cli import show
from mashup.errors import MashupError, Problem, UsageError
from mashup.faults import Place, dotted, names_of, read_yaml, validated
from mashup.processes import process_count
from mashup.settings import Settings

#: Our name -> other names for it in transformers, TRL and their recipes.
ALIASES: dict[str, tuple[str, ...]] = {
    "model": ("model_name_or_path",),
    "dataset": ("dataset_name",),
    "output": ("output_dir",),
    "epochs": ("num_train_epochs",),
    "warmup": ("warmup_ratio",),
    "scheduler": ("lr_scheduler_type",),
}
_SHORT = {"output": "-o", "model": "-m", "dataset": "-d"}


class Options(Settings):
    """Base of all commands' options."""


T = TypeVar("T", bound=Options)


class JsonOption(Options):
    json_: bool = Field(False, alias="json", description="print JSON instead of a table")


def positional(description: str, default: Any = ...) -> Any:
    """A field that is given without a flag."""
    return Field(default, description=description, json_schema_extra={"positional": True})


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
        with _exit_codes():
            if process_count() > 1 and not many:
                raise UsageError(_one_process(name))
            raise typer.Exit(_run(given) or 0)

    def _run(given: dict[str, Any]) -> int | None:
        named = {flag_names.get(k, k): v for k, v in given.items() if v not in (None, [])}
        path = named.pop("config", None)
        values = (read_yaml(path) if path else {}) | named
        return run(build(options, values, str(path) if path else "the command line"))

    flag_names = dict(zip(options.model_fields, names_of(options), strict=True))
    parameters = [_parameter(key, field) for key, field in options.model_fields.items()]
    command.__signature__ = inspect.Signature([*parameters, _CONFIG])  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    app.command(name)(command)


def _one_process(name: str) -> Problem:
    found, expected = f"mashup {name} in {process_count()} processes", "one process"
    fix = "start it plainly; mashup train and mashup loo run over several devices"
    return Problem("works in one process", "accelerate launch", found, expected, fix)


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Show our own errors as a table and exit with their code; the rest are crashes."""
    try:
        yield
    except MashupError as error:
        show.problems(error.problems)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one was", file=sys.stderr)
        raise typer.Exit(130) from None


_YAML = typer.Option("--config", help="YAML file with the same names")
_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[Path | None, _YAML],
)


def build(options: type[T], values: dict[Any, Any], where: str) -> T:
    """Validate ``values``; all faults at once.

    Raises:
        UsageError: unknown names (with a suggestion), missing or impossible values.
    """
    known = names_of(options)
    renamed = {_canonical(str(key), known): value for key, value in values.items()}
    return validated(options, renamed, where, spelled=_flag)


def _canonical(key: str, known: Container[str]) -> str:
    plain = key.replace("-", "_")
    for name, others in ALIASES.items():
        if plain in others and name in known:
            return name
    return plain


def _flag(place: Place) -> str:
    """``--seeds``, also of one of several values, which stands in the problem itself."""
    return _dashed(dotted(tuple(part for part in place if isinstance(part, str))))


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parameter(key: str, field: FieldInfo) -> inspect.Parameter:
    """A typer parameter for one field; None means "not given", pydantic fills the default."""
    text = field.description or ""
    extra = field.json_schema_extra
    made: Any
    if isinstance(extra, dict) and extra.get("positional"):
        made = typer.Argument(help=text, metavar=key.upper(), show_default=False)
    else:
        made = typer.Option(*_flags(key, field), help=_help(text, field), metavar=_metavar(field))
    kind: Any = bool if field.annotation is bool else str
    if _inner(field.annotation, tuple):
        kind = list[str]
    annotation = Annotated[kind | None, made]
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _flags(key: str, field: FieldInfo) -> list[str]:
    names = [field.alias or key, *ALIASES.get(key, ())]
    return [*([_SHORT[key]] if key in _SHORT else []), *map(_dashed, names)]


def _help(text: str, field: FieldInfo) -> str:
    default = field.default
    if field.is_required() or default in (None, False, ()):
        return text
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{text} (default: {shown})"


def _metavar(field: FieldInfo) -> str | None:
    """The choices of a Literal, else the kind of value; None for switches."""
    choices = _inner(field.annotation, Literal)
    if choices:
        return "|".join(map(str, choices))
    if field.annotation is bool:
        return None
    kinds = {int: "N", float: "X"}
    kind = _inner(field.annotation, tuple)[:1] or (_bare(field.annotation),)
    return kinds.get(kind[0], "TEXT") + ("..." if _inner(field.annotation, tuple) else "")


def _bare(annotation: Any) -> Any:
    """``X`` of ``X | None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation


def _inner(annotation: Any, origin: Any) -> tuple[Any, ...]:
    """Arguments of ``origin[...]`` when the annotation is one, also within ``| None``."""
    bare = _bare(annotation)
    return get_args(bare) if get_origin(bare) is origin else ()
