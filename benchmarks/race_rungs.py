"""When may a race drop a learning rate? Races replayed from published runs; no model is run.

    python benchmarks/race_rungs.py docs/results/families/short docs/results/families/orphans

The published experiments trained scratch, mashup and two strangers at every rate with their first
seed, so the races among them are known: a lane of a race is the same run. Lanes are the rates of
scratch and of the other start: mashup where it chose a source, else the strangers. Each rule says
how many rates a start keeps at which share of a run; a lane is judged by its best dev loss so far,
and the winner by its test rows. No lane is given up as one that cannot overtake the first: that
needs the dev values of every example, which are not published.
"""

from __future__ import annotations

import tarfile
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np

from mashup.experiment.jobs import read_layout
from mashup.experiment.run import JOBS
from mashup.results.curve import CURVE, TEST, read_curve, read_values
from mashup.results.significance import over_tasks

BUDGET, STRANGERS = 0.25, "blind-1"
#: Name of a rule to how many rates a start keeps after which share of a run.
RULES: Mapping[str, Mapping[float, int]] = {
    "one after a quarter": {0.25: 1},
    "two after a quarter, one after half": {0.25: 2, 0.5: 1},
    "one after half": {0.5: 1},
    "two after half": {0.5: 2},
    "all to the end": {},
}


@dataclass(frozen=True)
class Run:
    """One lane: dev loss by step, and the share of right test answers at its best point."""

    start: str
    losses: Mapping[int, float]
    accuracy: float

    def standing(self, step: int) -> float:
        return min(loss for at, loss in self.losses.items() if at <= step)


def read_runs(folder: Path) -> dict[str, list[Run]]:
    """Target to the runs of the first seed at every rate."""
    found = defaultdict(list)
    with TemporaryDirectory() as place, tarfile.open(folder / "runs.tar.xz") as archive:
        archive.extractall(place, filter="data")
        for cell in read_layout(folder).cells:
            names = ("scratch", "mashup", STRANGERS)
            if cell.budget != BUDGET or cell.arm not in names or len(cell.runs) < 2:
                continue
            for key in cell.runs:
                for curve in (Path(place) / JOBS / key).rglob(CURVE):  # none: another arm's run
                    losses = {point.step: point.dev_loss for point in read_curve(curve)}
                    right = fmean(read_values(curve.with_name(TEST))["correct"])
                    found[cell.target].append(Run(cell.arm, losses, right))
    return dict(found)


def race(runs: Sequence[Run], rule: Mapping[float, int]) -> tuple[Run, float]:
    """The winner, and the steps of all lanes in whole runs."""
    end = max(runs[0].losses)
    alive, spent, before = list(runs), 0.0, 0.0
    for share, kept in (*rule.items(), (1.0, len(runs))):
        spent += len(alive) * (share - before)
        before, step = share, round(share * end)
        seen: Counter[str] = Counter()
        order = sorted(alive, key=lambda run: run.standing(step))
        alive = []
        for run in order:
            if seen[run.start] < kept:
                seen[run.start] += 1
                alive.append(run)
    return alive[0], spent


def lanes(runs: Sequence[Run]) -> list[Run]:
    """Scratch and mashup, or the strangers where mashup is scratch."""
    has_mashup = any(run.start == "mashup" for run in runs)
    left_out = STRANGERS if has_mashup else "mashup"
    return [run for run in runs if run.start != left_out]


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    targets: dict[str, list[Run]] = {}
    for folder in parser.parse_args().folders:
        targets |= read_runs(folder)
    fields = {name: lanes(runs) for name, runs in targets.items()}
    columns = [*RULES, "scratch alone, all to the end"]
    print("| Target | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    accuracy, steps = np.zeros((2, len(fields), len(columns)))
    for row, (name, runs) in enumerate(fields.items()):
        cells = []
        scratch = [run for run in runs if run.start == "scratch"]
        races = [*((runs, rule) for rule in RULES.values()), (scratch, {})]
        for column, (entered, rule) in enumerate(races):
            won, steps[row, column] = race(entered, rule)
            accuracy[row, column] = 100 * won.accuracy
            cells.append(f"{100 * won.accuracy:.1f} % ({won.start.removesuffix('-1')})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("| mean | " + " | ".join(f"{one:.1f} %" for one in accuracy.mean(0)) + " |")
    gains = (over_tasks(list(one)) for one in (accuracy - accuracy[:, -1:]).T[:-1])
    said = [f"{one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]" for one in gains if one]
    print("| over scratch alone, points | " + " | ".join([*said, ""]) + " |")
    print("| steps, in whole runs | " + " | ".join(f"{one:.1f}" for one in steps.mean(0)) + " |")


if __name__ == "__main__":
    main()
