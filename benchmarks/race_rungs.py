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

import io
import json
import tarfile
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from mashup.experiment.jobs import read_layout

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
    with tarfile.open(folder / "runs.tar.xz") as archive:
        files: dict[tuple[str, str], bytes] = {}
        for entry in archive:
            parts = entry.name.split("/")
            stream = archive.extractfile(entry)
            files[parts[1], parts[-1]] = stream.read() if stream else b""
    layout, found = read_layout(folder), defaultdict(list)
    for cell in layout.cells:
        names = ("scratch", "mashup", STRANGERS)
        if cell.budget != BUDGET or cell.arm not in names or len(cell.runs) < 2:
            continue
        for key in cell.runs:
            if (key, "curve.jsonl") not in files:
                continue  # the same start as another arm's
            lines = io.BytesIO(files[key, "curve.jsonl"]).readlines()
            curve: list[dict[str, Any]] = [json.loads(line) for line in lines]
            right = json.loads(files[key, "test.json"])["correct"]
            losses = {point["step"]: point["dev_loss"] for point in curve}
            found[cell.target].append(Run(cell.arm, losses, float(np.mean(right))))
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
    gains = accuracy - accuracy[:, -1:]
    reach = stdtrit(len(fields) - 1, 0.975) * gains.std(0, ddof=1) / np.sqrt(len(fields))
    said = [
        f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"
        for mean, half in zip(gains.mean(0)[:-1], reach[:-1], strict=True)
    ]
    print("| over scratch alone, points | " + " | ".join([*said, ""]) + " |")
    print("| steps, in whole runs | " + " | ".join(f"{one:.1f}" for one in steps.mean(0)) + " |")


if __name__ == "__main__":
    main()
