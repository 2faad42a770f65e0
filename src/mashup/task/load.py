"""Task: a named set of examples in disjoint splits, with the sample that scoring uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mashup.errors import InputError, Problem
from mashup.files import digest_of
from mashup.task.example import Example, RowError, from_row
from mashup.task.formats import SUFFIXES, Row
from mashup.task.records import NO_ANSWER, Record, known_records, record_for
from mashup.task.rows import Rows, read_rows
from mashup.task.split import Splits, SplitSizes, shuffled, split

_SHOWN = 10  # problems of one dataset that are listed before "and N more"


@dataclass(frozen=True)
class Task:
    """The target task.

    Attributes:
        name: what it is called in tables.
        train, dev, test: disjoint by prompt; ``test`` is only ever reported.
        record: name of the benchmark record that made the prompts, None for plain rows.
        dropped: training rows left out since dev or test has the same prompt.
        seed: of the splits.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    record: str | None = None
    dropped: int = 0
    seed: int = 42

    @property
    def digest(self) -> str:
        """Digest of all examples and their splits."""
        parts = (self.train, self.dev, self.test)
        return digest_of([[(e.messages, e.first_answer) for e in part] for part in parts])

    def sample(self, count: int = 256, seed: int = 42) -> tuple[Example, ...]:
        """``count`` of the training examples, drawn with ``seed``; all when there are fewer."""
        return tuple(shuffled(self.train, seed + 1)[:count])


def load_task(
    dataset: str | Path,
    *,
    test: str | Path | None = None,
    name: str | None = None,
    record: str | None = None,
    train_rows: int | None = None,
    dev_rows: int | None = None,
    test_rows: int | None = None,
    seed: int = 42,
) -> Task:
    """Load a dataset and cut it into train, dev and test.

    Args:
        dataset: JSONL, JSON, CSV or Parquet file, folder, or Hub id (``owner/name:config``).
        test: a file of test rows; without it, the dataset's own test or validation
            split, else a fifth of the rows (500 at most).
        name: of the task; from the file's name when not given.
        record: name of a benchmark record; told by the columns when not given.
        train_rows, dev_rows, test_rows: sizes; by default all that is left, a tenth (128 at
            most) and all that is given.
        seed: of the splits.

    Raises:
        InputError: unreadable rows, missing columns, empty completions, or too few rows.
    """
    where = str(dataset)
    rows = read_rows(where, test=str(test) if test else None)
    chosen = _record(record, rows.train[0], where)
    problems: list[Problem] = []
    train = _examples(rows.train, chosen, f"{where} (train)", problems)
    dev = _examples(rows.dev, chosen, f"{where} (dev)", problems)
    dev, tests = _labelled(rows, chosen, where, problems, dev, given=test is not None)
    if problems:
        raise InputError(*_shortened(problems))
    sizes = SplitSizes(train_rows, dev_rows, test_rows)
    cut: Splits = split(train, dev, tests, sizes, seed, where)
    used = chosen.name if chosen else None
    title = name or _name_of(where)
    return Task(title, cut.train, cut.dev, cut.test, used, cut.dropped, seed)


def _labelled(
    rows: Rows,
    record: Record | None,
    where: str,
    problems: list[Problem],
    dev: list[Example],
    *,
    given: bool,
) -> tuple[list[Example], list[Example]]:
    """Dev and test; the dev rows are the test where no test row has an answer.

    Benchmarks that keep their test answers to themselves (CommonsenseQA, HellaSwag, PIQA,
    WinoGrande) are tested on their validation rows, as papers do. A test file that the user
    gave is never replaced, nor one with any other fault.
    """
    hidden: list[Problem] = []
    tests = _examples(rows.test, record, f"{where} (test)", hidden)
    unanswered = all(problem.code == NO_ANSWER for problem in hidden)
    if dev and rows.test and not tests and unanswered and not given:
        return [], dev
    problems += hidden
    return dev, tests


def _record(name: str | None, row: Row, where: str) -> Record | None:
    if name is not None:
        for known_record in known_records():
            if known_record.name == name:
                return known_record
        known = ", ".join(record.name for record in known_records())
        raise InputError(
            Problem("unknown task record", "--task-record", name, known, "see mashup tasks")
        )
    if "messages" in row or ("prompt" in row and "completion" in row):
        return None
    found = record_for(set(row))
    if found is None:
        columns = f"columns {', '.join(map(str, row))}"
        expected = "messages; prompt and completion; or a benchmark's (see mashup tasks)"
        fix = "rename the columns"
        raise InputError(Problem("missing column", where, columns, expected, fix))
    return found


def _examples(
    rows: Iterable[Row], record: Record | None, where: str, problems: list[Problem]
) -> list[Example]:
    make = record.example if record else from_row
    examples = []
    for number, row in enumerate(rows, 1):
        try:
            examples.append(make(row))
        except RowError as error:
            fix = "mend or remove the row"
            place, found = f"{where}, row {number}", str(error)
            problems.append(Problem("bad row", place, found, fix=fix, code=error.code))
    return examples


def _shortened(problems: list[Problem]) -> list[Problem]:
    if len(problems) <= _SHOWN:
        return problems
    rest = Problem("more bad rows", f"and {len(problems) - _SHOWN} more of this dataset")
    return [*problems[:_SHOWN], rest]


def _name_of(source: str) -> str:
    """File stem; the folder's name for ``train.jsonl``; the last part of a Hub id."""
    path = Path(source if Path(source).exists() else source.partition(":")[0]).absolute()
    if path.suffix not in SUFFIXES:
        return path.name
    return path.parent.name if path.stem == "train" else path.stem
