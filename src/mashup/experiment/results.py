"""From finished jobs to the results of arms, and from these to records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._train.record import Run
from mashup.experiment.jobs import Cell, Layout, Store, best_of
from mashup.results.curve import START_TEST, TEST, Point, read_values
from mashup.results.labels import Drawn, Key, draw_accuracies, labels_needed, mean_of
from mashup.results.parity import Parity, fair_parity, paper_parity, reads_test
from mashup.results.records import (
    ACCURACY,
    LEFT_OUT,
    NEEDED,
    OVER_FULL,
    OVER_TASKS,
    OWN_TASK,
    Record,
    commonest_record,
    data_of,
    labels_record,
    pool_of,
)
from mashup.results.statistics import Difference, paired_bootstrap

Values = dict[str, NDArray[np.float64]]
#: Values of a point of a curve, and of the end of every run of a grid of learning rates.
_METRICS = ("dev_loss", "dev_accuracy", "test_loss", "test_accuracy")
#: What a record of a donor's score is called, and what it is in a ranking.
_RELEVANCE = {
    f"relevance_{name}": name
    for name in ("loss", "accuracy", "form", "knowledge", "knowledge_error")
}


@dataclass(frozen=True)
class Arm:
    """One way to start.

    Attributes:
        name: what tables call it.
        parents: names of the checkpoints that are merged; none for scratch.
        pays_for_scoring: whether choosing the parents needed the ranking.
        trained: False for the merged init as it is.
        note: what a reader must know about it.
    """

    name: str
    parents: tuple[str, ...] = ()
    pays_for_scoring: bool = False
    trained: bool = True
    note: str = ""


@dataclass(frozen=True)
class ArmResult:
    """One arm with one seed and budget.

    Attributes:
        run: the run that was kept (the best learning rate by dev loss).
        overhead: seconds of scoring, merging and learning-rate search.
    """

    arm: Arm
    seed: int
    budget: float
    run: Run
    overhead: dict[str, float]

    @property
    def curve(self) -> tuple[Point, ...]:
        """Of an untrained arm, only its start; else up to the point whose weights were kept."""
        end = self.run.curve.index(self.run.kept) if self.arm.trained else 0
        return self.run.curve[: end + 1]

    @property
    def seconds(self) -> float:
        """Of training, also of the steps after the point that was kept."""
        return self.run.last.seconds if self.arm.trained else 0.0

    @property
    def before(self) -> float:
        """Seconds before the first step."""
        return sum(self.overhead.values())

    @property
    def has_values(self) -> bool:
        """Whether per-example values are there; runs of old versions have none of step 0."""
        return self._values.exists()

    @property
    def _values(self) -> Path:
        return self.run.path / (TEST if self.arm.trained else START_TEST)

    def test_values(self) -> dict[str, list[float]]:
        """Per-example test losses, tokens and hits at the last point of the curve."""
        return read_values(self._values)


def all_records(layout: Layout, store: Store) -> tuple[Record, ...]:
    """Records of all cells whose jobs are done, target by target; none without scratch.

    Besides those of :func:`make_records`: ``end_...`` of every run with its ``learning_rate`` (no
    value: it diverged); of every ``donor`` and of the base ``relevance_...`` on the sample, on how
    many examples, and whether it was ``chosen``; of every donor that was not used ``left_out``,
    the share of the held-out prompts that it was trained on, or ``left_out_own_task``, the share
    of the target's training prompts; of every target ``train_examples``; of tasks with several
    sizes ``test_accuracy_mean`` and ``scratch_labels`` by arm.

    Args:
        layout: what was run.
        store: where its jobs are.
    """
    name = layout.experiment
    records: list[Record] = []
    found: dict[str, list[ArmResult]] = {}
    for target in layout.targets:
        cells = done_cells(target, layout, store)
        if any(cell.arm == "scratch" for cell in cells):
            results = [one for cell in cells if (one := result_of(cell, store))]
            found[target] = results
            records += make_records(name, target, results)
            records += [one for cell in cells for one in _ends(name, cell, layout.rates, store)]
            records += _relevance(name, target, cells, store)
            records += _left_out(name, target, layout)
            records.append(commonest_record(name, target, layout.commonest[target]))
            records.append(labels_record(name, target, layout.labels[target]))
    return (*records, *size_records(name, found, layout.labels))


def done_cells(target: str, layout: Layout, store: Store) -> list[Cell]:
    """The cells of a target all of whose jobs are done."""
    cells = [cell for cell in layout.cells if cell.target == target]
    done = {key: store.has(key) for key in {key for cell in cells for key in cell.keys}}
    return [cell for cell in cells if all(done[key] for key in cell.keys)]


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
        "merge": init.get("seconds", 0.0) + best.get("merge_seconds", 0.0) + best["check_seconds"],
        "search": search,
    }
    run = Run.open(store.place(best["path"]))
    arm = arm_of(cell, store)
    if "won" in best:
        arm = replace(arm, parents=tuple(best["won"]["parents"]), note=best["won"]["sentence"])
    return ArmResult(arm, cell.seed, cell.budget, run, overhead)


def arm_of(cell: Cell, store: Store) -> Arm:
    """The arm of a cell whose start has been made."""
    init = store.result(cell.init) if cell.init else {}
    note = init.get("note", "")
    if init and not init["path"]:
        note = "nothing beat the base: same as scratch" if cell.trained else "the base itself"
    parents = tuple(init.get("parents", ()))
    return Arm(cell.arm, parents, bool(cell.score), cell.trained, note)


def _search(facts: Sequence[dict[str, Any]]) -> float:
    """Seconds of all runs but the one that is taken, and those that found its learning rate."""
    best = best_of(facts)
    found = best.get("search_seconds", 0.0) if best else 0.0
    return found + sum(_seconds(one) for one in facts if one is not best)


def _seconds(facts: dict[str, float]) -> float:
    return facts["train_seconds"] + facts.get("check_seconds", 0.0)


def _ends(
    experiment: str, cell: Cell, rates: Mapping[str, float], store: Store
) -> Iterator[Record]:
    """Where every run of a cell ended."""
    for key in cell.runs if cell.trained else ():
        facts, rate = store.result(key), rates[key]
        place, values = (0, facts["train_seconds"], 0), dict.fromkeys(_METRICS)
        if not facts["diverged"]:
            run = Run.open(store.place(facts["path"]))
            rate, last = run.record["config"]["settings"]["learning_rate"], run.kept
            place = (last.step, last.seconds, last.tokens)
            values = {name: getattr(last, name) for name in _METRICS}
        for name, value in values.items():
            yield Record(
                experiment, cell.target, cell.arm, cell.seed, cell.budget, *place, f"end_{name}",
                value, learning_rate=rate,
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

    for metric, name in _RELEVANCE.items():  # of free text there is no knowledge
        if f"base_{name}" in facts:
            yield record("base", metric, facts[f"base_{name}"])
    for one in facts["ranking"]:
        values = {metric: one[name] for metric, name in _RELEVANCE.items() if name in one}
        values |= {"relevance_examples": one["examples"]}
        values |= {"chosen": float(one["digest"] in chosen)}
        yield from (record(one["name"], metric, value) for metric, value in values.items())


def _left_out(experiment: str, target: str, layout: Layout) -> list[Record]:
    """Sources that were not used, with the share of the target's prompts they were trained on."""
    return [
        Record(experiment, target, "score", -1, 1.0, 0, 0.0, 0, metric, share, donor=donor)
        for donor, why in layout.left_out.get(target, {}).items()
        for metric, share in ((LEFT_OUT, why.held_out), (OWN_TASK, why.own_task))
        if share
    ]


