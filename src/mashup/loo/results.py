"""From finished jobs to the results of arms, and from these to records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mashup._compare.arms import Arm
from mashup._compare.results import ArmResult, make_records
from mashup._train.record import Run
from mashup.loo.experiment import Experiment
from mashup.loo.graph import Cell, Plan
from mashup.loo.store import Store, best_of
from mashup.results.records import LEFT_OUT, Record, commonest_record, pool_of

#: Ends of every run of a grid of learning rates, as :class:`~mashup.results.Point` has them.
ENDS = ("dev_loss", "dev_accuracy", "test_loss", "test_accuracy")
#: What a record of a donor's score is called, and what it is in a ranking.
RELEVANCE = {"relevance_loss": "loss", "relevance_accuracy": "accuracy"}


def all_records(
    experiment: Experiment, plan: Plan, store: Store, commonest: Mapping[str, float]
) -> tuple[Record, ...]:
    """Records of every target whose jobs are all done, target by target.

    Those of arms are as ``mashup compare`` writes them. Beside them: ``end_...`` of every run
    with its ``learning_rate`` (no value: it diverged), and of every ``donor`` (and the base)
    ``relevance_...`` on the sample, on how many examples, and whether it was ``chosen``; of every
    donor that was not used, ``left_out``: the share of the held-out prompts it was trained on.

    Args:
        experiment, plan, store: what was run.
        commonest: accuracy of the commonest answer by target.
    """
    records: list[Record] = []
    for target in experiment.wanted:
        if target_is_done(target, plan, store):
            cells = [cell for cell in plan.cells if cell.target == target]
            results = [one for cell in cells if (one := result_of(cell, store))]
            records += make_records(experiment.name, target, results, pool_of)
            records += [one for cell in cells for one in _ends(experiment.name, cell, plan, store)]
            records += _relevance(experiment.name, target, cells, store)
            records += _left_out(experiment.name, target, plan)
            records.append(commonest_record(experiment.name, target, commonest[target]))
    return tuple(records)


def target_is_done(target: str, plan: Plan, store: Store) -> bool:
    """Whether every job that the results of a target are read from is done."""
    keys = {key for cell in plan.cells if cell.target == target for key in cell_keys(cell)}
    return all(store.is_done(plan.jobs[key]) for key in keys)


def cell_keys(cell: Cell) -> tuple[str, ...]:
    """Keys of the jobs that a cell reads."""
    return tuple(key for key in (*cell.runs, *cell.search, cell.init, cell.score) if key)


def result_of(cell: Cell, store: Store) -> ArmResult | None:
    """The best run of a cell by dev loss, all that it cost charged; None when all diverged."""
    facts = [store.result(key) for key in cell.runs]
    best = best_of(facts)
    if best is None:
        return None
    init = store.result(cell.init) if cell.init else {}
    search = _search(facts) if cell.trained else 0.0
    search += _search([store.result(key) for key in cell.search])
    overhead = {
        "score": store.result(cell.score)["seconds"] if cell.score else 0.0,
        "merge": init.get("seconds", 0.0) + best["check_seconds"],
        "search": search,
    }
    note = _note(cell, init)
    arm = Arm(cell.arm, pays_for_scoring=bool(cell.score), trained=cell.trained, note=note)
    return ArmResult(arm, cell.seed, cell.budget, Run.open(store.root / best["path"]), overhead)


def _search(facts: Sequence[dict[str, Any]]) -> float:
    """Seconds of all runs but the one that is taken."""
    best = best_of(facts)
    return sum(_seconds(one) for one in facts if one is not best)


def _seconds(facts: dict[str, float]) -> float:
    return facts["train_seconds"] + facts.get("check_seconds", 0.0)


def _note(cell: Cell, init: dict[str, Sequence[str]]) -> str:
    if cell.init and not init.get("path"):
        return "nothing beat the base: same as scratch"
    return ", ".join(init.get("parents", ()))


def _ends(experiment: str, cell: Cell, plan: Plan, store: Store) -> Iterator[Record]:
    """Where every run of a cell ended."""
    for key in cell.runs if cell.trained else ():
        facts, settings = store.result(key), plan.jobs[key].decides["settings"]
        place, values = (0, facts["train_seconds"], 0), dict.fromkeys(ENDS)
        if not facts["diverged"]:
            run = Run.open(store.root / facts["path"])
            settings, last = run.record["config"]["settings"], run.kept
            place = (last.step, last.seconds, last.tokens)
            values = {name: getattr(last, name) for name in ENDS}
        for name, value in values.items():
            yield Record(
                experiment, cell.target, cell.arm, cell.seed, cell.budget, *place, f"end_{name}",
                value, learning_rate=settings["learning_rate"],
            )  # fmt: skip


def _relevance(
    experiment: str, target: str, cells: Sequence[Cell], store: Store
) -> Iterator[Record]:
    """How every donor did on the sample of a target, and whether it was chosen."""
    key = next((cell.score for cell in cells if cell.score), None)
    if key is None:
        return
    facts = store.result(key)
    chosen, seconds = facts["chosen"], facts["seconds"]

    def record(donor: str, metric: str, value: Any) -> Record:
        place = ("score", -1, 1.0, 0, seconds, 0)
        return Record(experiment, target, *place, metric, value, donor=donor)

    for metric, name in RELEVANCE.items():
        yield record("base", metric, facts[f"base_{name}"])
    for one in facts["ranking"]:
        values = {metric: one[name] for metric, name in RELEVANCE.items()}
        values |= {"relevance_examples": one["examples"]}
        values |= {"chosen": float(one["digest"] in chosen)}
        yield from (record(one["name"], metric, value) for metric, value in values.items())


def _left_out(experiment: str, target: str, plan: Plan) -> list[Record]:
    """Donors that were trained on held-out rows of a target, with the share of them."""
    return [
        Record(experiment, target, "score", -1, 1.0, 0, 0.0, 0, LEFT_OUT, share, donor=donor)
        for donor, share in plan.left_out.get(target, {}).items()
    ]
