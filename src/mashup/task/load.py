"""Task: a named set of examples in disjoint splits, with the sample that scoring uses."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mashup.errors import InputError, Problem, UsageError
from mashup.settings import RowSettings
from mashup.task.example import Example, Maker, Pairs, RowError, form_of, other_form_of
from mashup.task.examples import Examples, Store
from mashup.task.harness import PREFIX, harness_rows
from mashup.task.records import NO_ANSWER, known_records, record_for
from mashup.task.rows import SUFFIXES, Row, Rows, Source, read_rows
from mashup.task.split import Splits, SplitSizes, shuffled, split

_SHOWN = 10  # problems of one dataset that are listed before "and N more"
_PLACES = 3  # rows with one problem that are named


@dataclass(frozen=True)
class Task:
    """The target task.

    Attributes:
        name: what it is called in tables.
        train, dev, test: disjoint by prompt; ``test`` is only ever reported.
        record: name of the benchmark record that made the prompts, None for plain rows.
        dropped: training rows left out since they answer a prompt of dev or test.
        seed: of the splits.
        bad: why rows were left out as bad (``drop_bad``), with how many.
        drop_long: leave out rows that turn out to be too long, rather than raise.
    """

    name: str
    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    record: str | None = None
    dropped: int = 0
    seed: int = 42
    bad: Mapping[str, int] = field(default_factory=dict)
    drop_long: bool = False

    @cached_property
    def digest(self) -> str:
        """Digest of all examples and their splits."""
        whole = hashlib.sha256(b"[[")
        for between, part in ((b"[", self.train), (b"],[", self.dev), (b"],[", self.test)):
            whole.update(between)
            for number, text in enumerate(Examples.of(part).texts()):
                whole.update(b"," + text if number else text)
        whole.update(b"]],1]" if self.drop_long else b"]]]")
        return whole.hexdigest()

    def sample(self, count: int = 256, seed: int = 42) -> tuple[Example, ...]:
        """``count`` of the training examples, drawn with ``seed``; all when there are fewer."""
        return tuple(self.drawn(seed)[:count])

    def drawn(self, seed: int) -> Sequence[Example]:
        """The training examples in the order in which samples of ``seed`` take them."""
        return shuffled(self.train, seed + 1)

    @property
    def sees(self) -> bool:
        """Whether its rows have pictures."""
        return bool(self.train) and bool(self.train[0].pictures)

    @property
    def left_out(self) -> dict[str, int]:
        """How many rows were left out when the dataset was read, by reason."""
        counts = {"answers a prompt of dev or test": self.dropped, **self.bad}
        return {reason: count for reason, count in counts.items() if count}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was left out."""
        return tuple(
            f"left out {count} row{'s' * (count > 1)}: {reason}"
            for reason, count in self.left_out.items()
        )


def load_task(
    dataset: Any,
    *,
    test: Any = None,
    name: str | None = None,
    record: str | None = None,
    train_rows: int | None = None,
    dev_rows: int | None = None,
    test_rows: int | None = None,
    seed: int = 42,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    separator: str | None = None,
    label_names: Sequence[str] = (),
    drop_bad: bool = False,
    drop_long: bool = False,
) -> Task:
    """Load a dataset and cut it into train, dev and test.

    Args:
        dataset: JSONL, JSON, CSV, TSV or Parquet file, folder, or Hub id
            (``owner/name:config``), or a task of lm-evaluation-harness (``lm-eval:arc_easy``,
            see :mod:`mashup.task.harness`); or a ``datasets.Dataset`` or ``DatasetDict``, or a
            list of dicts.
        test: a file of test rows, or rows as ``dataset`` takes them; without it, the dataset's
            own test or validation split, else a fifth of the rows (500 at most).
        name: of the task; from the file's name when not given.
        record: name of a benchmark record; inferred from the columns if not given.
        train_rows: rows to train on; by default all that are left.
        dev_rows: rows held out for dev; by default a tenth, 128 at most.
        test_rows: rows held out for test; by default all that are given.
        seed: of the splits.
        prompt_column: name of the column with the prompt, where it is not ``prompt``.
        completion_column: name of the column with the answer, where it is not ``completion``.
        separator: what stands between prompt and answer in rows with one column ``text``.
        label_names: what the labels 0, 1, 2, ... are called; the names become the answers.
        drop_bad: leave out rows that cannot be read, and count them, rather than raise.
        drop_long: leave out rows that turn out longer than the longest example, likewise.

    Raises:
        InputError: unreadable rows, missing columns, empty completions, or too few rows.
        UsageError: a record and columns.
    """
    settings = RowSettings(
        prompt_column=prompt_column, completion_column=completion_column, separator=separator,
        label_names=tuple(map(str, label_names)), drop_bad=drop_bad, drop_long=drop_long,
    )  # fmt: skip
    _check_record(record, settings)
    where = str(dataset) if isinstance(dataset, str | Path) else "the dataset"
    sources = read_rows(_harness(dataset), test=test)
    reader = _Reader(record, settings)
    train = _some(reader.read(sources.train), sources.train, reader)
    dev = reader.read(sources.dev)
    dev, tests = _held_out(sources, dev, reader, given=test is not None)
    if not drop_bad or not train:
        reader.raise_problems()
    sizes = SplitSizes(train_rows, dev_rows, test_rows)
    cut: Splits = split(train, dev, tests, sizes, seed, where)
    title = name or (_name_of(where) if isinstance(dataset, str | Path) else _title(dataset))
    bad = {fault.found: count for fault, count in reader.counts.items()} if drop_bad else {}
    return Task(
        title, cut.train, cut.dev, cut.test, reader.record, cut.dropped, seed, bad, drop_long
    )


