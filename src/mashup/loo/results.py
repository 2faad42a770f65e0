"""From finished jobs to the results of arms, and from these to records."""

from __future__ import annotations

from collections.abc import Sequence

from mashup.compare.arms import Arm
from mashup.compare.records import Record
from mashup.compare.results import ArmResult, make_records
from mashup.loo.experiment import Experiment
from mashup.loo.plan import Cell, Plan
from mashup.loo.store import Store
from mashup.train import Run


def all_records(experiment: Experiment, plan: Plan, store: Store) -> tuple[Record, ...]:
    """Records of every target whose jobs are all done, target by target."""
    records: list[Record] = []
    for target in experiment.wanted:
        cells = [cell for cell in plan.cells if cell.target == target]
        if all(store.is_done(plan.jobs[key]) for cell in cells for key in cell_keys(cell)):
            results = [one for cell in cells if (one := result_of(cell, store))]
            records += make_records(experiment.name, target, results)
    return tuple(records)


def cell_keys(cell: Cell) -> tuple[str, ...]:
    """Keys of the jobs that a cell reads."""
    return tuple(key for key in (*cell.runs, cell.init, cell.score) if key)


def result_of(cell: Cell, store: Store) -> ArmResult | None:
    """The best run of a cell by dev loss, all that it cost charged; None when all diverged."""
    facts = [store.result(key) for key in cell.runs]
    healthy = [one for one in facts if not one["diverged"]]
    if not healthy:
        return None
    best = min(healthy, key=lambda one: one["dev_loss"])
    init = store.result(cell.init) if cell.init else {}
    search = sum(_seconds(one) for one in facts if one is not best) if cell.trained else 0.0
    overhead = {
        "score": store.result(cell.score)["seconds"] if cell.score else 0.0,
        "merge": init.get("seconds", 0.0) + best["check_seconds"],
        "search": search,
    }
    note = _note(cell, init)
    arm = Arm(cell.arm, pays_for_scoring=bool(cell.score), trained=cell.trained, note=note)
    return ArmResult(arm, cell.seed, cell.budget, Run.open(store.root / best["path"]), overhead)


def _seconds(facts: dict[str, float]) -> float:
    return facts["train_seconds"] + facts.get("check_seconds", 0.0)


def _note(cell: Cell, init: dict[str, Sequence[str]]) -> str:
    if cell.init and not init.get("path"):
        return "nothing beat the base: same as scratch"
    return ", ".join(init.get("parents", ()))
