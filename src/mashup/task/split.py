"""Disjoint splits that do not depend on the order of the rows.

Every example has a rank: a hash of the seed and its prompt. Rows with the same
prompt have the same rank and fall into the same split, so no duplicate of a test
row is trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mashup.errors import InputError, Problem
from mashup.task.example import Example

SMALLEST = 8  # examples; below this a dev or test number says nothing


@dataclass(frozen=True)
class SplitSizes:
    """How many examples each split gets; None picks a size by the number of rows."""

    train: int | None = None
    dev: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Splits:
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    dropped: int = 0  # training rows whose prompt stands in dev or test as well


def split(
    rows: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    sizes: SplitSizes,
    seed: int,
    where: str,
) -> Splits:
    """Cut ``rows`` into train, dev and test; given ``dev`` and ``test`` are kept as they are.

    Raises:
        InputError: fewer rows than the splits need.
    """
    for name, given, wanted in (("test", test, sizes.test), ("dev", dev, sizes.dev)):
        if given and wanted and wanted > len(given):
            raise _too_few(f"{where} ({name})", len(given), f"{wanted} {name} rows")
    tests = _first(shuffled(test, seed), sizes.test)
    devs = _first(shuffled(dev, seed), sizes.dev)
    held = {example.prompt_key for example in (*tests, *devs, *test, *dev)}
    pool = [example for example in shuffled(rows, seed) if example.prompt_key not in held]
    dropped = len(rows) - len(pool)
    if not tests:
        tests, pool = _cut(pool, _size(sizes.test, len(pool) // 5, 500))
    if not devs:
        devs, pool = _cut(pool, _size(sizes.dev, len(pool) // 10, 128))
    else:
        devs = [example for example in devs if example.prompt_key not in _keys(tests)]
    if sizes.train is not None and sizes.train > len(pool):
        raise _too_few(where, len(rows), f"{sizes.train} training rows, {len(pool)} are left")
    train = _first(pool, sizes.train)
    if min(len(train), len(devs), len(tests)) < SMALLEST:
        found = f"train {len(train)}, dev {len(devs)}, test {len(tests)}"
        raise _too_few(where, len(rows), f"at least {SMALLEST} examples a split ({found})")
    return Splits(tuple(train), tuple(devs), tuple(tests), dropped)


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """``examples`` in the order of their ranks; equal prompts stay together."""
    return sorted(examples, key=lambda example: (_rank(seed, example.prompt_key), example.messages))


def _rank(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _size(wanted: int | None, share: int, most: int) -> int:
    return wanted if wanted is not None else min(max(share, SMALLEST), most)


def _first(examples: Sequence[Example], count: int | None) -> list[Example]:
    return list(examples if count is None else examples[:count])


def _keys(examples: Sequence[Example]) -> set[str]:
    return {example.prompt_key for example in examples}


def _cut(pool: list[Example], count: int) -> tuple[list[Example], list[Example]]:
    """The first ``count`` examples and the rest, never between two of the same prompt."""
    taken: list[Example] = []
    for _, group in groupby(pool, key=lambda example: example.prompt_key):
        if len(taken) >= count:
            break
        taken.extend(group)
    return taken, pool[len(taken) :]


def _too_few(where: str, rows: int, expected: str) -> InputError:
    fix = "give more rows, or smaller --train-rows, --dev-rows, --test-rows"
    return InputError(Problem("too few rows for the splits", where, f"{rows} rows", expected, fix))