def read_examples(dataset: Any) -> Examples:
    """All training examples of a dataset, as :func:`load_task` reads it, without any split.

    Raises:
        InputError: no rows, or some that cannot be read.
    """
    source, reader = read_rows(_harness(dataset)).train, _Reader(None, RowSettings())
    found = _some(reader.read(source), source, reader)
    reader.raise_problems()
    return found


def _harness(dataset: Any) -> Any:
    """The rows of a task of lm-evaluation-harness; any other dataset as it is."""
    is_task = isinstance(dataset, str) and dataset.startswith(PREFIX)
    return harness_rows(dataset) if is_task else dataset


def _check_record(record: str | None, settings: RowSettings) -> None:
    if record is None:
        return
    known = ", ".join(one.name for one in known_records())
    if record not in known.split(", "):
        raise InputError(
            Problem("unknown task record", "`task_record`", record, known, "see mashup tasks")
        )
    if settings.prompt_column or settings.completion_column:
        where, found = "`task_record`", "a benchmark and names of columns"
        raise UsageError(Problem("bad settings", where, found, "one of the two"))


def _some(examples: Examples, source: Source, reader: _Reader, what: str = "training") -> Examples:
    """Examples of a source that must have rows.

    Raises:
        InputError: it has none.
    """
    if not examples and not reader.counts:
        fix, expected = "give a dataset with rows", f"{what} rows"
        raise InputError(Problem("dataset has no rows", source.name, "0 rows", expected, fix))
    return examples


def _held_out(
    sources: Rows, dev: Examples, reader: _Reader, *, given: bool
) -> tuple[Examples, Examples]:
    """Dev and test; the dev rows are the test where no test row has an answer.

    Benchmarks that keep their test answers to themselves (CommonsenseQA, HellaSwag, PIQA,
    WinoGrande) are tested on their validation rows, as papers do. A test file that the user
    gave is never replaced, nor one with any other fault.
    """
    own = _Reader(reader.name, reader.settings, reader.record, reader.sees)
    tests = own.read(sources.test)
    if given and sources.test:
        _some(tests, sources.test, own, "test")
    unanswered = all(fault.code == NO_ANSWER for fault in own.counts)
    if dev and sources.test and not tests and unanswered and not given:
        return Examples.of(()), dev
    reader.take(own)
    return dev, tests


class _Fault(NamedTuple):
    """What is wrong with one or more rows."""

    what: str
    found: str
    fix: str
    code: str


