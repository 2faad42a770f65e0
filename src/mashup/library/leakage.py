"""What sources are known to have seen of a task: the one check of all verbs.

Runs of ours list digests of their prompts, with those of what they were started or merged from.
Of other checkpoints the training data is known where the model card or the trainer's state names
a dataset and that is in the cache of the Hub or of ``datasets``, or is a file here. Its training
rows are then searched for rows of the task by 13-grams of words, as for GPT-3 (arXiv 2005.14165,
appendix C). Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.history import RESULTS, TRAINER_STATE, card_head, read_prompts
from mashup.errors import InputError, Problem
from mashup.files import read_json
from mashup.library.scan import Library
from mashup.task import Example, Task, asked_prompts
from mashup.task.rows import SUFFIXES, Row, read_file

_SHOWN = 3  # names in a note
_GRAM = 13  # words
_SHORTEST = 4  # words of a text that is compared as a whole: shorter ones are equal by chance
_ENOUGH = 0.5  # of a row's 13-grams: quotations alone are fewer
_COMMON = 0.05  # of the rows: what more of them share is the template, not the row
_PEEK = 200  # rows from which the template of a column is seen
_MOST = 100_000  # rows of a dataset that are searched
_HELD = re.compile(r"(^|[^a-z])(test|valid|validation|dev|eval)([^a-z]|$)", re.IGNORECASE)
#: What trainers call the dataset in their state.
_NAMES = ("dataset_name", "dataset", "train_file", "train_dataset")
_UNNAMED = "no list of prompts, and no dataset is named"


@dataclass(frozen=True)
class Seen:
    """What a source has seen of a task.

    Attributes:
        path: of the source.
        held_out: share of the dev and test rows.
        sample: share of the scoring sample, or of the training rows.
        by: the dataset that they are in; "" for our own list of prompts.
        unknown: why nothing is known; "" where something is.
    """

    path: str
    held_out: float = 0.0
    sample: float = 0.0
    by: str = ""
    unknown: str = ""

    @property
    def problem(self) -> Problem:
        """The problem of a source that has seen dev or test rows."""
        found = leak(self.path, self.held_out)
        if not self.by:
            return found
        text = f"{self.held_out:.0%} of the dev and test rows are in {self.by}, which it names"
        return replace(found, found=text)


def share_seen(trained_on: Collection[str], task: Task) -> float:
    """Share of the dev and test prompts of ``task`` that are among those trained on.

    Args:
        trained_on: keys, as :func:`mashup.task.taught_prompts` gives them.
        task: that results are measured on.
    """
    return _share(asked_prompts(task.dev) | asked_prompts(task.test), trained_on)


def _share(wanted: Collection[Any], known: Collection[Any]) -> float:
    return len(set(wanted).intersection(known)) / max(1, len(wanted))


def leak(where: str, share: float) -> Problem:
    """The problem of a source that was trained on this share of the dev and test prompts."""
    return Problem(
        "trained on the held-out rows",
        where,
        f"{share:.0%} of the dev and test prompts",
        "none of them",
        "its gain would be memory; it is left out of the comparison",
    )


def seen_of(
    checkpoints: Iterable[Checkpoint], task: Task, sample: Sequence[Example] | None = None
) -> tuple[Seen, ...]:
    """What each checkpoint has seen of a task, as far as it is known.

    Args:
        checkpoints: the sources.
        task: whose rows are looked for.
        sample: the examples that are scored on; by default all training rows.
    """
    search = _Search(task, task.train if sample is None else sample)
    return tuple(search.of(checkpoint) for checkpoint in checkpoints)


def leaking(checkpoints: Iterable[Checkpoint], task: Task) -> dict[str, Problem]:
    """Path to problem of every checkpoint that is known to have seen dev or test rows."""
    return {one.path: one.problem for one in seen_of(checkpoints, task) if one.held_out}


def usable_sources(
    library: Library, task: Task, *, is_full: bool
) -> tuple[Library, tuple[Problem, ...]]:
    """What a run on ``task`` may start from, and what it may not, with the reason.

    A LoRA starts from LoRAs; all weights start from both. A checkpoint that is known to have seen
    dev or test rows of the task is left out: its gain would be memory.

    Args:
        library: what is there.
        task: that is trained on.
        is_full: whether all weights are trained.

    Raises:
        InputError: nothing is left.
    """
    fix = "give `finetuning_type` full to train all weights"
    wrong_kind = tuple(
        Problem(
            "full checkpoint", str(c.path), "all weights", "a LoRA, since a LoRA is trained", fix
        )
        for c in library.checkpoints
        if c.kind == "full" and not is_full
    )
    kept = tuple(c for c in library.checkpoints if is_full or c.kind == "lora")
    leaks = leaking((c for c in kept if c.usable), task)
    clean = tuple(c for c in kept if str(c.path) not in leaks)
    left_out = (*wrong_kind, *leaks.values())
    if (leaks and not any(c.usable for c in clean)) or (wrong_kind and not kept):
        raise InputError(*left_out)
    return replace(library, checkpoints=clean), left_out


def leak_notes(
    checkpoints: Iterable[Checkpoint], task: Task, sample: Sequence[Example]
) -> tuple[str, ...]:
    """What to say of sources where all may be used: held-out rows, the sample, the unknown."""
    found = seen_of(checkpoints, task, sample)
    held = [one for one in found if one.held_out]
    trained = [one for one in found if one.sample]
    unknown = [one for one in found if one.unknown]
    notes = []
    if held:
        notes.append(
            f"{_named(held)} trained on dev or test rows of {task.name}: results on these "
            "rows after a start from them are memory; compare, race and loo leave them out"
        )
    if trained:
        most = max(one.sample for one in trained)
        notes.append(
            f"{_named(trained)} trained on up to {most:.0%} of the scoring sample of "
            f"{task.name}: their scores are partly memory"
        )
    if unknown:
        notes.append(unknown_note(unknown, len(found), task.name))
    return tuple(notes)


def unknown_note(unknown: Sequence[Seen], count: int, rows_of: str) -> str:
    """That nothing is known of some of ``count`` checkpoints, with the reasons."""
    reasons = Counter(one.unknown for one in unknown).most_common()
    why = "; ".join(f"{number:,}: {reason}" for reason, number in reasons[:_SHOWN])
    return (
        f"it is not known whether {len(unknown):,} of {count:,} checkpoints trained on rows of "
        f"{rows_of} ({why})"
    )


def _named(found: Sequence[Seen]) -> str:
    names = [Path(one.path).name for one in found]
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{shown} ({len(names)} in all)"


# One task, looked for in the training data of many sources


class _Search:
    """Rows of a task to look for; each dataset is read once."""

    def __init__(self, task: Task, sample: Sequence[Example]) -> None:
        self._held, self._sample = (*task.dev, *task.test), tuple(sample)
        self._asked = asked_prompts(self._held), asked_prompts(self._sample)
        self._found: dict[str, frozenset[int] | None] = {}

    def of(self, checkpoint: Checkpoint) -> Seen:
        path, prompts = str(checkpoint.path), read_prompts(checkpoint.run)
        if prompts:
            held, sample = (_share(asked, prompts) for asked in self._asked)
            return Seen(path, held, sample)
        names = named_datasets(checkpoint)
        rows = {name: self._rows_in(files) for name, files in names.items()}
        known = {name: found for name, found in rows.items() if found is not None}
        if not known:
            named = f"{', '.join(names)} is named and is not here" if names else _UNNAMED
            return Seen(path, unknown=named)
        both = frozenset().union(*known.values())
        count = len(self._held)
        held = sum(row < count for row in both) / max(1, count)
        sample = sum(row >= count for row in both) / max(1, len(self._sample))
        return Seen(path, held, sample, ", ".join(name for name, found in known.items() if found))

    def _rows_in(self, files: Sequence[Path]) -> frozenset[int] | None:
        """Which rows of the task a dataset has, by number; None where it is not here."""
        key = "\n".join(map(str, files))
        if files and key not in self._found:
            try:
                self._found[key] = self._texts.rows_in(_rows_of(files))
            except InputError:  # unreadable: not known
                self._found[key] = None
        return self._found.get(key)

    @cached_property
    def _texts(self) -> Texts:
        return Texts([_asked_text(one) for one in (*self._held, *self._sample)])


def _asked_text(example: Example) -> str:
    """What a row asks, without what a system turn says to all rows.

    Nothing for a row with pictures, which may ask the same of each picture.
    """
    if example.pictures:
        return ""
    turns = example.messages[: example.first_answer]
    return "\n".join(turn.content for turn in turns if turn.role == "user")


class Texts:
    """Texts to look for in the rows of a dataset.

    Words that all texts begin or end with are the template of the task and are left away. A text
    of 13 words or more is found where at least half of its 13-grams are in the dataset; 13-grams
    that more than 5 % of the texts share do not count. A shorter text of four words or more is
    found where a column is equal to it. Case and punctuation do not count.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        words = [_words(text) for text in texts]
        before, after = _template(words)
        cores = [_core(one, before, after) for one in words]
        grams = [frozenset(_grams(one)) for one in cores]
        counts = Counter(gram for one in grams for gram in one)
        limit = max(2, _COMMON * len(texts))
        self._grams = [{gram for gram in one if counts[gram] <= limit} for one in grams]
        self._wanted = frozenset().union(*self._grams)
        self._whole: dict[str, list[int]] = {}
        for place, core in enumerate(cores):
            if _SHORTEST <= len(core) < _GRAM:
                self._whole.setdefault(" ".join(core), []).append(place)

    def rows_in(self, rows: Iterable[Row]) -> frozenset[int]:
        """Which of the texts a dataset has, by their place."""
        found: set[str] = set()
        places: set[int] = set()
        for core in _cores(rows):
            places.update(self._whole.get(" ".join(core), ()) if len(core) < _GRAM else ())
            found.update(gram for gram in _grams(core) if gram in self._wanted)
        for place, own in enumerate(self._grams):
            if own and len(own & found) >= _ENOUGH * len(own):
                places.add(place)
        return frozenset(places)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _grams(words: Sequence[str]) -> Iterator[str]:
    return (" ".join(words[n : n + _GRAM]) for n in range(len(words) - _GRAM + 1))


