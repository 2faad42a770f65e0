"""Tasks of lm-evaluation-harness as datasets: ``lm-eval:arc_easy``, ``lm-eval:my/task.yaml``.

The prompt of a row is what the harness shows without examples: its description and ``doc_to_text``.
The answer is ``doc_to_target``, for a multiple choice the text of the right choice (EleutherAI,
lm-evaluation-harness, docs/task_guide.md). A task is read through the harness's own classes, so
its data come from where the task says, and code in a task's YAML runs as it does there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem, UsageError
from mashup.task.example import RowError
from mashup.task.rows import Numbered, Rows, Source

PREFIX = "lm-eval:"
_SUFFIXES = (".yaml", ".yml")


def harness_rows(source: str) -> Rows:
    """The splits of a task of lm-evaluation-harness.

    Validation rows are the training rows of a task without any; test rows never are, since a
    choice of checkpoints by the rows that a benchmark reports would be no result.

    Args:
        source: ``lm-eval:`` and the name of a task, or a YAML file of one.

    Raises:
        UsageError: lm_eval is not installed.
        InputError: no such task, a group of tasks, data that cannot be had, test rows only, or
            contexts instead of answers to choose from.
    """
    task = _task(source.removeprefix(PREFIX), source)
    if isinstance(task.config.doc_to_text, int) or getattr(task, "multiple_input", False):
        found, expected = "several contexts for one answer", "one prompt and its answers"
        raise InputError(Problem("cannot use task", source, found, expected, "use another task"))
    train, dev, test = (
        Source(f"{source} ({name})", "row", _reader(task, docs)) if has() else None
        for name, has, docs in (
            ("training", task.has_training_docs, task.training_docs),
            ("validation", task.has_validation_docs, task.validation_docs),
            ("test", task.has_test_docs, task.test_docs),
        )
    )
    if train is None and dev is None:
        expected, fix = "training or validation rows", "give rows of your own to choose by"
        raise InputError(Problem("cannot use task", source, "test rows only", expected, fix))
    return Rows(train, dev, test) if train else Rows(dev, None, test)  # type: ignore[arg-type]


def _task(name: str, source: str) -> Any:
    """The harness's object of one task, with its data."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        fix = "pip install 'mashup-learning[lm-eval]'"
        found = f"lm_eval cannot be imported: {error}"
        raise UsageError(
            Problem("lm-evaluation-harness is missing", source, found, fix=fix)
        ) from error
    path = Path(name) if name.endswith(_SUFFIXES) else None
    if path and not path.is_file():
        raise InputError(Problem("no such task", source, "no such file", fix="check the path"))
    with _quiet():
        manager = TaskManager(include_path=str(path.parent) if path else None)
    known = _name_in(path) if path else name
    if known not in manager.all_subtasks:
        raise InputError(_unknown(known, source, manager))
    try:
        with _quiet():
            return manager.load([known])["tasks"][known]
    except Exception as error:  # data and code of others, whose errors have no common base
        found = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        fix = "check the network (HF_HUB_OFFLINE), or the task with lm_eval itself"
        raise InputError(Problem("cannot read task", source, found, fix=fix)) from error


def _name_in(path: Path) -> str:
    found = re.search(r"^task:\s*['\"]?([^\s'\"#]+)", path.read_text(errors="replace"), re.M)
    return found[1] if found else path.stem


def _unknown(name: str, source: str, manager: Any) -> Problem:
    if name in {*manager.all_groups, *manager.all_tags}:
        found, expected = "a group of tasks", "one task"
        return Problem("cannot use task", source, found, expected, "see lm_eval ls tasks")
    import difflib

    alike = difflib.get_close_matches(name, manager.all_subtasks, 3)
    fix = f"did you mean {' or '.join(alike)}?" if alike else "see lm_eval ls tasks"
    return Problem("no such task", source, "lm_eval does not have it", fix=fix)


def _reader(task: Any, docs: Callable[[], Any]) -> Callable[[], Iterator[Numbered]]:
    def read() -> Iterator[Numbered]:
        with _quiet():
            found = docs()
        for number, doc in enumerate(found, 1):
            try:
                yield number, _row(task, doc)
            except Exception as error:  # a template on a row that it was not written for
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                yield number, RowError(f"the task cannot read it: {reason}")

    return read


def _row(task: Any, doc: Any) -> dict[str, str]:
    """The prompt without examples, and the right answer."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(target, int):
        choices: Sequence[str] = task.doc_to_choice(doc)
        target = choices[target]
    if isinstance(target, list | tuple) and target:
        target = target[0]  # of several right answers, as the harness's examples have it
    description = task.config.description or ""
    if description:
        from lm_eval.utils import apply_template

        description = apply_template(description, doc)
    return {"prompt": f"{description}{task.doc_to_text(doc)}", "completion": str(target).strip()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's lines and warnings; what it prints is not ours."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
