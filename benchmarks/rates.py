"""What does a gain depend on: the start, or the learning rate? Reads a search from records.

    python benchmarks/rates.py docs/results/families/short/records.jsonl [--budget 0.25]

A search runs each arm at every rate with one seed. The tables have the mean test accuracy over the
targets of each arm at each rate, and where every arm and target takes the rate with the least dev
loss, of the whole grid and of all but its largest rate; and how far mashup is ahead of each arm.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from mashup.results.records import pool_of, read_records
from mashup.results.significance import over_tasks

Runs = dict[tuple[str, str], dict[float, dict[str, float]]]


def read_runs(path: Path, budget: float) -> Runs:
    """(Task, arm) to rate to metric to value, of a seed with every rate; draws are their arm."""
    runs: dict[tuple[str, str, int], dict[float, dict[str, float]]] = {}
    for one in read_records(path):
        rate, is_end = one.learning_rate, one.metric.startswith("end_")
        if rate and is_end and one.budget == budget and one.value is not None:
            found = runs.setdefault((one.task, pool_of(one.arm), one.seed), {})
            found.setdefault(rate, {})[one.metric] = one.value
    rates = {rate for found in runs.values() for rate in found}
    return {key[:2]: found for key, found in sorted(runs.items()) if set(found) == rates}


def accuracies(runs: Runs, arm: str, tasks: list[str], grid: list[float]) -> list[float]:
    """Per cent of each task, at the rate of the grid with the least dev loss."""
    found = [runs[task, arm] for task in tasks]
    best = [min(grid, key=lambda rate: one[rate]["end_dev_loss"]) for one in found]
    return [100 * one[rate]["end_test_accuracy"] for one, rate in zip(found, best, strict=True)]


def gain(mine: list[float], other: list[float]) -> str:
    """The mean difference with its 95 % interval over targets, and on how many it is above 0."""
    gains = [a - b for a, b in zip(mine, other, strict=True)]
    mean = over_tasks(gains)
    assert mean is not None
    half = mean.high - mean.value
    return f"{mean.value:+.1f} ± {half:.1f} ({sum(g > 0 for g in gains)} of {len(gains)})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=Path)
    parser.add_argument("--budget", type=float, default=0.25)
    options = parser.parse_args()
    runs = read_runs(options.records, options.budget)
    rates = sorted({rate for found in runs.values() for rate in found})
    arms = ["scratch", *sorted({arm for _, arm in runs} - {"scratch", "mashup"})]
    grids = {f"{rate:g}": [rate] for rate in rates}
    grids |= {f"best of {len(rates)}": rates, f"best of {len(rates) - 1}": rates[:-1]}
    for arm in arms:
        tasks = [task for task, one in runs if one == arm and (task, "mashup") in runs]
        if len(tasks) < 2:
            continue
        print(f"\n| Rate | {arm} | mashup | Mashup over it, points |\n| --- | ---: | ---: | ---: |")
        for name, grid in grids.items():
            mine, other = (accuracies(runs, one, tasks, grid) for one in ("mashup", arm))
            print(f"| {name} | {fmean(other):.1f} % | {fmean(mine):.1f} % | {gain(mine, other)} |")


if __name__ == "__main__":
    main()
