"""Settings from YAML, JSON and flags: all that is wrong with them, in plain words, at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mashup.errors import Problem, UsageError, gather
from mashup.strict import parse_json, read_plain

_LONGEST = 200  # characters of a value that cannot be
_LEGIBLE = "write names and values, as in 'seed: 42'; put quotes around a text with ': ' or ' #'"

#: Where a setting is: names, keys of mappings and numbers in lists, from the outside in.
Place = tuple[Any, ...]
#: A part of a JSON schema.
Node = Mapping[str, Any]
T = TypeVar("T", bound=BaseModel)


def read_yaml(path: Path) -> dict[Any, Any]:
    """Names and values of a YAML or JSON file.

    Raises:
        UsageError: unreadable, neither YAML nor JSON, a name twice, or no names and values.
    """
    try:
        text = read_plain(path).decode()
        values = parse_json(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except OSError as error:
        fix = "give the path of a YAML file that can be read"
        raise UsageError(Problem("cannot read config", str(path), str(error), fix=fix)) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        # A ValueError is text that is not UTF-8, or a date that no calendar has.
        found = str(error).replace('"<unicode string>", ', "")
        raise UsageError(Problem("cannot read config", str(path), found, fix=_LEGIBLE)) from error
    if not isinstance(values, dict):
        found, expected = repr(values)[:_LONGEST], "names and values"
        raise UsageError(Problem("cannot read config", str(path), found, expected, _LEGIBLE))
    return values


class _Loader(yaml.SafeLoader):
    """Refuses a name that stands twice, where YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.tag.endswith(":str") and key.value in seen:
                problem = f"the name {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value if key.tag.endswith(":str") else None)
        return super().construct_mapping(node, deep)


def dotted(place: Place) -> str:
    """``train.lora_r``, as a place is called in YAML."""
    return ".".join(map(str, place))


def validated(
    model: type[T],
    values: Mapping[Any, Any],
    where: str,
    *,
    spelled: Callable[[Place], str] = dotted,
    hints: Mapping[str, str] | None = None,
    others: Mapping[str, str] | None = None,
) -> T:
    """A model made of ``values``; all faults at once.

    Args:
        model: whose fields the values are.
        values: by name; parts within it as mappings.
        where: the file, or what else the values are from.
        spelled: what the user calls a place, where it is not called as in YAML.
        hints: what to use instead of names that other tools have.
        others: where single values are from, by name, if not from ``where``.

    Raises:
        UsageError: unknown names (with a suggestion), missing or impossible values.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = _innermost(error.errors())
        unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
        found = (
            _problem(fault, model, values, _source(fault["loc"], others or {}, where), spelled)
            for fault in faults
            if fault["type"] != "extra_forbidden"
        )
        # Each part of a union that refuses a value has a fault of its own: one problem.
        bad = dict.fromkeys(found)
        raise UsageError(*bad, *_unknown(unknown, model, where, hints or {})) from None


def resolved(model: type[T], settings: T | None, given: Mapping[str, Any], where: str) -> T:
    """Settings of a Python call: a settings object, keyword arguments, or both together.

    Args:
        model: the kind of settings.
        settings: None for the defaults.
        given: keyword arguments by name; None stands for "not given".
        where: what was called, for messages.

    Raises:
        UsageError: unknown names, impossible values, or a name that stands in both.
    """
    if settings is not None and not isinstance(settings, model):
        found, expected = type(settings).__name__, model.__name__
        raise UsageError(Problem("bad setting", f"`settings` ({where})", found, expected))
    given = {name: value for name, value in given.items() if value is not None}
    base = given_of(settings)
    fix = "give it in `settings` or as an argument, not both"
    problems = [
        Problem("setting given twice", f"`{name}` ({where})", f"{base[name]} and {value}", fix=fix)
        for name, value in given.items()
        if name in base
    ]
    try:
        made = validated(model, base | given, where, spelled=lambda place: f"`{dotted(place)}`")
    except UsageError as error:
        raise UsageError(*error.problems, *problems) from None
    if problems:
        raise UsageError(*problems)
    return made


def given_of(settings: BaseModel | Mapping[str, Any] | None) -> dict[str, Any]:
    """What was given of settings that may be an object, a mapping, or None."""
    if isinstance(settings, BaseModel):
        return settings.model_dump(exclude_unset=True)
    return dict(settings or {})


def all_resolved(
    kinds: Sequence[tuple[type[BaseModel], BaseModel | None]],
    given: Mapping[str, Any],
    where: str,
) -> list[Any]:
    """Several settings of one Python call, each as by :func:`resolved`.

    Args:
        kinds: the kinds of settings, each with its object or None.
        given: keyword arguments by name, of any of the kinds.
        where: what was called, for messages.

    Raises:
        UsageError: as :func:`resolved`, for all kinds at once.
    """
    known = sorted({name for kind, _ in kinds for name in kind.model_fields})
    listed = f"known are {', '.join(known)}"
    strange = [
        Problem("unknown setting", where, name, fix=suggestion(name, known, {}) or listed)
        for name in given
        if name not in known
    ]

    def own(kind: type[BaseModel]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name in kind.model_fields}

    def refuse_strange() -> None:
        if strange:
            raise UsageError(*strange)

    steps = [partial(resolved, kind, settings, own(kind), where) for kind, settings in kinds]
    return gather(refuse_strange, *steps)[1:]


def names_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the names that a user gives them."""
    return {field.alias or key: field for key, field in model.model_fields.items()}