@dataclass
class _Reader:
    """Makes examples of rows, and collects what is wrong with the others.

    Attributes:
        name: of the benchmark record that was asked for.
        settings: how rows are read.
        record: name of the record that was used.
        sees: whether the rows have pictures; None before the first.
        counts: how many rows have each fault.
        places: the first rows with each.
    """

    name: str | None
    settings: RowSettings
    record: str | None = None
    sees: bool | None = None
    counts: Counter[_Fault] = field(default_factory=Counter)
    places: dict[_Fault, list[str]] = field(default_factory=dict)

    def read(self, source: Source | None) -> Examples:
        """Examples of a source, all of one format, which its first row shows.

        Raises:
            InputError: unreadable, or columns that no format has.
        """
        if source is None:
            return Examples.of(())
        store = Store(source.place)
        make: Maker | None = None
        for number, row in source.read():
            try:
                if isinstance(row, RowError):
                    raise row
                if not isinstance(row, dict) and not isinstance(row, Mapping):
                    raise RowError(f"{type(row).__name__}, not columns and values")
                if make is None:
                    make = self._maker(row, source, number)
                if isinstance(make, Pairs) and (texts := make.plain(row)):
                    if self.sees is not False:
                        self._check_kind(sees=False)
                    store.add_pair(*texts, number)
                else:
                    made = make(row)
                    self._check_kind(sees=bool(made.pictures))
                    store.add(made, number)
            except UnicodeEncodeError:
                self._note(RowError("half of a surrogate pair, as a cut emoji is"), source, number)
            except RecursionError:
                self._note(RowError("nested too deep"), source, number)
            except RowError as error:
                self._note(error, source, number)
        return Examples.all_of(store)

    def _check_kind(self, *, sees: bool) -> None:
        """Refuse rows with pictures among rows without any: one dataset is one task."""
        if self.sees is None:
            self.sees = sees
        elif self.sees != sees:
            has, has_not = "pictures", "no picture"
            found, others = (has, has_not) if sees else (has_not, has)
            raise RowError(f"the row has {found}, and rows before it have {others}")

    def _maker(self, row: Row, source: Source, number: int) -> Maker:
        if self.name is None:
            form = form_of(row, self.settings, source.labels, source.folder)
            if form is not None:
                return form
        known = (one for one in known_records() if one.name == (self.name or self.record))
        record = next(known, None) or record_for(set(row))
        if record is not None:
            self.record = record.name
            return record.example
        form = other_form_of(row, self.settings, source.folder)
        if form is None and self.settings.drop_bad:
            raise RowError(f"columns {', '.join(map(str, row))}, which no format has")
        if form is None:
            raise InputError(_unknown(row, source.place(number)))
        return form

    def _note(self, error: RowError, source: Source, number: int) -> None:
        fault = _Fault(error.what, str(error), error.fix, error.code)
        self.counts[fault] += 1
        places = self.places.setdefault(fault, [])
        if len(places) < _PLACES:
            places.append(source.place(number))

    def take(self, other: _Reader) -> None:
        """What another reader found, after what this one did."""
        self.record = self.record or other.record
        self.counts += other.counts
        for fault, places in other.places.items():
            self.places[fault] = [*self.places.get(fault, []), *places][:_PLACES]

    def raise_problems(self) -> None:
        """Refuse bad rows, one problem for each fault.

        Raises:
            InputError: bad rows.
        """
        if not self.counts:
            return
        problems = [
            Problem(one.what, named(self.places[one], count), one.found, fix=one.fix, code=one.code)
            for one, count in self.counts.items()
        ]
        if len(problems) > _SHOWN:
            rest = sum(list(self.counts.values())[_SHOWN:])
            fix = problems[0].fix
            more = Problem("more bad rows", f"and {rest} more of this dataset", fix=fix)
            problems = [*problems[:_SHOWN], more]
        raise InputError(*problems)


def named(places: Sequence[str], count: int) -> str:
    """The first places of ``count``: ``lines 3, 5, 7 and 22 more of a.jsonl``."""
    shown = places[:_PLACES]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    parts = [place.partition(" of ") for place in shown]
    if len(shown) == 1 or len({tail for _, _, tail in parts}) > 1 or not parts[0][2]:
        return ", ".join(shown) + more
    unit = parts[0][0].split()[0]
    numbers = ", ".join(head.removeprefix(f"{unit} ") for head, _, _ in parts)
    return f"{unit}s {numbers}{more} of {parts[0][2]}"


def _unknown(row: Row, where: str) -> Problem:
    expected = (
        "messages; conversations; prompt and completion; instruction and output; text with "
        "`separator`; or a benchmark's (see mashup tasks)"
    )
    fix = "name the columns: `prompt_column` and `completion_column`"
    found = f"columns {', '.join(map(str, row))}"
    return Problem("missing column", where, found, expected, fix)


def _title(dataset: Any) -> str:
    """What a dataset in memory calls itself."""
    one = next(iter(dataset.values()), None) if hasattr(dataset, "values") else dataset
    return str(getattr(getattr(one, "info", None), "dataset_name", None) or "dataset")


def _name_of(source: str) -> str:
    """File stem; the folder's name for ``train.jsonl``; the last part of a Hub id or a task."""
    if source.startswith(PREFIX):
        return Path(source.removeprefix(PREFIX)).stem
    path = Path(source if Path(source).exists() else source.partition(":")[0]).absolute()
    if path.suffix not in SUFFIXES:
        return path.name
    return path.parent.name if path.stem == "train" else path.stem


def commonest_accuracy(task: Task) -> float:
    """Accuracy of the majority-class baseline on the test rows, between 0 and 1.

    The baseline gives the most common answer of the training rows to every prompt, like
    scikit-learn's ``DummyClassifier(strategy="most_frequent")``. The first one wins a tie.
    """
    answers = Counter(_answer(example) for example in task.train)
    (commonest, _), *_ = answers.most_common(1)
    return sum(_answer(example) == commonest for example in task.test) / len(task.test)


def _answer(example: Example) -> tuple[str, ...]:
    turns = example.messages[example.first_answer :]
    return tuple(turn.content.strip() for turn in turns if turn.role == "assistant")
