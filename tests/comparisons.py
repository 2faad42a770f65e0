"""A finished comparison, made by hand: no model, but the real records, curves and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from armresults import PLANS, TESTS, Plan, make_result
from helpers import write_json
from mashup.experiment.results import make_records
from mashup.results.records import commonest_record, write_records


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


def write_comparison(
    folder: Path,
    *,
    task: str = "tickets",
    seeds: Sequence[int] = (42,),
    budgets: Sequence[float] = (1.0,),
    library: Sequence[tuple[str, float, float]] = LIBRARY,
    chosen: int = 2,
    about: dict[str, Any] | None = None,
    commonest: float | None = 0.3,
    **plans: Plan | None,
) -> Path:
    """The three files of a comparison; ``plans`` are changed arms (None removes one)."""
    changed = {name.replace("_", "-"): plan for name, plan in plans.items()}
    arms = {name: plan for name, plan in (PLANS | changed).items() if plan}
    results = [
        make_result(folder, name, plan, seed, budget)
        for seed in seeds
        for name, plan in arms.items()
        for budget in (budgets if name in ("scratch", "mashup") else (1.0,))
    ]
    known = [] if commonest is None else [commonest_record("x", task, commonest)]
    write_records(folder / "records.jsonl", (*make_records("x", task, results), *known))
    write_json(folder / "scores.json", _scores(library))
    facts = _about(task, seeds, budgets, chosen)
    write_json(folder / "comparison.json", facts | (about or {}))
    return folder


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
