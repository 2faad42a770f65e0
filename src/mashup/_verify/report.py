"""Make a report again from its records, and derived records again from the measured ones."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from mashup._report.material import EXPERIMENT, RECORDS, SCORES, is_comparison, read_folders
from mashup._report.study import COSTS, SCRATCH, RunRow
from mashup._report.summarise import measured
from mashup._report.write import report
from mashup._verify.checks import Check, compared_files, number_problems
from mashup.results.comparison import ABOUT
from mashup.results.parity import Parity, fair_parity, paper_parity, reads_test
from mashup.results.records import Record, consistent, pool_of

_SLACK = 1e-6  # of sums in another order, and of counts that bfloat16 has rounded
_FIX = "run 'mashup report' to write it again; if that shows other numbers, records were changed"
_GAIN = "test_{}_gain"
#: What a number is called, and its value.
Numbers = dict[str, float | None]


def verify_report(folder: Path) -> Iterator[Check]:
    """The records, then every file of the report.

    Raises:
        InputError: files that are missing or damaged.
    """
    with consistent(folder):
        yield from _record_checks(folder)
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


# Records that follow from other records


def _record_checks(folder: Path) -> Iterator[Check]:
    """Total seconds, parity and gains of every target, computed again."""
    by_task: dict[str, list[Record]] = {}
    for record in read_folders([folder])[0].records:
        by_task.setdefault(record.task, []).append(record)
    for task, records in by_task.items():
        own = [one for one in records if one.learning_rate is None and one.donor is None]
        runs = measured(own)
        noted, made = _of_runs(runs)
        gains, again = _of_arms(own, runs)
        problems = number_problems(noted | gains, made | again, f"{RECORDS}, {task}", _SLACK)
        if not problems:
            yield Check("records", task, f"{len(made) + len(again)} derived numbers")
        for problem in problems:
            yield Check("records", task, f"{problem.found}, not {problem.expected}", problem)


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
    pools: dict[str, list[RunRow]] = {}
    for run in runs:
        for name in dict.fromkeys((run.arm, pool_of(run.arm))) if run.budget == 1.0 else ():
            pools.setdefault(name, []).append(run)
    for record in records:
        for metric in ("loss", "accuracy"):
            start = _GAIN.format(metric)
            over = (
                SCRATCH if record.metric == start else record.metric.removeprefix(f"{start}_over_")
            )
            if over == record.metric or over not in pools or record.arm not in pools:
                continue
            key = f"{record.arm} over {over}, {record.metric}"
            noted[key] = record.value
            made[key] = _gain(pools[record.arm], pools[over], metric)
    return noted, made


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
