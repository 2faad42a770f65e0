"""Which default keeps the dev loss of a start from rising: a longer warm-up, balanced factors?

    python benchmarks/starts.py --model BASE --data DATA --sources LIBRARY --output FILE.jsonl

Four starts are merged and trained on 64 rows, 24 steps of 8, with one setting changed at a time.
Dev (48 rows) is evaluated every three steps, test (150 rows) at the end. One line a run; runs
that are in the output are not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import mashup
from between import DEV, PARENTS, TEST, TRAIN
from mashup.model import Base

PARENTS = PARENTS | {"emotion/isear": ["emotion/goemotions", "emotion/tweets"]}
#: Variant to settings of the merge and of the training.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "start": ({}, {}),
    "warm-up 0.3": ({}, {"warmup": 0.3}),
    "balanced": ({"factors": "balanced"}, {}),
}


def run(base: Base, task: mashup.Task, parents: list[Path], variant: str, options: Any) -> Any:
    """Dev loss of every point, test loss and accuracy of the end."""
    merging, training = VARIANTS[variant]
    settings = mashup.TrainSettings(
        learning_rate=options.rate, seed=options.seed, batch_size=8, max_steps=24, eval_steps=3,
        test_points="end", max_length=512, **training,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        start, output = Path(name, "start"), Path(name, "run")
        mashup.merge(parents, settings=mashup.MergeSettings(**merging), output=start)
        done = mashup.train(
            base, task, init=start, output=output, settings=settings, accept_base=True
        )
        dev = [round(point.dev_loss, 4) for point in done.curve]
    last = done.last
    return {"dev": dev, "test_loss": last.test_loss, "test_accuracy": last.test_accuracy}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "data", "sources", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    output: Path = options.output
    lines = output.read_text().splitlines() if output.exists() else []
    keys = ("target", "variant", "rate", "seed")
    done = {tuple(one[key] for key in keys) for one in map(json.loads, lines)}
    base = mashup.load_base(str(options.model))
    for target, names in PARENTS.items():
        folder = options.data / "families" / target
        task = mashup.load_task(
            folder / "train.jsonl", test=folder / "validation.jsonl", name=target,
            train_rows=TRAIN, dev_rows=DEV, test_rows=TEST,
        )  # fmt: skip
        parents = [options.sources / name for name in names]
        for variant in VARIANTS:
            key = (target, variant, options.rate, options.seed)
            if key not in done:
                found = dict(zip(keys, key, strict=True))
                found |= run(base, task, parents, variant, options)
                with output.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(*key, f"{max(found['dev'][1:]) - found['dev'][0]:+.3f}", flush=True)


if __name__ == "__main__":
    main()