def make_records(
    experiment: str,
    task: str,
    results: Sequence[ArmResult],
) -> tuple[Record, ...]:
    """Curves, costs, differences and parity of the arms of one target, in a stable order.

    Differences of an arm that is drawn several times are those of the mean of its draws. Runs of
    a smaller budget are compared with scratch at that budget, and with scratch's whole run.

    Args:
        experiment, task: names.
        results: of all arms, seeds and budgets.
    """
    records: list[Record] = []
    for result in results:
        records += _curve_records(experiment, task, result)
        records += _cost_records(experiment, task, result)
    full = _pools(results, 1.0).get("scratch", [])
    for budget in (1.0, *sorted({result.budget for result in results} - {1.0})):
        pools = _pools(results, budget)
        for arm, mine in pools.items():
            if arm != "scratch" and "scratch" in pools:
                records += _difference_records(experiment, task, arm, mine, pools["scratch"])
            if arm not in ("scratch", "mashup") and "mashup" in pools:
                records += _difference_records(
                    experiment, task, "mashup", pools["mashup"], mine, f"_over_{arm}"
                )
            if full and budget != 1.0:
                records += _difference_records(experiment, task, arm, mine, full, OVER_FULL)
    for result in results:
        scratch = _result(results, "scratch", result.seed)
        if result.budget == 1.0 and scratch:
            records += _parity_records(experiment, task, result, scratch)
    return tuple(records)


