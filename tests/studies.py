"""Whole experiments made by hand: records as ``mashup loo`` writes them, and no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from armresults import PLANS, Plan, make_result
from helpers import write_json
from mashup.experiment.results import ArmResult, make_records, size_records
from mashup.results.records import (
    Record,
    commonest_record,
    data_of,
    labels_record,
    write_records,
)

TARGETS = ("trec", "sst2", "mrpc", "tweet_emotion")
RATES = (2e-4, 5e-4, 1e-3)
MORE = {
    "random-1": Plan((2.4, 0.22), (0.90, 0.67), merge=0.8),
    "random-2": Plan((2.3, 0.24), (0.88, 0.68), merge=0.8),
    "scratch-longer": Plan((2.6, 0.19), (0.88, 0.67), train=67, steps=27),
    "average-all": Plan((2.0, 0.28), (0.85, 0.69), merge=1.1),
}


def plans() -> dict[str, Plan]:
    """All arms of :func:`write_study`, to change some."""
    return {name: plan for name, plan in PLANS.items() if name != "random-two"} | MORE


def write_study(
    folder: Path,
    *,
    name: str = "small",
    base: str = "models/SmolLM2-135M-Instruct",
    targets: Sequence[str] = TARGETS,
    seeds: Sequence[int] = (42,),
    budgets: Sequence[float] = (1.0,),
    arms: Mapping[str, Plan] | None = None,
    singles: bool = False,
    commonest: float | None = 0.3,
    sizes: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """``records.jsonl`` and ``experiment.json`` in ``folder``.

    Args:
        sizes: other numbers of labels by target; the target itself has 64.
    """
    records: list[Record] = []
    found: dict[str, list[ArmResult]] = {}
    labels = dict.fromkeys(targets, 64)
    labels |= {f"{one}@{size}": size for one, some in (sizes or {}).items() for size in some}
    for target, size in labels.items():
        place = list(targets).index(data_of(target))
        shifted = {
            n: _shifted(plan, n, place, np.log2(size / 64))
            for n, plan in (arms or plans()).items()
            if size == 64 or n in ("scratch", "mashup")
        }
        if singles:
            donors = [donor for donor in targets if donor != target]
            shifted |= {f"single-{d}": _single(n) for n, d in enumerate(donors)}
        rungs = budgets if size == 64 else (1.0,)
        results = found[target] = list(_results(folder / target, shifted, seeds, rungs))
        records += make_records(name, target, results)
        records += [one for result in results for one in _ends(name, target, result)]
        records += _relevance(name, target, targets)
        records += [] if commonest is None else [commonest_record(name, target, commonest)]
        records += [labels_record(name, target, size)]
    records += size_records(name, found, labels)
    write_records(folder / "records.jsonl", records)
    write_json(folder / "experiment.json", _about(name, base, seeds))
    return folder


def _shifted(plan: Plan, name: str, place: int, doublings: float = 0.0) -> Plan:
    """Another level for every target and size, and another gain for all but scratch.

    A doubling of the labels brings scratch 5 points and the others 1.
    """
    loss, accuracy = plan.end
    more = 0.0 if name.startswith("scratch") or not plan.trained else 0.01 * place
    more += doublings * (0.05 if name.startswith("scratch") else 0.01)
    return replace(plan, end=(loss - more, accuracy - 0.03 * place + more))


def _single(place: int) -> Plan:
    return Plan((2.0, 0.3), (0.90 - 0.03 * place, 0.66 + 0.02 * place), merge=0.4)


def _results(
    folder: Path, arms: Mapping[str, Plan], seeds: Sequence[int], budgets: Sequence[float]
) -> Iterator[ArmResult]:
    for name, plan in arms.items():
        for seed in seeds:
            for budget in budgets if name in ("scratch", "mashup") else (1.0,):
                yield make_result(folder, name, plan, seed, budget)


def _ends(experiment: str, task: str, result: ArmResult) -> Iterator[Record]:
    """The middle rate is the best; the largest diverged for arms that start from something."""
    last = result.run.curve[-1]
    for rate in RATES if result.arm.trained else ():
        worse = 0.1 * abs(np.log(rate / RATES[1]))
        lost = rate == RATES[2] and result.arm.name != "scratch"
        values = {"dev_loss": last.dev_loss + worse, "dev_accuracy": last.dev_accuracy - worse / 5,
                  "test_loss": last.test_loss + worse,
                  "test_accuracy": last.test_accuracy - worse / 5}  # fmt: skip
        for metric, value in values.items():
            yield Record(
                experiment, task, result.arm.name, result.seed, result.budget, last.step,
                last.seconds, last.tokens, f"end_{metric}", None if lost else float(value),
                learning_rate=rate,
            )  # fmt: skip


def _relevance(experiment: str, target: str, tasks: Sequence[str]) -> list[Record]:
    def record(donor: str, metric: str, value: float) -> Record:
        place = ("score", -1, 1.0, 0, 6.0, 0)
        return Record(experiment, target, *place, metric, value, donor=donor)

    made = [record("base", "relevance_loss", 2.6), record("base", "relevance_accuracy", 0.2)]
    for place, donor in enumerate(one for one in tasks if one != target):
        values = {
            "relevance_loss": 2.4 - 0.4 * place, "relevance_accuracy": 0.3 + 0.1 * place,
            "relevance_examples": 32.0 * (1 + place), "chosen": float(place > 0),
        }  # fmt: skip
        made += [record(donor, metric, value) for metric, value in values.items()]
    return made


def _about(name: str, base: str, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "name": name, "base": base, "train_rows": 384, "dev_rows": 128, "test_rows": 100,
        "learning_rates": list(RATES), "seeds": list(seeds),
        "choose": {"k": 2, "samples": 256, "strategy": "auto"},
        "merge": {"method": "linear", "weights": "uniform", "rank": "sum"},
        "train": {"batch_size": 16, "epochs": 1.0, "lora_r": 8, "max_steps": None},
    }  # fmt: skip
