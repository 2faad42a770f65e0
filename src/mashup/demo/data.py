"""The demo's tasks: one new task and a library's worth of past ones, of rated sentences.

No sentence is in two tasks. Only the target has sentences from product reviews, so the library
cannot know anything of the target's test rows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mashup.demo.fetch import SENTENCES_SDIST, fetch
from mashup.demo.sentences import Sentence, read_sentences, words_of
from mashup.errors import InputError, Problem
from mashup.outputs import disk_errors, write_text
from mashup.progress import SILENT, Progress

_CLEAR = 0.5  # a rating nearer to zero than this is neither negative nor positive
_FIRST_PERSON = {"i", "i'm", "i've", "i'd", "i'll", "me", "my", "we", "us", "our"}


@dataclass(frozen=True)
class DemoTask:
    """One task on disk.

    Attributes:
        name: of the task and its folder.
        kind: ``target``, or what a source trained on it is to the target: ``relative``,
            ``stranger``, or ``swapped`` (a relative whose labels are swapped).
        about: one line on what it asks.
        path: the folder.
    """

    name: str
    kind: str
    about: str
    path: Path

    @property
    def train(self) -> Path:
        """JSONL rows of ``messages``: the question (system), the sentence (user), the answer."""
        return self.path / "train.jsonl"

    @property
    def test(self) -> Path:
        """Held-out rows; only the target has them."""
        return self.path / "test.jsonl"


@dataclass(frozen=True)
class _Recipe:
    """How to make a task: from which places, what is asked, what the answers are.

    Attributes:
        answer: index of a sentence's answer; None if it is not clear, then it is left out.
    """

    name: str
    kind: str
    about: str
    places: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    answer: Callable[[Sentence], int | None]


def _is_positive(sentence: Sentence) -> bool | None:
    return None if abs(sentence.rating) < _CLEAR else sentence.rating > 0


def _is_first_person(sentence: Sentence) -> bool:
    return not _FIRST_PERSON.isdisjoint(words_of(sentence.text))


TARGET = "product_sentiment"
_SENTIMENT, _NO_YES = ("negative", "positive"), ("no", "yes")
_FILMS = "Is this sentence of a film review negative or positive?"
_PLACES = ("film review", "newspaper", "tweet")
# fmt: off
_RECIPES = (  # the target first
    _Recipe(TARGET, "target", "is a remark about a product negative or positive",
            ("product review",), "Is this customer's remark negative or positive?",
            _SENTIMENT, _is_positive),
    _Recipe("film_sentiment", "relative", "the same question about film reviews",
            _PLACES[:1], _FILMS, _SENTIMENT, _is_positive),
    _Recipe("tweet_sentiment", "relative", "the same question about tweets",
            _PLACES[2:], "Is the mood of this tweet negative or positive?",
            _SENTIMENT, _is_positive),
    _Recipe("film_sentiment_swapped", "swapped", "film reviews, labels swapped by mistake",
            _PLACES[:1], _FILMS, _SENTIMENT[::-1], _is_positive),
    _Recipe("text_source", "stranger", "is it from a film review, a newspaper or a tweet",
            _PLACES, "Is this from a film review, a newspaper or a tweet?",
            _PLACES, lambda sentence: _PLACES.index(sentence.source)),
    _Recipe("first_person", "stranger", "does the writer say I or we",
            _PLACES, "Does the writer say I or we, no or yes?", _NO_YES, _is_first_person),
)
# fmt: on


def build_tasks(
    folder: Path,
    rows: Mapping[str, int],
    *,
    test_rows: int,
    seed: int = 42,
    sdist: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, DemoTask]:
    """Write tasks below ``folder``: ``<task>/train.jsonl``, and the target's ``test.jsonl``.

    Every file is balanced over its answers (to one row). The same arguments give the same bytes.

    Args:
        folder: where to write; files of the same names are replaced.
        rows: name of each wanted task to its number of training rows.
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
    files: dict[Path, list[str]] = {}
    tasks = {}
    for recipe in [recipe for recipe in _RECIPES if recipe.name in rows]:
        task = DemoTask(recipe.name, recipe.kind, recipe.about, folder / recipe.name)
        tasks[recipe.name] = task
        if recipe.kind == "target":
            files[task.test] = _draw(pool, recipe, test_rows, seed)
        files[task.train] = _draw(pool, recipe, rows[recipe.name], seed)
    for path, lines in files.items():  # after all are drawn, so that a lack of rows writes nothing
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(lines))
    return tasks


def _draw(pool: list[Sentence], recipe: _Recipe, count: int, seed: int) -> list[str]:
    """``count`` JSON lines, balanced over the answers; their sentences leave ``pool``."""
    share, more = divmod(count, len(recipe.answers))
    quota = [share + (i < more) for i in range(len(recipe.answers))]
    lines, rest = [], []
    for sentence in pool:
        answer = recipe.answer(sentence) if sentence.source in recipe.places else None
        if answer is not None and quota[answer]:
            quota[answer] -= 1
            turns = zip(
                ("system", "user", "assistant"),
                (recipe.question, sentence.text, recipe.answers[answer]),
                strict=True,
            )
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            rest.append(sentence)
    if len(lines) < count:
        found, fix = f"{len(lines)} sentences", "ask for fewer rows"
        raise InputError(Problem("too few sentences", recipe.name, found, f"{count} rows", fix))
    pool[:] = rest
    random.Random(seed).shuffle(lines)  # the rarer answer would stand alone at the end
    return lines
