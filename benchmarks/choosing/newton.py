"""Weights of merges of the best donors: uniform, softmax of losses, Newton; losses held out.

    python benchmarks/choosing/newton.py DATA LIBRARY STORE OUTPUT [TARGET...]

``STORE`` is what ``gradient.py truth`` made: the best donors by it are merged, one of a run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gradient import load_target, truth

from mashup import Base, load_base, load_task
from mashup._score.gradient import moved, weighted_sum
from mashup._score.gradient.weights import newton_weights
from mashup._score.result import paired
from mashup.demo.base import demo_base
from mashup.evaluate.evaluate import Evaluation, batches_for, evaluate
from mashup.task import tokenize

HELD_OUT = 128


def best_of_runs(losses: dict[str, float], k: int) -> list[str]:
    """The best ``k`` donors, at most one of a run."""
    chosen: dict[str, str] = {}
    for name in sorted(losses, key=losses.__getitem__):
        chosen.setdefault(name.partition("/")[0], name)
    return list(chosen.values())[:k]


def evaluated(base: Base, folders: list[Path], weights: Any, batches: Any) -> Evaluation:
    with moved(base.model, weighted_sum(folders, [float(w) for w in weights])):
        return evaluate(base.model, batches)


def compared(base: Base, data: Path, target: Any, k: int) -> dict[str, Any]:
    """Weights, loss on the sample and held out, and its difference to uniform, of each way."""
    known = truth(base, target)
    losses = {n: float(known[n].sum() / known["tokens"].sum()) for n in target.donors}
    names = best_of_runs(losses, k)
    folders = target.folders(names)
    fit = np.exp(-np.array([losses[name] for name in names]))
    ways = {
        "uniform": np.full(k, 1 / k),
        "loss": fit / fit.sum(),
        "newton, no search": newton_weights(base, folders, target.batches, search=False),
        "newton": newton_weights(base, folders, target.batches),
    }
    folder = data / target.name
    task = load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl", train_rows=384, dev_rows=64,
        test_rows=HELD_OUT,
    )  # fmt: skip
    held = batches_for(base, tokenize(base.tokenizer, task.test, max_length=1024))
    first = evaluated(base, folders, ways["uniform"], held)
    rows: dict[str, Any] = {}
    for way, weights in ways.items():
        found = evaluated(base, folders, weights, held)
        difference, error = paired(found.losses - first.losses, found.tokens.astype(float))
        rows[way] = {
            "weights": [round(float(w), 3) for w in weights],
            "sample": evaluated(base, folders, weights, target.batches).loss,
            "held_out": found.loss, "accuracy": found.accuracy,
            "difference": difference, "standard_error": error,
        }  # fmt: skip
    return {"donors": names, "ways": rows}


def main(data: Path, library: Path, store: Path, output: Path, *targets: str) -> None:
    base = load_base(demo_base())
    kept = json.loads(output.read_text()) if output.exists() else {}
    for name in targets or sorted(path.name for path in data.iterdir() if path.is_dir()):
        for k in (2, 4):
            if f"{name} {k}" in kept:
                continue
            target = load_target(base, data, library, store, name)
            kept[f"{name} {k}"] = compared(base, data, target, k)
            output.write_text(json.dumps(kept, indent=1))
            print(name, k, flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]), *sys.argv[5:])
