"""Arms with curves made by hand: no model, but the real records, curves and statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from helpers import write_json
from mashup._train.record import Run
from mashup.experiment.results import Arm, ArmResult
from mashup.results.curve import Point

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


def make_result(folder: Path, name: str, plan: Plan, seed: int, budget: float) -> ArmResult:
    """Its run has per-example test values whose means are those at the end of its curve."""
    curve = make_curve(plan, seed, budget)
    path = folder / "runs" / f"{name}-{seed}-{budget}"
    right = round(curve[-1].test_accuracy * TESTS)
    curve = (*curve[:-1], replace(curve[-1], test_accuracy=right / TESTS))
    order = np.random.default_rng(7).permutation(TESTS)  # of difficulty, the same for all
    noise = np.random.default_rng(len(name)).standard_normal(TESTS)
    losses = curve[-1].test_loss + 0.1 * (noise - noise.mean())
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
