"""Make records again from runs, derived records from measured ones, and a report from records."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from mashup._report.material import EXPERIMENT, RECORDS, SCORES, is_comparison, read_folders
from mashup._report.study import COSTS, SCRATCH, RunRow
from mashup._report.summarise import measured
from mashup._report.write import report
from mashup._verify.checks import Check, compared_files, number_problems
from mashup.experiment.jobs import LAYOUT, Store, read_layout
from mashup.experiment.results import all_records
from mashup.experiment.run import JOBS
from mashup.experiment.settings import known_jobs
from mashup.results.comparison import ABOUT
from mashup.results.labels import Drawn, labels_needed
from mashup.results.parity import Parity, fair_parity, paper_parity, reads_test
from mashup.results.records import (
    ACCURACY,
    LABELS,
    NEEDED,
    OVER_FULL,
    OVER_TASKS,
    Record,
    consistent,
    data_of,
    pool_of,
)

_SLACK = 1e-6  # of sums in another order, and of counts that bfloat16 has rounded
_FIX = "run 'mashup report' to write it again; if that shows other numbers, records were changed"
#: What a number is called, and its value.
Numbers = dict[str, float | None]


def verify_report(folder: Path) -> Iterator[Check]:
    """The records, from the runs and from each other; then every file of the report.

    Raises:
        InputError: files that are missing or damaged.
    """
    with consistent(folder):
        records = read_folders([folder])[0].records
        yield from _run_checks(folder, records)
        yield from _record_checks(records)
    kept = folder if is_comparison(folder) else folder / "report"
    if not (kept / "index.html").exists():
        yield Check("report", str(kept), "not written yet", is_checked=False)
        return
    with tempfile.TemporaryDirectory(prefix="mashup-verify-") as room:
        copied = Path(room) / "folder"
        copied.mkdir()
        inputs = [name for name in (RECORDS, SCORES, ABOUT, EXPERIMENT) if (folder / name).exists()]
        for name in inputs:
            shutil.copyfile(folder / name, copied / name)
        yield from _report_checks(kept, report(copied).path, frozenset(inputs))


def _report_checks(kept: Path, made: Path, inputs: frozenset[str]) -> Iterator[Check]:
    """Text files and pictures; those that agree are one check for each kind."""
    counts: dict[str, int] = {}
    for check in compared_files(kept, made, inputs, _FIX, within=("tables", "figures")):
        if check.state == "agrees":
            kind = Path(check.where).suffix
            counts[kind] = counts.get(kind, 0) + 1
        else:
            yield check
    for kind, count in sorted(counts.items()):
        yield Check("report", f"*{kind}", f"{count} files, the same bytes")


# Records that follow from runs


def _run_checks(folder: Path, records: Sequence[Record]) -> Iterator[Check]:
    """Every record again, intervals too, from the jobs and what they kept of each example."""
    if not (folder / LAYOUT).exists():
        yield Check("runs", LAYOUT, "not there, from an earlier version", is_checked=False)
        return
    store = _store(folder)
    noted = _by_task(records)
    made = _by_task(all_records(read_layout(folder), store))
    for task, numbers in noted.items():
        again = made.get(task, {})
        problems = number_problems(numbers, again, f"{RECORDS}, {task}", _SLACK)
        if again and not problems:
            yield Check("runs", task, f"{len(again)} numbers, from what runs and scores kept")
        for problem in problems:
            yield Check("runs", task, f"{problem.found}, not {problem.expected}", problem)
        if left := len(numbers.keys() - again.keys()):
            found = f"{left} of {len(numbers)} numbers: their jobs are not in {store.root}"
            yield Check("runs", task, found, is_checked=False)


def _store(folder: Path) -> Store:
    """The jobs of a comparison, or of an experiment: where it says, else next to its records."""
    if is_comparison(folder):
        return Store(folder, JOBS)
    known = known_jobs(folder)
    return Store(Path(known) if known and Path(known).is_dir() else folder / JOBS)


def _by_task(records: Sequence[Record]) -> dict[str, Numbers]:
    """All numbers of records, by task and by what they are called."""
    found: dict[str, Numbers] = {}
    for record in records:
        named = record.to_json()
        numbers = {name: named.pop(name) for name in ("value", "low", "high", "seconds", "tokens")}
        words = ", ".join(f"{name} {one}" for name, one in named.items() if name != "experiment")
        found.setdefault(record.task, {}).update(
            {f"{words}, {name}": value for name, value in numbers.items() if value is not None}
        )
    return found


# Records that follow from other records


def _record_checks(records: Sequence[Record]) -> Iterator[Check]:
    """Total seconds, parity and gains of every target, computed again."""
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(record)
    runs = {task: measured(_of_results(own)) for task, own in by_task.items()}
    sizes = _Sizes.of(by_task, runs)
    for task, own in by_task.items():
        parts = (
            _of_runs(runs[task]),
            _of_arms(_of_results(own), runs[task]),
            sizes.numbers(task, own),
        )
        noted = {name: value for part, _ in parts for name, value in part.items()}
        made = {name: value for _, part in parts for name, value in part.items()}
        problems = number_problems(noted, made, f"{RECORDS}, {task}", _SLACK)
        if made and not problems:
            yield Check("records", task, f"{len(made)} derived numbers")
        for problem in problems:
            yield Check("records", task, f"{problem.found}, not {problem.expected}", problem)


def _of_results(records: Sequence[Record]) -> list[Record]:
    """Records of what arms reached, without those of learning rates and of sources."""
    return [one for one in records if one.learning_rate is None and one.donor is None]


def _of_runs(runs: Sequence[RunRow]) -> tuple[Numbers, Numbers]:
    """Seconds and parity of each run: as recorded, and again from its curve and its costs."""
    noted: Numbers = {}
    made: Numbers = {}
    scratches = {run.seed: run for run in runs if run.arm == SCRATCH and run.budget == 1.0}
    for run in runs:
        values: Numbers = {"total_seconds": sum(run.seconds(cost) for cost in COSTS)}
        if run.budget == 1.0 and run.seed in scratches:
            values |= _parities(run, scratches[run.seed])
        for name, value in values.items():
            if name in run.values:
                key = f"{run.arm}, seed {run.seed}, budget {run.budget:g}, {name}"
                noted[key], made[key] = run.values[name], value
    return noted, made


def _parities(run: RunRow, scratch: RunRow) -> Numbers:
    arguments = run.points, scratch.points, run.overhead, scratch.overhead
    rules: dict[str, Parity] = {"fair": fair_parity(*arguments)}
    if reads_test(run.points) and reads_test(scratch.points):
        rules["paper"] = paper_parity(*arguments)
    names = ("steps", "seconds", "scratch_steps", "scratch_seconds")
    return {f"{rule}_parity_{n}": getattr(one, n) for rule, one in rules.items() for n in names}


def _of_arms(records: Sequence[Record], runs: Sequence[RunRow]) -> tuple[Numbers, Numbers]:
    """Gains of arms on test: as recorded, and again from the ends of their runs.

    The interval needs the values of each example, which records do not hold; it must only hold
    the value.
    """
    noted: Numbers = {}
    made: Numbers = {}
    pools: dict[tuple[str, float], list[RunRow]] = {}
    for run in runs:
        for name in dict.fromkeys((run.arm, pool_of(run.arm))):
            pools.setdefault((name, run.budget), []).append(run)
    for record in records:
        for metric in ("loss", "accuracy"):
            start = f"test_{metric}_gain"
            mine = pools.get((record.arm, record.budget))
            other = _other(record.metric.removeprefix(start), record.budget)
            if mine and record.metric.startswith(start) and other in pools:
                key = f"{record.arm}, budget {record.budget:g}, {record.metric}"
                noted[key], made[key] = record.value, _gain(mine, pools[other], metric)
    return noted, made


def _other(suffix: str, budget: float) -> tuple[str, float]:
    """The arm and the budget that a gain is over, from the end of its metric's name."""
    if suffix in ("", OVER_FULL):
        return SCRATCH, 1.0 if suffix else budget
    return suffix.removeprefix("_over_"), budget


