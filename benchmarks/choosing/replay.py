"""Choose among 1,186 real adapters from tables of what each scores: no model is run.

    python benchmarks/choosing/replay.py DATA

``DATA`` is the folder ``wild_loras`` with ``sample_accuracy.csv`` (what is measured: 100
examples) and ``test_accuracy.csv`` (what counts). It writes ``replay.json``, ``replay.md`` and
pictures beside itself. The ledger's settings were chosen on the other half of the tasks.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import replay_report
from numpy.typing import NDArray

from mashup._score.recall import choose

Array = NDArray[np.floating]
BUDGETS = (8, 15, 30, 60, 120, 240, 480)
HISTORY_BUDGETS = (15, 30, 60, 120)
RUNGS, FLOOR, KEPT = (8, 32, 100), 4, 4
SEEDS, HISTORY_SEEDS = 20, 3


@dataclass(frozen=True)
class Case:
    """A task that was left out: ``history (donors × other tasks)``, and its own two columns."""

    name: str
    history: Array
    sample: Array
    test: Array


@dataclass(frozen=True)
class Chosen:
    """The best two donors, best first, and what they cost in evaluations of a whole sample."""

    donors: Sequence[int]
    cost: float


Strategy = Callable[[Case, int, np.random.Generator], Chosen]


def ledger(case: Case, budget: int, rng: np.random.Generator) -> Chosen:
    del rng
    choice = choose(_looked_up(case.sample.tolist()), case.history, budget)
    return Chosen(choice.best[:2], len(choice.measured))


def _looked_up(values: list[float]) -> Callable[[Sequence[int]], list[float]]:
    return lambda donors: [values[donor] for donor in donors]


def exhaustive(case: Case, budget: int, rng: np.random.Generator) -> Chosen:
    return _measured(case, rng.permutation(len(case.sample)))


def random(case: Case, budget: int, rng: np.random.Generator) -> Chosen:
    return _measured(case, rng.permutation(len(case.sample))[:budget])


def elsewhere(case: Case, budget: int, rng: np.random.Generator) -> Chosen:
    """Best on other tasks, unseen on this one: it costs nothing and knows nothing of the target."""
    return Chosen(_elsewhere(case)[:2], 0)


def elsewhere_measured(case: Case, budget: int, rng: np.random.Generator) -> Chosen:
    """Measure those that are best on other tasks: the ledger without its model."""
    return _measured(case, _elsewhere(case)[:budget])


def _elsewhere(case: Case) -> Array:
    past = case.history - np.nanmean(case.history, axis=0)
    past = past / np.maximum(np.nanstd(past, axis=0), 1e-9)
    known = np.maximum(np.isfinite(past).sum(axis=1), 1)
    return np.argsort(-np.nansum(past, axis=1) / known, kind="stable")


def _measured(case: Case, donors: Array) -> Chosen:
    order = donors[np.argsort(-case.sample[donors], kind="stable")]
    return Chosen(order[:2].tolist(), len(donors))


def racing(case: Case, budget: int, rng: np.random.Generator) -> Chosen:
    """Rungs over as many random donors as the budget lets start.

    Only how many of all examples a donor got right is known, so how many of the first ones is
    drawn (hypergeometric), for each donor by itself: donors are not paired here.
    """
    share = sum(
        (rung - before) / RUNGS[-1] / KEPT**place
        for place, (before, rung) in enumerate(zip((0, *RUNGS), RUNGS, strict=False))
    )
    started = min(len(case.sample), max(FLOOR, round(budget / share)))
    staying = rng.permutation(len(case.sample))[:started]
    right = np.round(case.sample * RUNGS[-1]).astype(int)
    seen, spent = np.zeros(len(right), int), 0
    for before, rung in zip((0, *RUNGS), RUNGS, strict=False):
        rest = right[staying] - seen[staying]
        unseen = RUNGS[-1] - before
        seen[staying] += rng.hypergeometric(rest, unseen - rest, rung - before)
        spent += (rung - before) * len(staying)
        staying = staying[np.argsort(-seen[staying], kind="stable")]
        if rung < RUNGS[-1]:
            staying = staying[: _staying(seen[staying], rung)]
    return Chosen(staying[:2].tolist(), spent / RUNGS[-1])


def _staying(right: Array, rung: int) -> int:
    """How many stay: within two standard errors of the best, at most a quarter, but the floor."""
    share = (right + 1) / (rung + 2)  # of Laplace, so that nobody's error is zero
    variance = share * (1 - share) / rung
    close = share[0] - share <= 2 * np.sqrt(variance + variance[0])
    return max(FLOOR, min(int(close.sum()), len(right) // KEPT))


def read(path: Path) -> dict[str, Array]:
    """Task to its column over donors, NaN where nothing is told."""
    with path.open(newline="") as stream:
        head, *rows = list(csv.reader(stream))
    cells = [[float(cell) if cell else np.nan for cell in row[1:]] for row in rows]
    return dict(zip(head[1:], np.array(cells).T, strict=True))


def cases(data: Path, half: int = 1) -> Iterator[Case]:
    """The tasks of one half, which were not looked at while settings were chosen on the other."""
    sample, test = read(data / "sample_accuracy.csv"), read(data / "test_accuracy.csv")
    shuffled = np.random.default_rng(0).permutation(len(test))
    middle = len(test) // 2
    tasks = list(test)
    for task in (tasks[i] for i in sorted(shuffled[middle:] if half else shuffled[:middle])):
        known = np.isfinite(sample[task]) & np.isfinite(test[task])
        history = np.column_stack([column for name, column in sample.items() if name != task])
        yield Case(task, history[known], sample[task][known], test[task][known])


def few(case: Case, rng: np.random.Generator, *, tasks: int) -> Case:
    kept = rng.permutation(case.history.shape[1])[:tasks]
    return replace(case, history=case.history[:, kept])


def holes(case: Case, rng: np.random.Generator, *, share: float) -> Case:
    gone = rng.random(case.history.shape) < share
    return replace(case, history=np.where(gone, np.nan, case.history))


def new(case: Case, rng: np.random.Generator, *, share: float) -> Case:
    """Some donors were never measured."""
    gone = rng.random(len(case.history)) < share
    return replace(case, history=np.where(gone[:, None], np.nan, case.history))


def grown(case: Case, rng: np.random.Generator, *, tasks: int, budget: int) -> Case:
    """All donors are known on the first ``tasks``, on later ones what the ledger then measured."""
    history = case.history[:, rng.permutation(case.history.shape[1])]
    for column in history.T[tasks:]:
        values = column.tolist()
        choice = choose(_looked_up(values), history[:, :tasks], budget)
        column[:] = np.nan
        column[list(choice.measured)] = list(choice.measured.values())
    return replace(case, history=history)


SETTINGS: dict[str, Callable[..., Case]] = {
    **{f"{tasks} past tasks": partial(few, tasks=tasks) for tasks in (5, 10, 15, 20, 40)},
    "half of the entries missing": partial(holes, share=0.5),
    "a fifth of the donors new": partial(new, share=0.2),
    "10 past tasks whole, 60 donors of the others": partial(grown, tasks=10, budget=60),
}
STRATEGIES: dict[str, tuple[Strategy, tuple[int, ...], int]] = {
    "exhaustive": (exhaustive, (1186,), SEEDS),
    "ledger": (ledger, BUDGETS, 1),
    "racing": (racing, BUDGETS[:-1], SEEDS),
    "random": (random, BUDGETS, SEEDS),
    "best on other tasks": (elsewhere, (0,), 1),
    "best on other tasks, measured": (elsewhere_measured, BUDGETS, 1),
}


def replays(all_cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """One row for each strategy, budget, seed and task."""
    for name, (strategy, budgets, seeds) in STRATEGIES.items():
        print(name, file=sys.stderr)
        for case in all_cases:
            for seed in range(seeds):
                for budget in budgets:
                    yield _row(name, strategy, case, case, budget, seed)
    for name, change in SETTINGS.items():
        print(name, file=sys.stderr)
        for case in all_cases:
            for seed in range(HISTORY_SEEDS):
                known = change(case, np.random.default_rng(seed))
                for budget in HISTORY_BUDGETS:
                    yield _row(name, ledger, case, known, budget, seed)


def _row(
    name: str, strategy: Strategy, case: Case, known: Case, budget: int, seed: int
) -> dict[str, Any]:
    chosen = strategy(known, budget, np.random.default_rng(seed))
    test = case.test[list(chosen.donors)]
    return {
        "what": name, "budget": budget, "task": case.name, "cost": chosen.cost,
        "regret": 100 * (case.test.max() - test[0]), "pair": 100 * test.mean(),
    }  # fmt: skip


def main(data: Path) -> None:
    all_cases = list(cases(data))
    groups: dict[tuple[str, int], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for row in replays(all_cases):
        groups[row["what"], row["budget"]][row["task"]].append(row)
    replay_report.write(groups, Path(__file__).parent)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
