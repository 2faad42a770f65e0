"""mergekit's YAML: read into our settings, and written from them.

Written for mergekit 0.1.5. Only what means the same in both is taken; everything else is refused
by its name. Methods are compared with mergekit itself in tests/oracles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mashup.errors import Problem, UsageError
from mashup.hub import REPOSITORY
from mashup.settings import MergeSettings, ModuleRule

_WHAT = "not the same in mergekit"  # the problem of a setting that has no counterpart
#: Keys that only mergekit's files have. A file with one of them is mergekit's.
_MARKS = ("merge_method", "models", "slices", "modules", "parameters")
_KEYS = (*_MARKS, "base_model", "dtype", "out_dtype", "tokenizer_source", "tokenizer")
_REASONS = {
    "slices": "layers of models stacked anew; write models",
    "modules": "parts of a model merged apart; write models",
    "chat_template": "that of the tokenizer is copied",
}
#: Method to the parameters that mean the same in both, besides weight and lambda.
_METHODS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "task_arithmetic": (),
    "ties": ("density",),
    "dare_linear": ("density",),
    "dare_ties": ("density",),
    "della": ("density", "epsilon"),
    "breadcrumbs": ("density", "gamma"),
    "model_stock": (),
}
_WHY_NOT = {"slerp": "mergekit turns whole weights, mashup the differences from the base"}
#: mergekit's defaults where ours differ.
_DEFAULTS = {"density": 1.0, "epsilon": 0.15, "gamma": 0.01}
_NORMALIZES = ("linear", "ties", "della")  # by default
_RESCALES = ("dare_linear", "dare_ties", "della")  # by default
_DRAWS = _RESCALES  # numbers to drop, at random
_ELECTS = ("ties", "dare_ties", "della")
_SWITCHES = {"normalize", "rescale", "int8_mask", "filter_wise"}
_ROUNDING = 1e-9
_DTYPES = ("float64", "float32", "bfloat16", "float16")
_Parameters = Mapping[str, Any]  # as a file has them
_Given = dict[str, Any]  # settings of ours by name
_Rule = tuple[str, tuple[float, ...]]  # a part of names, and the values over the layers


@dataclass(frozen=True)
class Mergekit:
    """What a file of mergekit asks for.

    Attributes:
        models: folders, or ``hub:OWNER/NAME``, in its order; without the base.
        base: the base model; None without one.
        settings: ours.
        notes: where the results differ, though the method is the same.
    """

    models: tuple[str, ...]
    base: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_mergekit(values: Mapping[Any, Any]) -> bool:
    """Whether a file of settings is mergekit's: by keys that ours do not have."""
    return any(key in values for key in _MARKS)


def read_mergekit(values: Mapping[Any, Any], where: str, ours: Collection[str] = ()) -> Mergekit:
    """The merge that a file of mergekit describes.

    Args:
        values: the content of its YAML.
        where: the file.
        ours: names of settings that belong in files of mashup, for a clear refusal.

    Raises:
        UsageError: methods, keys or parameters without the same meaning in both, settings of
            ours between those of mergekit, and values that cannot be; all at once.
    """
    reader = _Reader(values, where, {*MergeSettings.model_fields, *ours})
    made = reader.read()
    if reader.problems:
        raise UsageError(*reader.problems)
    assert made is not None
    return made