def _innermost(faults: Iterable[Any]) -> list[Any]:
    """Without those of a list or a part whose own fault is that of something in it."""
    faults = list(faults)
    outer = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return [fault for fault in faults if fault["loc"] not in outer]


def _source(place: Place, others: Mapping[str, str], where: str) -> str:
    return others.get(str(place[0]), where) if place else where


def _problem(
    fault: Any,
    model: type[BaseModel],
    values: Mapping[Any, Any],
    where: str,
    spelled: Callable[[Place], str],
) -> Problem:
    kind, msg = fault["type"], str(fault.get("ctx", {}).get("error", fault["msg"]))
    if not fault["loc"]:
        return Problem("bad settings", where, fix=msg)
    schema = model.model_json_schema()
    place, node = _find(schema, fault["loc"])
    name, called = dotted(place), spelled(place)
    if kind == "missing":
        fix = f"give {called}" if called == name else f"give {called}, or {name} in YAML"
        return Problem("missing setting", where, expected=name, fix=fix)
    found = fault["input"] if place == fault["loc"] else _value(values, place, fault["input"])
    if kind == "string_pattern_mismatch" and fault["loc"][-1] == "[key]":
        expected = f"names that match {fault['ctx']['pattern']}"
    elif kind == "invalid_key" or fault["loc"][-1] == "[key]":
        expected = "names that are text"
    else:
        expected = msg if kind == "value_error" else _in_words(node, schema)
    return Problem("bad setting", f"{called} ({where})", str(found)[:_LONGEST], expected)


def _find(schema: Node, loc: Place) -> tuple[Place, Node]:
    """The part of a schema that a place of pydantic leads to; unions are not entered."""
    node = schema
    for depth, part in enumerate(loc):
        inner = _step(_resolved(node, schema), part)
        if inner is None:
            return loc[:depth] or loc, node
        node = inner
    return loc, node


def _step(node: Node, part: Any) -> Node | None:
    if isinstance(part, int):
        return node.get("items")
    named = node.get("properties", {}).get(part)
    others = (*node.get("patternProperties", {}).values(), node.get("additionalProperties"))
    inner = (one for one in (named, *others) if isinstance(one, Mapping))
    return next(inner, None) if part != "[key]" else None


def _resolved(node: Node, schema: Node) -> Node:
    """The definition that a node refers to."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    return schema["$defs"][name] if name else node


def _value(values: Any, place: Place, otherwise: Any) -> Any:
    """What was given at a place."""
    for part in place:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return otherwise
    return values


def _in_words(node: Node, schema: Node) -> str:
    """``a whole number of at least 1``, for a person."""
    node = _resolved(node, schema)
    if "expected" in node:
        return str(node["expected"])
    if "anyOf" in node:
        parts = [part for part in node["anyOf"] if part.get("type") != "null"]
        return ", or ".join(_in_words(part, schema) for part in parts)
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return _listed(node["enum"])
    kind = node.get("type")
    if kind == "array":
        return f"a list; each {_in_words(node.get('items', {}), schema)}"
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
    words |= {"string": "text", "object": "names and values"}
    limits = (
        *(("minimum", "of at least"), ("exclusiveMinimum", "above")),
        *(("maximum", "of at most"), ("exclusiveMaximum", "below"), ("pattern", "that matches")),
    )
    bounds = [f"{word} {node[limit]}" for limit, word in limits if limit in node]
    return " ".join(filter(None, (words.get(str(kind), "another value"), " and ".join(bounds))))


def _listed(words: Sequence[Any]) -> str:
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last


def _unknown(
    places: Sequence[Place], model: type[BaseModel], where: str, hints: Mapping[str, str]
) -> list[Problem]:
    """Each name with what may have been meant; the others together with the names that exist."""
    problems: list[Problem] = []
    strange: dict[Place, list[str]] = {}
    for place in places:
        name, known = str(place[-1]), names_of(_part(model, place[:-1]))
        if fix := suggestion(name, known, hints):
            problems.append(Problem("unknown setting", where, dotted(place), fix=fix))
        else:
            strange.setdefault(place[:-1], []).append(dotted(place))
    for outer, names in strange.items():
        known = names_of(_part(model, outer))
        fix = f"known are {', '.join(sorted(known))}"
        problems.append(Problem("unknown setting", where, ", ".join(names), fix=fix))
    return problems


def suggestion(name: str, known: Iterable[str], hints: Mapping[str, str]) -> str:
    """What to use instead of an unknown name; empty if nothing is near."""
    if name in hints:
        return hints[name]
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else ""


def _part(model: type[BaseModel], place: Iterable[Any]) -> type[BaseModel]:
    """The model at a place within another; keys of mappings and numbers are passed by."""
    for name in place:
        field = names_of(model).get(name)
        model = (_model(field.annotation) if field else None) or model
    return model


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation, also as the values of a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model, get_args(annotation))), None)
