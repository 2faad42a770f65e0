"""Declarative records of benchmarks: which columns a row has and how it becomes a question.

One YAML file each in ``mashup/tasks``. Expressions are Jinja2 over the row's columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import yaml
from jinja2 import StrictUndefined, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from mashup.task.example import Example, RowError

_Made = TypeVar("_Made")

NO_ANSWER = "row.no-answer"  # code of a row whose answer is no label, or hidden


@dataclass(frozen=True)
class Record:
    """How the rows of one multiple-choice benchmark are asked.

    Attributes:
        name, hub, config, source: what it is called here and on the Hub, and the paper.
        columns: the columns that a row must have; they also tell the benchmark.
        instruction: the first line of the prompt.
        question: Jinja2 template of the question.
        options, labels: Jinja2 expressions that give the choices and what each is called.
        answer: Jinja2 expression that gives the label of the right choice.
    """

    name: str
    hub: str
    source: str
    columns: tuple[str, ...]
    instruction: str
    question: str
    options: str
    labels: str
    answer: str
    config: str | None = None

    def example(self, row: Mapping[str, Any]) -> Example:
        """The question as prompt and the right label as completion.

        Raises:
            RowError: a missing column, or an answer that is none of the labels.
        """
        missing = [column for column in self.columns if column not in row]
        if missing:
            raise RowError(f"no column {missing[0]!r}")
        labels, options = _texts(self.labels, row), _texts(self.options, row)
        if not labels or len(labels) != len(options):
            raise RowError(f"{len(options)} options for {len(labels)} labels")
        answer = _value(self.answer, row, str)
        if answer not in labels:
            raise RowError(f"answer {answer!r} is none of {', '.join(labels)}", NO_ANSWER)
        kind = "number" if labels[0].isdigit() else "letter"
        lines = [self.instruction, "", _text(self.question, row), ""]
        lines += [f"{label}. {option}" for label, option in zip(labels, options, strict=True)]
        lines += ["", f"Answer with the {kind} of the right choice and nothing else."]
        return Example.of("\n".join(lines), answer)


@cache
def known_records() -> tuple[Record, ...]:
    """The records that come with the package, by name."""
    files = resources.files("mashup.tasks").iterdir()
    texts = [file.read_text(encoding="utf-8") for file in files if file.name.endswith(".yaml")]
    values = (yaml.safe_load(text) for text in texts)
    made = [Record(**value | {"columns": tuple(value["columns"])}) for value in values]
    return tuple(sorted(made, key=lambda record: record.name))


def record_for(columns: set[str]) -> Record | None:
    """The record whose columns are all there; the one with most columns when several fit."""
    fitting = [record for record in known_records() if columns.issuperset(record.columns)]
    return max(fitting, key=lambda record: len(record.columns), default=None)


@cache
def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters["findall"] = lambda text, pattern: re.findall(pattern, text)
    return environment


@cache
def _expression(source: str) -> Any:
    return _environment().compile_expression(source, undefined_to_none=False)


@cache
def _template(source: str) -> Any:
    return _environment().from_string(source)


def _value(source: str, row: Mapping[str, Any], make: Callable[[Any], _Made]) -> _Made:
    """What ``make`` makes of an expression's value: only its use shows that it is undefined."""
    try:
        return make(_expression(source)(**row))
    except (UndefinedError, TypeError, KeyError, IndexError) as error:
        raise RowError(f"cannot read {source!r}: {error}") from error


def _texts(source: str, row: Mapping[str, Any]) -> list[str]:
    return _value(source, row, lambda values: [str(value).strip() for value in values])


def _text(source: str, row: Mapping[str, Any]) -> str:
    return _template(source).render(**row).strip()
