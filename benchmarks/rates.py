"""What does a gain cost in searching the learning rate? Reads the runs of a search from records.

    python benchmarks/rates.py docs/results/families/short-runs.jsonl [--budget 0.25]

A search runs each arm at every rate with one seed. The table has the mean test accuracy over the
targets of scratch and of mashup at each rate, and where every arm and target takes the rate with
the least dev loss, of the whole grid and of all but its largest rate.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

Runs = dict[tuple[str, str], dict[float, dict[str, float]]]
_ARMS = ("scratch", "mashup")


def read_runs(path: Path, budget: float) -> Runs:
    """(Task, arm) to rate to metric to value, of the seed and the tasks with every rate."""
    runs: dict[tuple[str, str, int], dict[float, dict[str, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        rate, name = one.get("learning_rate"), one["metric"]
        if rate and one["budget"] == budget and name.startswith("end_"):
            found = runs.setdefault((one["task"], one["arm"], one["seed"]), {})
            found.setdefault(rate, {})[name] = one["value"]
    rates = {rate for found in runs.values() for rate in found}
    whole = {key[:2]: found for key, found in sorted(runs.items()) if set(found) == rates}
    tasks = sorted({task for task, _ in whole if all((task, arm) in whole for arm in _ARMS)})
    if len(tasks) < 2:
        raise SystemExit(f"{path}: fewer than two tasks have a search of the rate for both arms")
    return {(task, arm): whole[task, arm] for task in tasks for arm in _ARMS}


def row(name: str, runs: Runs, grid: list[float]) -> str:
    """One line of the table: both arms with their best rate of a grid by dev loss."""
    accuracy: dict[str, list[float]] = {arm: [] for arm in _ARMS}
    for (_, arm), found in runs.items():
        rate = min(grid, key=lambda rate: found[rate]["end_dev_loss"])
        accuracy[arm].append(100 * found[rate]["end_test_accuracy"])
    gains = [a - b for a, b in zip(accuracy["mashup"], accuracy["scratch"], strict=True)]
    half = student.ppf(0.975, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
    means = " | ".join(f"{fmean(values):.1f} %" for values in accuracy.values())
    return f"| {name} | {means} | {fmean(gains):+.1f} ± {half:.1f} | {sum(g > 0 for g in gains)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=Path)
    parser.add_argument("--budget", type=float, default=0.25)
    options = parser.parse_args()
    runs = read_runs(options.records, options.budget)
    rates = sorted({rate for found in runs.values() for rate in found})
    print(f"| Rate | scratch | mashup | Gain, points | Ahead on, of {len(runs) // 2} |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for rate in rates:
        print(row(f"{rate:g}", runs, [rate]))
    print(row(f"best of {len(rates)} by dev loss", runs, rates))
    print(row(f"best of {len(rates) - 1}, without {rates[-1]:g}", runs, rates[:-1]))


if __name__ == "__main__":
    main()
