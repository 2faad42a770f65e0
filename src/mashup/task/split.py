"""Disjoint splits that do not depend on the order of the rows.

Every example has a rank: a hash of the seed and its prompt. Rows with the same
prompt have the same rank and fall into the same split, so no duplicate of a test
row is trained on. A row that answers a held-out prompt in another form, as a later
turn of a conversation, is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mashup.errors import InputError, Problem
from mashup.task.example import Example
from mashup.task.examples import Examples

SMALLEST = 8  # examples; below this a dev or test number says nothing


@dataclass(frozen=True)
class SplitSizes:
    """How many examples each split gets; None picks a size by the number of rows."""

    train: int | None = None
    dev: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Splits:
    train: Examples
    dev: Examples
    test: Examples
    dropped: int = 0  # training rows that answer a prompt of dev or test


def split(
    rows: Iterable[Example],
    dev: Iterable[Example],
    test: Iterable[Example],
    sizes: SplitSizes,
    seed: int,
    where: str,
) -> Splits:
    """Cut ``rows`` into train, dev and test; given ``dev`` and ``test`` are kept as they are.

    Raises:
        InputError: fewer rows than the splits need.
    """
    rows, dev, test = Examples.of(rows), Examples.of(dev), Examples.of(test)
    for name, given, wanted in (("test", test, sizes.test), ("dev", dev, sizes.dev)):
        if given and wanted and wanted > len(given):
            raise _too_few(f"{where} ({name})", len(given), f"{wanted} {name} rows")
    tests, devs = test.shuffled(seed)[: sizes.test], dev.shuffled(seed)[: sizes.dev]
    pool = rows.shuffled(seed).without(test.prompts | dev.prompts)
    if not tests:
        tests, pool = _cut(pool, _size(sizes.test, len(pool) // 5, 500))
    if not devs:
        devs, pool = _cut(pool, _size(sizes.dev, len(pool) // 10, 128))
    else:
        devs = devs.without(tests.prompts)
    if sizes.train is not None and sizes.train > len(pool):
        raise _too_few(where, len(rows), f"{sizes.train} training rows, {len(pool)} are left")
    if min(len(pool[: sizes.train]), len(devs), len(tests)) < SMALLEST:
        found = f"train {len(pool[: sizes.train])}, dev {len(devs)}, test {len(tests)}"
        raise _too_few(where, len(rows), f"at least {SMALLEST} examples a split ({found})")
    used = sum(len(part) for part in (tests, devs) if part.store is rows.store)
    return Splits(pool[: sizes.train], devs, tests, len(rows) - len(pool) - used)


def shuffled(examples: Sequence[Example], seed: int) -> Examples:
    """``examples`` in the order of their ranks; equal prompts stay together."""
    return Examples.of(examples).shuffled(seed)


def _size(wanted: int | None, share: int, most: int) -> int:
    return wanted if wanted is not None else min(max(share, SMALLEST), most)


def _cut(pool: Examples, count: int) -> tuple[Examples, Examples]:
    """The first ``count`` examples and the rest, never between two of the same prompt.

    What is left of the rest answers none of their prompts.
    """
    end = min(count, len(pool))
    keys = pool.store.key
    while 0 < end < len(pool) and keys(int(pool.rows[end - 1])) == keys(int(pool.rows[end])):
        end += 1
    taken, rest = pool[:end], pool[end:]
    return taken, rest if pool.store.is_simple else rest.without(taken.prompts)


def _too_few(where: str, rows: int, expected: str) -> InputError:
    fix = "give more rows, or smaller `train_rows`, `dev_rows`, `test_rows`"
    return InputError(
        Problem(
            "too few rows for the splits", where, f"{rows} row{'s' * (rows != 1)}", expected, fix
        )
    )
