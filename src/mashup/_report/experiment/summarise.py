"""From the records of an experiment to the values that its report shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mashup._report.experiment.material import Folder
from mashup._report.experiment.summary import Contrast, End, Relevance, Study, Target
from mashup._report.experiment.widen import over_seeds
from mashup._report.material import measured
from mashup._report.summarise import arm_row, commonest_of, gain_of, ladder, overs
from mashup._report.summary import MASHUP, SCRATCH
from mashup.results.records import LEFT_OUT, Record, pool_of
from mashup.results.significance import holm, mean_difference, wilcoxon_p
from mashup.results.statistics import Difference

_BASE = "base"


def make_study(folder: Folder) -> Study:
    """Everything that is shown of one experiment."""
    by_task: dict[str, list[Record]] = {}
    for record in folder.records:
        by_task.setdefault(record.task, []).append(record)
    targets = tuple(_target(task, records) for task, records in by_task.items())
    base = str(folder.about.get("base", ""))
    return Study(folder.records[0].experiment, base, targets, _contrasts(targets), folder.about)


def _target(task: str, records: Sequence[Record]) -> Target:
    of_runs = [one for one in records if one.learning_rate is None and one.donor is None]
    runs = [replace(run, arm=pool_of(run.arm)) for run in measured(of_runs)]
    full = [run for run in runs if run.budget == 1.0]
    arms = tuple(arm_row(name, full, records) for name in dict.fromkeys(run.arm for run in full))
    made = Target(
        task, arms, overs(records, "accuracy"), overs(records, "loss"), ladder(runs),
        _ends(records), _relevance(records), _examples(records), commonest_of(records),
        left_out=_left_out(records),
    )  # fmt: skip
    return over_seeds(made)


def _examples(records: Iterable[Record]) -> int:
    return int(next((r.value for r in records if r.metric == "test_examples" and r.value), 0))


def _ends(records: Iterable[Record]) -> tuple[End, ...]:
    """Whole runs of every learning rate; one row each."""
    found: dict[tuple[str, int, float], dict[str, float | None]] = {}
    for one in records:
        if one.learning_rate is not None and one.budget == 1.0:
            row = found.setdefault((one.arm, one.seed, one.learning_rate), {})
            row[one.metric.removeprefix("end_")] = one.value
    return tuple(
        End(
            pool_of(arm), seed, rate, values.get("dev_loss"), values.get("test_accuracy"),
            values.get("test_loss"),
        )
        for (arm, seed, rate), values in found.items()
    )  # fmt: skip


def _relevance(records: Sequence[Record]) -> tuple[Relevance, ...]:
    found: dict[str, dict[str, float]] = {}
    for one in records:
        if one.donor is not None and one.value is not None and not one.metric.startswith(LEFT_OUT):
            found.setdefault(one.donor, {})[one.metric] = one.value
    base = found.pop(_BASE, {}).get("relevance_loss", float("nan"))
    return tuple(
        Relevance(
            donor, base - values["relevance_loss"], bool(values["chosen"]),
            gain_of(f"single-{donor}", "test_accuracy_gain", records),
        )
        for donor, values in found.items()
    )  # fmt: skip


def _left_out(records: Iterable[Record]) -> dict[str, float]:
    found = (one for one in records if one.metric == LEFT_OUT)
    return {one.donor: one.value for one in found if one.donor and one.value}


def _contrasts(targets: Sequence[Target]) -> tuple[Contrast, ...]:
    """Every arm against scratch, then mashup against every control; one family for Holm."""
    names = dict.fromkeys(arm.name for target in targets for arm in target.arms)
    made = [_against_scratch(name, targets) for name in names if name != SCRATCH]
    made += [_over(name, targets) for name in names if name not in (SCRATCH, MASHUP)]
    known = [one for one in made if one]
    accuracy, loss = holm([one.p for one in known]), holm([one.p_loss for one in known])
    return tuple(
        replace(one, holm=a, holm_loss=b) for one, a, b in zip(known, accuracy, loss, strict=True)
    )


def _against_scratch(name: str, targets: Sequence[Target]) -> Contrast | None:
    rows = {target.task: target.arm(name) for target in targets}
    gains = {task: row.accuracy_gain for task, row in rows.items() if row and row.accuracy_gain}
    losses = {task: row.loss_gain for task, row in rows.items() if row and row.loss_gain}
    return _contrast(name, SCRATCH, gains, losses, targets)


def _over(name: str, targets: Sequence[Target]) -> Contrast | None:
    gains = {one.task: one.over[name] for one in targets if name in one.over}
    losses = {one.task: one.over_loss[name] for one in targets if name in one.over_loss}
    return _contrast(MASHUP, name, gains, losses, targets)


def _contrast(
    arm: str,
    other: str,
    gains: Mapping[str, Difference],
    losses: Mapping[str, Difference],
    targets: Sequence[Target],
) -> Contrast | None:
    if not gains or not losses:
        return None
    on = [target for target in targets if target.task in gains]
    return Contrast(
        arm, other, gains, losses, mean_difference(list(gains.values())),
        mean_difference(list(losses.values())),
        sum(target.examples for target in on),
        seeds=max(target.seeds(arm, other) for target in on),
        is_lone=any(target.is_lone(arm, other) for target in on),
        p=wilcoxon_p([one.value for one in gains.values()]),
        p_loss=wilcoxon_p([one.value for one in losses.values()]),
    )  # fmt: skip