def _pools(results: Sequence[ArmResult], budget: float) -> dict[str, list[ArmResult]]:
    """Results with test values at one budget, by arm; draws also by the arm that was drawn."""
    pools: dict[str, list[ArmResult]] = {}
    for result in results:
        if result.has_values and result.budget == budget:
            for name in dict.fromkeys((result.arm.name, pool_of(result.arm.name))):
                pools.setdefault(name, []).append(result)
    return pools


def _result(results: Sequence[ArmResult], arm: str, seed: int) -> ArmResult | None:
    """The result of an arm and seed at full budget; None when every rate diverged."""
    found = (r for r in results if (r.arm.name, r.seed, r.budget) == (arm, seed, 1.0))
    return next(found, None)


def _record(
    experiment: str, task: str, result: ArmResult, point: Point, metric: str, value: float | None
) -> Record:
    return Record(
        experiment, task, result.arm.name, result.seed, result.budget,
        point.step, point.seconds, point.tokens, metric, value,
    )  # fmt: skip


def _curve_records(experiment: str, task: str, result: ArmResult) -> list[Record]:
    return [
        _record(experiment, task, result, point, metric, getattr(point, metric))
        for point in result.curve
        for metric in _METRICS
        if getattr(point, metric) is not None
    ]


def _cost_records(experiment: str, task: str, result: ArmResult) -> list[Record]:
    last = result.curve[-1]
    costs = {f"{name}_seconds": value for name, value in result.overhead.items()}
    costs["trainable_parameters"] = result.run.record["trainable_parameters"]
    if result.has_values:
        costs["test_examples"] = len(result.test_values()["tokens"])
    costs["learning_rate"] = result.run.record["config"]["settings"]["learning_rate"]
    costs |= {"train_seconds": result.seconds, "total_seconds": result.seconds + result.before}
    return [_record(experiment, task, result, last, name, value) for name, value in costs.items()]


