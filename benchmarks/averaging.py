"""How far merges of factors are from the merge of deltas, for adapters that were really trained.

    .venv/bin/python benchmarks/averaging.py [FOLDER]

Trains three adapters a learning rate on the demo's base and tasks (kept in FOLDER, some ten
minutes on two cores), merges pairs of them with weights 1/2, and prints one table.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from mashup import MergeSettings, TrainSettings, load_base, load_task, merge, train
from mashup._merge.combine import merged_deltas
from mashup._merge.merge import prepare_merge
from mashup.delta import read_delta
from mashup.demo.base import demo_base
from mashup.demo.data import build_tasks
from mashup.model import Base

RATES = (2e-4, 1e-3)
ROWS, STEPS = 160, 20
#: Task and seed of the three adapters: the first two share the seed, so the same A to start from.
ADAPTERS = {"one": ("film_sentiment", 42), "same": ("text_source", 42), "other": ("text_source", 7)}
PAIRS = {"one seed": ("one", "same"), "two seeds": ("one", "other")}


def trained(folder: Path) -> Base:
    """Train what is missing below ``folder``; the base."""
    base = load_base(demo_base())
    counts = {task: ROWS + 32 for task, _ in ADAPTERS.values()}
    tasks = build_tasks(folder / "tasks", counts, test_rows=16)
    for rate in RATES:
        for name, (task, seed) in ADAPTERS.items():
            rows = load_task(
                tasks[task].path, name=task, train_rows=ROWS, dev_rows=16, test_rows=16
            )
            settings = TrainSettings(
                learning_rate=rate, max_steps=STEPS, batch_size=8, evaluations=1, seed=seed
            )
            train(base, rows, output=folder / f"{rate:g}" / name, settings=settings)
    return base


def peft_deltas(base: Base, pair: tuple[Path, Path], how: str, folder: Path) -> dict[str, Tensor]:
    """What PEFT's ``add_weighted_adapter`` makes of the pair."""
    model = PeftModel.from_pretrained(base.model, pair[0], adapter_name="first")
    model.load_adapter(pair[1], "second")
    given = {"density": 0.5, "weights": [1.0, 1.0]} if how == "ties" else {"weights": [0.5, 0.5]}
    model.add_weighted_adapter(["first", "second"], adapter_name="m", combination_type=how, **given)
    model.save_pretrained(folder, selected_adapters=["m"])
    model.unload()
    return deltas(folder / "m")


def deltas(folder: Path) -> dict[str, Tensor]:
    return {name: f.dense() for name, f in read_delta(folder).modules.items()}


def exact(pair: tuple[Path, Path], method: str) -> Iterator[tuple[str, Tensor]]:
    """Module and merged delta, from the deltas themselves."""
    settings = MergeSettings(method=method, weights=(0.5, 0.5))
    prepared = prepare_merge(pair, settings, None)
    for module in prepared.plan.modules:
        pieces = [rows.clone() for _, _, rows in merged_deltas(prepared.recipe, module.tensors)]
        yield module.name, torch.cat(pieces)


def error(found: dict[str, Tensor], expected: Iterator[tuple[str, Tensor]]) -> float:
    """``‖found - expected‖ / ‖expected‖`` over all modules."""
    off = whole = 0.0
    for name, delta in expected:
        off += float((found[name] - delta).square().sum())
        whole += float(delta.square().sum())
    return (off / whole) ** 0.5


def apart(pair: tuple[Path, Path]) -> float:
    """How far the two A are from each other: ``‖A₁ - A₂‖ / ‖A₁‖``."""
    one, other = (read_delta(path).modules for path in pair)
    return error({n: f.A for n, f in other.items()}, ((n, f.A) for n, f in one.items()))


def row(base: Base, pair: tuple[Path, Path]) -> list[float]:
    """Distance of the A, then errors of factor_average, PEFT's linear, and PEFT's ties."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        averaged = merge(pair, output=folder / "f", method="factor_average").path
        return [
            apart(pair),
            error(deltas(averaged), exact(pair, "linear")),
            error(peft_deltas(base, pair, "linear", folder / "l"), exact(pair, "linear")),
            error(peft_deltas(base, pair, "ties", folder / "t"), exact(pair, "ties")),
        ]


def main(folder: Path) -> None:
    base = trained(folder)
    print("| Parents | Learning rate | A apart | factor_average | PEFT linear | PEFT ties |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, names in PAIRS.items():
        for rate in RATES:
            one, other = (folder / f"{rate:g}" / name for name in names)
            numbers = " | ".join(f"{number:.1%}" for number in row(base, (one, other)))
            print(f"| {kind} | {rate:g} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "averaging"))
