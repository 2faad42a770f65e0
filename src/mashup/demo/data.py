"""The demo's tasks: one new task and a library's worth of past ones, of rated sentences.

No sentence stands in two tasks, and no task but the target has a sentence of the target's
source, so nothing of the target's test can be known from the library.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mashup.demo.fetch import SENTENCES_SDIST, fetch
from mashup.demo.sentences import Sentence, read_sentences, words_of
from mashup.errors import InputError, Problem
from mashup.outputs import disk_errors, write_text
from mashup.progress import SILENT, Progress

_CLEAR = 0.5  # a rating nearer to zero than this is neither negative nor positive
_LONG = 16  # words; about the median
_FIRST_PERSON = {"i", "i'm", "i've", "i'd", "i'll", "me", "my", "we", "us", "our"}


@dataclass(frozen=True)
class DemoTask:
    """One task on disk.

    Attributes:
        name: of the task and its folder.
        kind: ``target``, or how a donor relates to it: ``related``, ``unrelated``, ``harmful``.
        about: one line on what it asks.
        path: the folder.
    """

    name: str
    kind: str
    about: str
    path: Path

    @property
    def train(self) -> Path:
        """JSONL rows of ``prompt`` and ``completion``."""
        return self.path / "train.jsonl"

    @property
    def test(self) -> Path | None:
        """Held-out rows; the target alone has them."""
        return self.path / "test.jsonl" if self.kind == "target" else None


@dataclass(frozen=True)
class _Recipe:
    """How to make a task: from which sources, what is asked, what the answers are."""

    name: str
    kind: str
    about: str
    sources: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    answer: Callable[[Sentence], int | None]  # which of them; None: not clear, left out


def _is_positive(sentence: Sentence) -> bool | None:
    return None if abs(sentence.rating) < _CLEAR else sentence.rating > 0


def _is_long(sentence: Sentence) -> bool:
    return len(sentence.text.split()) > _LONG


def _is_first_person(sentence: Sentence) -> bool:
    return not _FIRST_PERSON.isdisjoint(words_of(sentence.text))


_SENTIMENT, _NO_YES = ("negative", "positive"), ("no", "yes")
_SOURCES = ("film review", "product review", "newspaper")
_FILMS = "Is this sentence of a film review negative or positive?"
# fmt: off
_RECIPES = (  # the target first
    _Recipe("tweet_sentiment", "target", "is a tweet negative or positive", ("tweet",),
            "Is the mood of this tweet negative or positive?", _SENTIMENT, _is_positive),
    _Recipe("film_sentiment", "related", "the same question about film reviews", _SOURCES[:1],
            _FILMS, _SENTIMENT, _is_positive),
    _Recipe("product_sentiment", "related", "the same about products, answered bad or good",
            _SOURCES[1:2], "Does this customer say something bad or good?",
            ("bad", "good"), _is_positive),
    _Recipe("editorial_sentiment", "related", "the same question about newspaper editorials",
            _SOURCES[2:], "Is the tone of this editorial negative or positive?",
            _SENTIMENT, _is_positive),
    _Recipe("film_sentiment_swapped", "harmful", "film reviews, labels swapped by mistake",
            _SOURCES[:1], _FILMS, _SENTIMENT[::-1], _is_positive),
    _Recipe("text_source", "unrelated", "from a film review, a product review or a newspaper",
            _SOURCES, "Is this from a film review, a product review or a newspaper?",
            _SOURCES, lambda sentence: _SOURCES.index(sentence.source)),
    _Recipe("long_text", "unrelated", f"does a sentence have more than {_LONG} words",
            _SOURCES[:1], f"Does this text have more than {_LONG} words, no or yes?",
            _NO_YES, _is_long),
    _Recipe("first_person", "unrelated", "does the writer say I or we", _SOURCES[1:],
            "Does the writer say I or we, no or yes?", _NO_YES, _is_first_person),
)
# fmt: on


def build_tasks(
    folder: Path,
    *,
    rows: int,
    test_rows: int,
    seed: int = 42,
    sdist: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, DemoTask]:
    """Write all tasks below ``folder``: ``<task>/train.jsonl``, and the target's ``test.jsonl``.

    Every file is balanced over its answers (to one row). The same arguments give the same bytes.

    Args:
        folder: where to write; files of the same names are replaced.
        rows: training rows of each task.
        test_rows: test rows of the target.
        seed: of what is drawn, and of the order.
        sdist: the source distribution with the data; fetched when not given.
        progress: shows the download.

    Returns:
        Tasks by name, the target first.

    Raises:
        InputError: the data cannot be fetched or read, or has too few rows.
        OutputError: the folder cannot be written.
    """
    pool = read_sentences(sdist or fetch(SENTENCES_SDIST, progress=progress))
    random.Random(seed).shuffle(pool)
    drawn = []
    for recipe in _RECIPES:
        task = DemoTask(recipe.name, recipe.kind, recipe.about, folder / recipe.name)
        test = _draw(pool, recipe, test_rows, seed) if task.test else []
        drawn.append((task, test, _draw(pool, recipe, rows, seed)))
    for task, test, train in drawn:  # after all are drawn, so that a lack of rows writes nothing
        _write(task, test, train)
    return {task.name: task for task, _, _ in drawn}


def _draw(pool: list[Sentence], recipe: _Recipe, count: int, seed: int) -> list[str]:
    """``count`` JSON lines, balanced over the answers; their sentences leave ``pool``."""
    share, more = divmod(count, len(recipe.answers))
    quota = [share + (i < more) for i in range(len(recipe.answers))]
    lines, rest = [], []
    for sentence in pool:
        answer = recipe.answer(sentence) if sentence.source in recipe.sources else None
        if answer is not None and quota[answer]:
            quota[answer] -= 1
            row = {
                "prompt": f"{recipe.question}\n\n{sentence.text}",
                "completion": recipe.answers[answer],
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            rest.append(sentence)
    if len(lines) < count:
        found, fix = f"{len(lines)} sentences", "ask for fewer rows"
        raise InputError(Problem("too few sentences", recipe.name, found, f"{count} rows", fix))
    pool[:] = rest
    random.Random(seed).shuffle(lines)  # the rarer answer would stand alone at the end
    return lines


def _write(task: DemoTask, test: list[str], train: list[str]) -> None:
    with disk_errors(task.path):
        task.path.mkdir(parents=True, exist_ok=True)
    write_text(task.train, "".join(train))
    if task.test:
        write_text(task.test, "".join(test))