def _gain(arm: Sequence[RunRow], other: Sequence[RunRow], metric: str) -> float | None:
    """The mean over the seeds that both have of the difference of the means over draws."""
    mine, theirs = _by_seed(arm, metric), _by_seed(other, metric)
    shared = [seed for seed in mine if seed in theirs]
    return fmean(mine[seed] - theirs[seed] for seed in shared) if shared else None


def _by_seed(runs: Sequence[RunRow], metric: str) -> Mapping[int, float]:
    seeds: dict[int, list[float]] = {}
    for run in runs:
        seeds.setdefault(run.seed, []).append(getattr(run, metric))
    return {seed: fmean(values) for seed, values in seeds.items()}


@dataclass(frozen=True)
class _Sizes:
    """Accuracies of tasks with several numbers of labels.

    Attributes:
        labels: number of labels by target.
        known: accuracy by data, number of labels and arm; data ``*`` is the mean over all.
    """

    labels: Mapping[str, int]
    known: Mapping[tuple[str, int, str], float]

    @classmethod
    def of(
        cls, by_task: Mapping[str, Sequence[Record]], runs: Mapping[str, Sequence[RunRow]]
    ) -> _Sizes:
        """From the records of all targets and their runs."""
        labels = {
            task: int(one.value or 0)
            for task, records in by_task.items()
            for one in records
            if one.metric == LABELS
        }
        known: dict[tuple[str, int, str], float] = {}
        for task in labels:
            pools: dict[str, list[RunRow]] = {}
            for run in runs[task]:
                if run.budget == 1.0:
                    pools.setdefault(pool_of(run.arm), []).append(run)
            for arm, pool in pools.items():
                key = data_of(task), labels[task], arm
                known[key] = fmean(_by_seed(pool, "accuracy").values())
        counts = Counter(data for data, _ in {key[:2] for key in known})
        several = [data for data, count in counts.items() if count > 1]
        for size, arm in {key[1:] for key in known}:
            each = [known.get((data, size, arm)) for data in several]
            values = [value for value in each if value is not None]
            if len(several) > 1 and len(values) == len(several):
                known[OVER_TASKS, size, arm] = fmean(values)
        return cls(labels, known)

    def numbers(self, task: str, records: Sequence[Record]) -> tuple[Numbers, Numbers]:
        """Accuracy and needed labels of each arm, as recorded and again."""
        noted: Numbers = {}
        made: Numbers = {}
        data, size = data_of(task), self.labels.get(task, 0)
        scratch = {
            count: _point(value)
            for (name, count, arm), value in self.known.items()
            if (name, arm) == (data, SCRATCH)
        }
        for record in records:
            level = self.known.get((data, size, record.arm))
            if level is None or not math.isfinite(level):
                continue
            key = f"{record.arm}, {record.metric}"
            if record.metric == ACCURACY:
                noted[key], made[key] = record.value, level
            elif record.metric == NEEDED and len(scratch) > 1:
                needed = labels_needed(scratch, _point(level)).value
                noted[key] = record.value
                made[key] = needed if math.isfinite(needed) else None
            elif (data, record.metric) == (OVER_TASKS, "test_accuracy_gain"):
                noted[key], made[key] = record.value, level - scratch[size].value
        return noted, made


def _point(value: float) -> Drawn:
    """A value without resamples."""
    return Drawn(value, np.array([value]))