def _template(texts: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many words all texts begin with, and end with."""
    several = list({tuple(text) for text in texts})
    if len(several) < 2:
        return 0, 0
    shortest = min(map(len, several))
    before = next((n for n in range(shortest) if len({t[n] for t in several}) > 1), shortest)
    left = shortest - before
    ends = (n for n in range(1, left + 1) if len({text[-n] for text in several}) > 1)
    return before, next(ends, left + 1) - 1


def _core(words: Sequence[str], before: int, after: int) -> Sequence[str]:
    return words[before : len(words) - after]


def _cores(rows: Iterable[Row]) -> Iterator[Sequence[str]]:
    """The texts in all columns of a dataset, without the template of each column."""
    rows = iter(rows)
    first = [dict(_texts_in(row)) for row in islice(rows, _PEEK)]
    columns = {name for row in first for name in row}
    templates: Mapping[str, tuple[int, int]] = {
        name: _template([_words(row[name]) for row in first if name in row]) for name in columns
    }
    later = (dict(_texts_in(row)) for row in rows)
    for row in (one for part in (first, later) for one in part):
        for name, text in row.items():
            words = _words(text)
            yield words
            before, after = templates.get(name, (0, 0))
            if before or after:
                yield _core(words, before, after)


def _texts_in(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a row, also in lists and parts of it, by the way to them."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts_in(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _texts_in(inner, f"{name}.{place}")


# Where the training data of a checkpoint is


def named_datasets(checkpoint: Checkpoint) -> dict[str, tuple[Path, ...]]:
    """The datasets that a checkpoint's card or trainer state names, with their training files.

    A name is compared with the names in the caches of the Hub and of ``datasets``, and never
    becomes a path in them. Only the trainer state of a checkpoint that is not itself from the
    Hub's cache may name a file.
    """
    named: dict[str, tuple[Path, ...]] = {}
    for folder in dict.fromkeys((checkpoint.path, checkpoint.run)):
        listed = card_head(folder).get("datasets", [])
        for name in [listed] if isinstance(listed, str) else listed:
            named.setdefault(name.strip(), _cached(name))
        for values in (_read(folder / file) for file in (TRAINER_STATE, RESULTS)):
            for name in (values[key] for key in _NAMES if isinstance(values.get(key), str)):
                named.setdefault(name.strip(), _file(name, folder) or _cached(name))
    named.pop("", None)
    return named


def _file(name: str, folder: Path) -> tuple[Path, ...]:
    """A file of rows by its name, as given or from the folder of the run."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if Path(name).suffix not in SUFFIXES or folder.absolute().is_relative_to(HF_HUB_CACHE):
        return ()
    return tuple(path for path in (Path(name), folder / name) if path.is_file())[:1]


def _cached(name: str) -> tuple[Path, ...]:
    """The files with the training rows of a dataset in the caches; none if it is not there."""
    from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or Path(HF_HOME) / "datasets")
    wanted = _plain(name)
    if not wanted:
        return ()
    snapshots = [
        snapshot
        for one in _folders(Path(HF_HUB_CACHE))
        if one.name.startswith("datasets--") and _plain(one.name[len("datasets--") :]) == wanted
        for snapshot in _folders(one / "snapshots")
    ]
    made = [one for one in _folders(prepared) if _plain(one.name) == wanted]
    found = [path for one in (*snapshots, *made) for path in sorted(one.rglob("*"))]
    kinds = {*SUFFIXES, ".arrow"}
    files = [path for path in found if path.suffix in kinds and path.is_file()]
    rows = [path for path in files if path.name not in ("dataset_info.json", "dataset_infos.json")]
    return tuple(path for path in rows if not _HELD.search(path.stem))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        values = read_json(path) if path.is_file() else {}
    except InputError:
        return {}
    return values if isinstance(values, dict) else {}


def _plain(name: str) -> str:
    """``owner/Some-Name``, ``owner___some_name`` and ``owner--Some-Name`` are one name."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(one for one in path.iterdir() if one.is_dir())
    except OSError:
        return []


def _rows_of(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of all files, at most 100,000.

    Files that cannot be read, such as descriptions in JSON, are passed over.

    Raises:
        InputError: none can be read.
    """
    return islice(_readable_rows(files), _MOST)


def _readable_rows(files: Sequence[Path]) -> Iterator[Row]:
    broken = []
    for path in files:
        try:
            yield from _file_rows(path)
        except InputError as error:
            broken.append(error)
    if broken and len(broken) == len(files):
        raise broken[0]


def _file_rows(path: Path) -> Iterator[Row]:
    if path.suffix != ".arrow":
        yield from (row for _, row in read_file(path) if isinstance(row, Mapping))
        return
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
            for batch in stream:
                yield from batch.to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        fix = "remove it from the cache of datasets"
        raise InputError(Problem("cannot read dataset", str(path), str(error), fix=fix)) from error