class _Reader:
    """Reads one file and collects what is wrong with it."""

    def __init__(self, values: Mapping[Any, Any], where: str, ours: Collection[str]) -> None:
        self.values, self.where, self.ours = values, where, ours
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def refuse(
        self, what: str, name: str, found: Any = "", expected: str = "", fix: str = ""
    ) -> None:
        text = str(found)[:200]
        self.problems.append(Problem(what, f"{self.where}, {name}", text, expected, fix))

    def read(self) -> Mergekit | None:
        method = self._method()
        base = self._model("base_model", self.values.get("base_model"), None)
        models, own = self._models(base)
        shared = self._mapping("parameters", self.values.get("parameters"))
        self._keys()
        settings: dict[str, Any] = {"output_kind": "full", **self._types(), **self._tokenizer(base)}
        if method is None or not models:
            return None
        self._base(method, base, models)
        settings |= {"method": method} | self._switches(method, shared, own)
        settings |= self._numbers(method, shared, own)
        if method in _DRAWS and self._drops(shared, own):
            self.notes.append(
                f"{method} drops other numbers than mergekit, which draws them otherwise and "
                "rescales what is left to the norm of the delta; mashup divides by the density"
            )
        return Mergekit(tuple(map(_place, models)), base, settings, tuple(self.notes))

    def _keys(self) -> None:
        for key in self.values:
            if key in _REASONS:
                self.refuse(_WHAT, str(key), "", "", _REASONS[key])
            elif key in self.ours and key not in _KEYS:
                fix = "give it as a flag, or write the whole file with the names of mashup"
                self.refuse("settings of mashup and of mergekit in one file", str(key), fix=fix)
            elif key not in _KEYS:
                known = ", ".join(_KEYS)
                self.refuse("unknown setting", str(key), fix=f"known of mergekit are {known}")

    def _method(self) -> str | None:
        method = self.values.get("merge_method")
        if method in _METHODS:
            return str(method)
        expected = ", ".join(_METHODS)
        if method is None:
            self.refuse("missing setting", "merge_method", expected=expected)
        else:
            reason = _WHY_NOT.get(str(method), "mashup has no such method")
            self.refuse(_WHAT, "merge_method", method, expected, reason)
        return None

    # Models

    def _models(self, base: str | None) -> tuple[list[str], list[Mapping[str, Any]]]:
        """Models without the base (unless all are averaged), and the parameters of each."""
        given = self.values.get("models")
        if not isinstance(given, list) or not given:
            if not any(key in self.values for key in _REASONS):
                self.refuse("missing setting", "models", "" if given is None else given, "a list")
            return [], []
        names, own = [], []
        for place, entry in enumerate(given):
            where = f"models.{place}"
            if not isinstance(entry, dict):
                self.refuse("bad setting", where, entry, "model, and parameters")
                continue
            strange = sorted(map(str, entry.keys() - {"model", "parameters"}))
            if strange:
                expected = "model, and parameters"
                self.refuse("unknown setting", where, ", ".join(strange), expected)
            name = self._model(f"{where}.model", entry.get("model"), base)
            parameters = self._mapping(f"{where}.parameters", entry.get("parameters"))
            if name is None:
                self.refuse("missing setting", f"{where}.model", expected="a model")
            elif name != base or self.values.get("merge_method") == "linear":
                names.append(name)
                own.append(parameters)
        if not names:
            self.refuse("bad setting", "models", "the base alone", "a model besides the base")
        return names, own

    def _model(self, where: str, given: Any, base: str | None) -> str | None:
        """A model's folder; of ``BASE+LORA`` that of the LoRA."""
        if given is None:
            return None
        if not isinstance(given, str):
            self.refuse("bad setting", where, given, "the name of a model, as text")
            return None
        name, plus, lora = given.partition("+")
        model = lora if plus else given
        revised = "@" in name if plus else "@" in given and not where.startswith("models.")
        if (revised or ("@" in model and _place(model) == model)) and not Path(given).exists():
            fix = "download this revision and give its folder"
            self.refuse(_WHAT, where, given, "a folder", fix)
        if plus and not Path(given).exists():
            if base is None or name != base:
                expected = "a LoRA on base_model"
                self.refuse(_WHAT, where, given, expected, "merge the LoRA into its model first")
            return lora
        return given

    def _base(self, method: str, base: str | None, models: Sequence[str]) -> None:
        if method != "linear" and base is None:
            self.refuse("missing setting", "base_model", expected=f"the base, for {method}")
        if method == "linear" and base is not None and base not in models:
            fix = "list it under models, or leave base_model out"
            found = "a base that is not among the models: mergekit averages it with them"
            self.refuse(_WHAT, "base_model", found, "", fix)

    def _mapping(self, where: str, given: Any) -> Mapping[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            self.refuse("bad setting", where, given, "names and values")
            return {}
        return given

    # Types and tokenizer

    def _types(self) -> dict[str, Any]:
        made = {}
        for name in ("dtype", "out_dtype"):
            given = self.values.get(name)
            if given is None:
                continue
            if given in _DTYPES:
                made["dtype"] = given  # out_dtype, the later of the two, is what is written
            else:
                self.refuse("bad setting", name, given, ", ".join(_DTYPES))
        return made

    def _tokenizer(self, base: str | None) -> dict[str, Any]:
        source: Any = self.values.get("tokenizer_source")
        tokenizer, where = self.values.get("tokenizer"), "tokenizer_source"
        if tokenizer is not None:
            about, where = self._mapping("tokenizer", tokenizer), "tokenizer.source"
            for name in sorted(about.keys() - {"source"}):
                reason = "tokens are matched by their text"
                self.refuse(_WHAT, f"tokenizer.{name}", about[name], "", reason)
            if source is not None:
                self.refuse("one setting under two names", "tokenizer and tokenizer_source")
            source = about.get("source", "union")
        if source in (None, "union"):
            return {}  # the first vocabulary that has all tokens; else the merge says so
        if source == "base" and base is None:
            self.refuse("missing setting", "base_model", expected=f"the base, for {where}")
            return {}
        folder = base if source == "base" else self._model(where, source, base)
        return {"tokenizer": folder} if folder else {}

    # Parameters

    def _switches(self, method: str, shared: _Parameters, own: Sequence[_Parameters]) -> _Given:
        """``normalize``, ``rescale`` and the like: only where they mean what we do."""
        self._names(method, shared, own)
        normalize = shared.get("normalize", method in _NORMALIZES)
        rescale = shared.get("rescale", method in _RESCALES)
        if rescale is not (method in _RESCALES) and self._drops(shared, own):
            found, expected = str(rescale).lower(), str(not rescale).lower()
            self.refuse(_WHAT, "parameters.rescale", found, expected)
        if shared.get("filter_wise"):
            self.refuse(_WHAT, "parameters.filter_wise", "true", "false")
        if method in _ELECTS and normalize is False:
            fix = "write normalize: true; mashup divides by the weights that agree"
            self.refuse(_WHAT, "parameters.normalize", "false", "true", fix)
        if method == "linear" and normalize is False and not self._sums_to_one(shared, own):
            fix = "write normalize: true, or weights that sum to 1, or task_arithmetic"
            self.refuse(_WHAT, "parameters.normalize", "false", "true", fix)
        is_setting = normalize is True and method not in (*_ELECTS, "model_stock")
        return {"normalize": True} if is_setting else {}

    def _names(self, method: str, shared: _Parameters, own: Sequence[_Parameters]) -> None:
        """Refuse parameters that the method does not have, and switches of single models."""
        known = {"model_stock": set(), "linear": {"weight"}}.get(method)
        known = {"weight", "lambda", "density", *_METHODS[method]} if known is None else known
        for place, parameters in (("parameters", shared), *_placed(own)):
            for name in sorted(map(str, parameters)):
                where = f"{place}.{name}"
                if name not in known | _SWITCHES:
                    expected = ", ".join(sorted(known)) or "none"
                    self.refuse("unknown setting", where, f"of {method}", expected)
                elif name in _SWITCHES and parameters is not shared:
                    self.refuse(_WHAT, where, fix="give it under parameters, for all models")
                elif name in _SWITCHES and not isinstance(parameters[name], bool):
                    self.refuse("bad setting", where, parameters[name], "true or false")

    def _drops(self, shared: _Parameters, own: Sequence[_Parameters]) -> bool:
        """Whether any number is dropped at all."""
        given = [one["density"] for one in (shared, *own) if "density" in one]
        return any(number != 1 for density in given for number in _leaves(density))

    def _sums_to_one(self, shared: _Parameters, own: Sequence[_Parameters]) -> bool:
        weights = [one.get("weight", shared.get("weight")) for one in own]
        plain = [weight for weight in weights if isinstance(weight, int | float)]
        return len(plain) == len(weights) and abs(sum(plain) - 1) < _ROUNDING

    def _numbers(self, method: str, shared: _Parameters, own: Sequence[_Parameters]) -> _Given:
        """Weights, λ, density and the like: a plain number, and rules for some tensors."""
        made: _Given = {}
        rules: list[ModuleRule] = []
        if method != "model_stock":
            found = [self._resolved("weight", n, one, shared) for n, one in enumerate(own)]
            for place, (value, before) in enumerate(found):
                if value is None and not any(match == "*" for match, _ in before):
                    where = f"models.{place}.parameters.weight"
                    self.refuse("missing setting", where, expected="a number for every tensor")
                rules += self._rules("weight", place, before)
            made["weights"] = [1.0 if value is None else value for value, _ in found]
        if method not in ("linear", "model_stock"):
            value, before = self._resolved("lambda", None, {}, shared)
            rules += self._rules("scale", None, before)
            if value == 0:
                self.refuse("bad setting", "parameters.lambda", 0, "a number other than 0")
            made["scale"] = value or 1.0
        for name in _METHODS[method]:
            made[name] = _DEFAULTS[name]
            found = [self._resolved(name, n, one, shared) for n, one in enumerate(own)]
            if all(one == found[0] for one in found):
                value, before = found[0]
                made[name] = made[name] if value is None else value
                rules += self._rules(name, None, before)
                continue
            for place, (value, before) in enumerate(found):
                last = ("*", (_DEFAULTS[name] if value is None else value,))
                rules += self._rules(name, place, [*before, last])
        return made | {"per_module": rules} if rules else made

    def _resolved(
        self, name: str, place: int | None, own: _Parameters, shared: _Parameters
    ) -> tuple[float | None, list[_Rule]]:
        """The number for all tensors, None for none, and what comes before it for some.

        Parameters of a model come before those of all models, as mergekit has it.
        """
        found: list[_Rule] = []
        for where, values in ((f"models.{place}.parameters", own), ("parameters", shared)):
            if name not in values:
                continue
            given = values[name]
            conditions = given if _is_conditional(given) else [{"value": given}]
            conditions = [conditions] if isinstance(conditions, dict) else conditions
            for one in conditions:
                numbers = self._values(f"{where}.{name}", one)
                match = str(one.get("filter") or "*") if isinstance(one, dict) else "*"
                if match == "*" and len(numbers) == 1:
                    return numbers[0], found
                if numbers:
                    found.append((match, numbers))
                if match == "*":
                    return None, found
        return None, found

    def _values(self, where: str, condition: Any) -> tuple[float, ...]:
        given: Any = condition.get("value") if isinstance(condition, dict) else condition
        values = given if isinstance(given, list) else [given]
        try:
            numbers = tuple(float(one) for one in values if not isinstance(one, bool))
        except (TypeError, ValueError):
            numbers = ()
        if not numbers or len(numbers) != len(values):
            expected = "a number, a list of numbers over the layers, or filter and value"
            self.refuse("bad setting", where, given, expected)
            return ()
        return numbers

    def _rules(self, name: str, place: int | None, found: Sequence[_Rule]) -> list[ModuleRule]:
        whose = None if place is None else place + 1
        made = []
        for match, values in found:
            try:
                made.append(ModuleRule(match=match, parent=whose, **{name: values}))
            except ValueError:
                where = f"models.{place}.parameters.{name}" if place is not None else name
                expected = "a number that the method can use"
                self.refuse("bad setting", where, values, expected)
        return made


def _place(name: str) -> str:
    """A model as our commands take it: ``hub:OWNER/NAME`` for what is no folder here."""
    is_hub = REPOSITORY.fullmatch(name.partition("@")[0]) and not Path(name).exists()
    return f"hub:{name}" if is_hub else name


def _is_conditional(given: Any) -> bool:
    return isinstance(given, dict) or (
        isinstance(given, list) and any(isinstance(one, dict) for one in given)
    )


def _leaves(given: Any) -> Iterator[Any]:
    """The numbers of a parameter, of all its conditions and layers."""
    if isinstance(given, dict):
        yield from _leaves(given.get("value"))
    elif isinstance(given, list):
        for one in given:
            yield from _leaves(one)
    else:
        yield given


def _placed(own: Sequence[_Parameters]) -> Iterator[tuple[str, _Parameters]]:
    return ((f"models.{place}.parameters", one) for place, one in enumerate(own))


# From our settings to a file of mergekit


def to_mergekit(
    models: Sequence[str],
    weights: Sequence[float],
    base: str | None,
    settings: MergeSettings,
    dtype: str,
) -> str:
    """The YAML with which mergekit makes the same full checkpoint.

    Args:
        models: folders; ``BASE+LORA`` for a LoRA.
        weights: one each.
        base: the base model; None without one.
        settings: ours.
        dtype: of what is written.

    Raises:
        UsageError: what mergekit cannot do, or means otherwise; all at once.
    """
    rules = settings.per_module
    is_mean = settings.normalize or (not rules and abs(sum(weights) - 1) < _ROUNDING)
    scales = any(rule.scale for rule in rules) or settings.scale != 1
    method = settings.method
    if method == "linear" and (not is_mean or scales):
        method = "task_arithmetic"  # the same sum of differences
    problems = [*_export_problems(settings), *_base_problem(method, base)]
    if problems:
        raise UsageError(*problems)
    own = _METHODS[method]
    shared: _Given = {"normalize": settings.normalize or method in _ELECTS or method == "linear"}
    shared |= {} if method == "linear" else {"lambda": _exported("scale", None, settings)}
    shared |= {"rescale": True} if method in _RESCALES else {}
    each = [
        {"weight": _exported("weight", place, settings, weight)}
        | {name: _exported(name, place, settings) for name in own}
        for place, weight in enumerate(weights)
    ]
    if method == "model_stock":
        shared, each = {}, [{} for _ in models]
    parts = [
        {"model": name} | ({"parameters": one} if one else {})
        for name, one in zip(models, each, strict=True)
    ]
    made = {
        "merge_method": method,
        **({} if method == "linear" or base is None else {"base_model": base}),
        "models": parts,
        **({"parameters": shared} if shared else {}),
        **({"tokenizer_source": settings.tokenizer} if settings.tokenizer else {}),
        "dtype": "float32",
        "out_dtype": dtype,
    }
    return yaml.safe_dump(made, sort_keys=False, allow_unicode=True)


def _exported(
    name: str, place: int | None, settings: MergeSettings, plain: float | None = None
) -> Any:
    """A number as mergekit has it: plain, or conditions on the names of tensors."""
    last = getattr(settings, name) if plain is None else plain
    conditions = []
    for rule in settings.per_module:
        values = getattr(rule, name)
        if values is not None and rule.parent in (None, place if place is None else place + 1):
            value = values[0] if len(values) == 1 else list(values)
            conditions.append({"filter": rule.match, "value": value})
    return [*conditions, {"value": last}] if conditions else last


def _export_problems(settings: MergeSettings) -> list[Problem]:
    """Settings that mergekit does not have."""
    problems = []
    if settings.method not in _METHODS:
        reason = _WHY_NOT.get(settings.method, "mergekit has no such method")
        found = f"`method` {settings.method}"
        problems.append(Problem(_WHAT, found, expected=", ".join(_METHODS), fix=reason))
    for name in ("untie", "allow_partial"):
        if getattr(settings, name):
            problems.append(Problem(_WHAT, f"`{name}`", fix="leave it out"))
    if settings.method == "model_stock" and (settings.scale != 1 or settings.per_module):
        problems.append(Problem(_WHAT, "`scale` or `per_module` with `method` model_stock"))
    return problems


def _base_problem(method: str, base: str | None) -> list[Problem]:
    if method == "linear" or base is not None:
        return []
    fix = f"give `base`: mergekit needs it for {method}"
    return [Problem("base model is needed", "`base`", "none", "the base model", fix)]