def _difference_records(
    experiment: str,
    task: str,
    arm: str,
    results: Sequence[ArmResult],
    others: Sequence[ArmResult],
    suffix: str = "",
) -> list[Record]:
    """One arm minus another on the test examples, over all seeds that both have.

    Args:
        experiment, task: names.
        arm: name of the first.
        results, others: of all seeds and draws of each, at one budget.
        suffix: of the metrics: what the other is, if it is not scratch at this budget.
    """
    mine, theirs = _by_seed(results), _by_seed(others)
    seeds = [seed for seed in mine if seed in theirs]
    if not seeds:
        return []  # every run of one of them diverged with the seeds of the other
    for_arm, for_other = [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    loss = _difference(for_arm, for_other, "losses", for_arm[0]["tokens"])
    accuracy = _difference(for_arm, for_other, "correct", None)
    last = results[-1].curve[-1]
    named = {f"test_loss_gain{suffix}": loss, f"test_accuracy_gain{suffix}": accuracy}
    return [
        Record(
            experiment, task, arm, -1, results[0].budget, last.step, last.seconds, last.tokens,
            metric, d.value, d.low, d.high,
        )
        for metric, d in named.items()
    ]  # fmt: skip


def _by_seed(results: Sequence[ArmResult]) -> dict[int, Values]:
    """Per-example test values by seed, the mean over draws."""
    found: dict[int, list[dict[str, list[float]]]] = {}
    for result in results:
        found.setdefault(result.seed, []).append(result.test_values())
    return {
        seed: {key: np.mean([draw[key] for draw in draws], axis=0) for key in _shared(draws)}
        for seed, draws in found.items()
    }


def _shared(draws: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names that all draws have: runs of earlier versions tell no prompts."""
    return [key for key in draws[0] if all(key in draw for draw in draws)]


def _difference(
    arm: Sequence[Values], scratch: Sequence[Values], key: str, weights: Any
) -> Difference:
    """Of examples that share a prompt the sum is drawn: they are not independent."""
    mine, other = [values[key] for values in arm], [values[key] for values in scratch]
    if "prompts" in arm[0]:
        prompts = arm[0]["prompts"].astype(int)
        weights = np.bincount(prompts, weights)
        mine = [np.bincount(prompts, one).astype(float) for one in mine]
        other = [np.bincount(prompts, one).astype(float) for one in other]
    return paired_bootstrap(mine, other, weights)


def _parity_records(
    experiment: str, task: str, result: ArmResult, scratch: ArmResult
) -> list[Record]:
    arguments = (result.curve, scratch.curve, result.before, scratch.before)
    rules: dict[str, Parity] = {"fair": fair_parity(*arguments)}
    if reads_test(result.curve) and reads_test(scratch.curve):
        rules["paper"] = paper_parity(*arguments)
    values: dict[str, float | None] = {}
    for rule, parity in rules.items():
        values[f"{rule}_parity_steps"] = parity.steps
        values[f"{rule}_parity_seconds"] = parity.seconds
        values[f"{rule}_parity_scratch_steps"] = parity.scratch_steps
        values[f"{rule}_parity_scratch_seconds"] = parity.scratch_seconds
    last = result.curve[-1]
    return [_record(experiment, task, result, last, name, value) for name, value in values.items()]


# -- several sizes of one task


def size_records(
    experiment: str, results: Mapping[str, Sequence[ArmResult]], labels: Mapping[str, int]
) -> list[Record]:
    """Accuracy by number of labels, and how many labels scratch needs for it.

    For every task with several sizes, and for their mean, whose task is ``*@SIZE``. Empty where no
    task has several.

    Args:
        experiment: name.
        results: of all arms, seeds and budgets, by target.
        labels: number of training examples by target.
    """
    records: list[Record] = []
    tasks: list[dict[Key, Drawn]] = []
    for data in dict.fromkeys(map(data_of, results)):
        sizes = {labels[task]: task for task in results if data_of(task) == data}
        if len(sizes) > 1:
            hits, prompts = _hits({size: results[task] for size, task in sizes.items()})
            tasks.append(draw_accuracies(hits, prompts, seed=len(tasks)))
            records += _drawn_records(experiment, sizes, tasks[-1])
    if len(tasks) > 1:
        means = mean_of(tasks)
        names = {size: f"{OVER_TASKS}@{size}" for _, size in means}
        records += [labels_record(experiment, task, size) for size, task in names.items()]
        records += _drawn_records(experiment, names, means)
        for (arm, size), one in means.items():
            scratch = means.get(("scratch", size))
            if scratch and arm != "scratch":
                gain = Drawn(one.value - scratch.value, one.draws - scratch.draws).interval
                records.append(
                    _drawn_record(experiment, names[size], arm, "test_accuracy_gain", gain)
                )
    return records


def _hits(results: Mapping[int, Sequence[ArmResult]]) -> tuple[dict[Key, Any], Any]:
    """Right answers ``(seeds, examples)`` by arm and size, and the numbers of the prompts."""
    hits: dict[Key, Any] = {}
    prompts = None
    for size, found in results.items():
        for arm, pool in _pools(found, 1.0).items():
            if arm == pool_of(arm):
                values = list(_by_seed(pool).values())
                hits[arm, size] = np.stack([one["correct"] for one in values])
                prompts = values[0].get("prompts")
    return hits, prompts


def _drawn_records(
    experiment: str, tasks: Mapping[int, str], drawn: Mapping[Key, Drawn]
) -> Iterator[Record]:
    scratch = {size: one for (arm, size), one in drawn.items() if arm == "scratch"}
    for (arm, size), one in drawn.items():
        yield _drawn_record(experiment, tasks[size], arm, ACCURACY, one.interval)
        if arm != "scratch" and len(scratch) > 1:
            needed = labels_needed(scratch, one)
            yield _drawn_record(experiment, tasks[size], arm, NEEDED, needed)


def _drawn_record(experiment: str, task: str, arm: str, metric: str, found: Difference) -> Record:
    """A value with its interval; what is infinite has no number in a record."""
    value, low, high = (
        None if np.isinf(end) else end for end in (found.value, found.low, found.high)
    )
    return Record(experiment, task, arm, -1, 1.0, 0, 0.0, 0, metric, value, low, high)
