"""A finished comparison, made by hand: no model, but the real records, curves and statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import write_json
from mashup.compare.arms import Arm
from mashup.compare.records import write_records
from mashup.compare.results import ArmResult, make_records
from mashup.train import Run
from mashup.train.curve import Point

TESTS = 100


@dataclass(frozen=True)
class Plan:
    """How an arm goes: loss and accuracy from where to where, and its seconds."""

    start: tuple[float, float]
    end: tuple[float, float]
    train: float = 60.0
    score: float = 0.0
    merge: float = 0.0
    search: float = 0.0
    trained: bool = True
    steps: int = 24


PLANS = {
    "scratch": Plan((2.6, 0.19), (0.92, 0.66)),
    "mashup": Plan((1.5, 0.35), (0.70, 0.74), score=6, merge=0.8),
    "best-single": Plan((1.7, 0.33), (0.78, 0.71), score=6, merge=0.4),
    "random-two": Plan((2.4, 0.22), (0.90, 0.67), merge=0.8),
    "merged-untrained": Plan((1.5, 0.35), (1.5, 0.35), score=6, merge=0.8, trained=False),
}


def make_curve(plan: Plan, seed: int = 42, budget: float = 1.0) -> tuple[Point, ...]:
    """An exponential decay from start to end, a little shaken by the seed."""
    shake = np.random.default_rng(seed).normal(0, 0.012, 9)
    shake[-1] = (seed % 5 - 2) * 0.004
    points = []
    for place, share in enumerate(np.linspace(0, 1, 9)):
        done = (1 - np.exp(-3 * share * budget)) / (1 - np.exp(-3))
        loss = plan.start[0] + (plan.end[0] - plan.start[0]) * done + shake[place]
        accuracy = plan.start[1] + (plan.end[1] - plan.start[1]) * done - shake[place]
        step = round(plan.steps * budget * share)
        seconds = plan.train * budget * share
        points.append(Point(step, seconds, step * 1000, loss, accuracy, loss + 0.03, accuracy))
    return tuple(points)


def _result(folder: Path, name: str, plan: Plan, seed: int, budget: float) -> ArmResult:
    """Its run has per-example test values whose means are those at the end of its curve."""
    curve = make_curve(plan, seed, budget)
    path = folder / "runs" / f"{name}-{seed}-{budget}"
    right = round(curve[-1].test_accuracy * TESTS)
    order = np.random.default_rng(7).permutation(TESTS)  # of difficulty, the same for all
    losses = curve[-1].test_loss + 0.1 * np.random.default_rng(len(name)).standard_normal(TESTS)
    values = {
        "losses": losses.tolist(),
        "tokens": [1] * TESTS,
        "correct": (order < right).astype(float).tolist(),
    }
    write_json(path / "test.json", values)
    overhead = {"score": plan.score, "merge": plan.merge, "search": plan.search}
    arm = Arm(name, trained=plan.trained)  # type: ignore[arg-type]
    record = {"config": {"settings": {"learning_rate": 5e-4}}, "trainable_parameters": 1000}
    return ArmResult(arm, seed, budget, Run(path, record, curve), overhead)


def _scores(checkpoints: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    rows = [
        {
            "name": name, "path": f"/library/{name}", "digest": f"digest-{place}",
            "loss": 2.6 + difference, "accuracy": 0.2 - 0.1 * difference,
            "difference": difference, "standard_error": error, "seconds": 1.0, "cached": False,
        }
        for place, (name, difference, error) in enumerate(checkpoints)
    ]  # fmt: skip
    base = {"name": "base", "digest": "base-digest", "loss": 2.6, "accuracy": 0.2}
    return [*rows, base | {"difference": 0.0, "standard_error": 0.0}]


LIBRARY = (
    ("tweet_emotion", -0.90, 0.05),
    ("subjectivity", -0.70, 0.06),
    ("sst2", -0.25, 0.10),
    ("trec", 0.05, 0.04),
    ("customer_reviews", 0.60, 0.12),
)

MakeFolder = Callable[..., Path]


@pytest.fixture
def plans() -> dict[str, Plan]:
    """The arms of :func:`make_folder`, to change some."""
    return dict(PLANS)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make the three files; ``plans`` are changed arms (None removes one)."""

    def make(
        *,
        task: str = "tickets",
        seeds: Sequence[int] = (42,),
        budgets: Sequence[float] = (1.0,),
        library: Sequence[tuple[str, float, float]] = LIBRARY,
        chosen: int = 2,
        about: dict[str, Any] | None = None,
        **plans: Plan | None,
    ) -> Path:
        changed = {name.replace("_", "-"): plan for name, plan in plans.items()}
        arms = {name: plan for name, plan in (PLANS | changed).items() if plan}
        results = [
            _result(tmp_path, name, plan, seed, budget)
            for seed in seeds
            for name, plan in arms.items()
            for budget in (budgets if name in ("scratch", "mashup") else (1.0,))
        ]
        write_records(tmp_path / "records.jsonl", make_records("x", task, results))
        write_json(tmp_path / "scores.json", _scores(library))
        facts = _about(task, seeds, budgets, chosen)
        write_json(tmp_path / "comparison.json", facts | (about or {}))
        return tmp_path

    return make


def _about(
    task: str, seeds: Sequence[int], budgets: Sequence[float], chosen: int
) -> dict[str, Any]:
    return {
        "base": {"name": "SmolLM2-135M-Instruct", "digest": "base-digest", "dtype": "bfloat16"},
        "task": {"name": task, "digest": "0123456789abcdef"},
        "splits": {"train": 384, "dev": 128, "test": TESTS},
        "sample": {"digest": "fedcba9876543210", "examples": 256},
        "sentence": "start from tweet_emotion and subjectivity against the base",
        "left_out": [],
        "unchanged": [],
        "criterion": "loss",
        "chosen": [f"digest-{place}" for place in range(chosen)],
        "settings": {"learning_rate": 5e-4, "epochs": 1.0, "batch_size": 16, "lora_r": 8},
        "seeds": list(seeds),
        "learning_rates": [],
        "budgets": list(budgets),
    }
