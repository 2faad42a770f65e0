"""Is a point between start and end better than both? Interpolated weights and their average.

    python benchmarks/between.py --model BASE --data DATA --sources LIBRARY --output FILE.jsonl

A start is trained on 64 rows, 24 steps of 8. Then dev and test are read with the trained tensors
at ``(1 - a) * start + a * end`` for some ``a`` (WiSE-FT, arXiv 2109.01903), and at their average
over the last three quarters of the steps. One line a run; those in the output are not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import mashup
from first_steps import BATCH, STEPS, _order, _schedule, _set_rate, _step
from mashup._merge.merge import merge
from mashup._train.adapter import attach, detach
from mashup._train.trainer import Collator
from mashup.evaluate.evaluate import batches_for, evaluate
from mashup.model import Base
from mashup.settings import TrainSettings
from mashup.task import tokenize

PARENTS = {
    "intents/calendar": ["intents/alarm"],
    "reviews/dvd": ["reviews/toys_games", "reviews/kitchen_housewares"],
    "crises/west_texas": ["crises/boston"],
}
RATES, BETWEEN = (5e-4, 1e-4), (0.0, 0.3, 0.6, 1.0)
TRAIN, DEV, TEST = 64, 48, 150


def run(base: Base, start: Path, rate: float, task: mashup.Task) -> dict[str, Any]:
    """Dev loss, dev accuracy, test loss and test accuracy of every point."""
    train, dev, test = (
        list(tokenize(base.tokenizer, split, max_length=512))
        for split in (task.train, task.dev, task.test)
    )
    held = [batches_for(base, dev), batches_for(base, test)]
    model = attach(base.model, TrainSettings(seed=0), start)
    try:
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        first = {n: p.detach().clone() for n, p in trained.items()}
        total = {n: torch.zeros_like(p) for n, p in trained.items()}
        groups = [{"params": list(trained.values()), "lr": rate, "peak": 1.0}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        collate, order = Collator(base.pad_id), _order(len(train), STEPS)
        for step in range(1, STEPS + 1):
            _set_rate(optimizer, rate * _schedule(step - 1, 0.1))
            rows = [train[i] for i in order[(step - 1) * BATCH : step * BATCH]]
            _step(model, optimizer, rows, collate)
            if step > STEPS // 4:
                for name, p in trained.items():
                    total[name] += p.detach()
        last = {n: p.detach().clone() for n, p in trained.items()}

        def at(values: dict[str, torch.Tensor]) -> list[float]:
            for name, p in trained.items():
                p.data.copy_(values[name])
            found = [evaluate(model, batches) for batches in held]
            return [round(x, 4) for one in found for x in (one.loss, one.accuracy)]

        points = {f"{a:g}": at({n: torch.lerp(first[n], last[n], a) for n in trained})
                  for a in BETWEEN}  # fmt: skip
        count = STEPS - STEPS // 4
        return points | {"average": at({n: total[n] / count for n in trained})}
    finally:
        detach(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    for name in ("--data", "--sources", "--output"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    done = {(one["target"], one["rate"]) for one in map(json.loads, lines)}
    base = mashup.load_base(options.model)
    for target, names in PARENTS.items():
        data = options.data / "families" / target
        task = mashup.load_task(
            data / "train.jsonl", test=data / "validation.jsonl",
            train_rows=TRAIN, dev_rows=DEV, test_rows=TEST,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            parents = [options.sources / name for name in names]
            start = merge(parents, output=Path(folder) / "start").path
            for rate in [one for one in RATES if (target, one) not in done]:
                row = {"target": target, "rate": rate, "points": run(base, start, rate, task)}
                with options.output.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
