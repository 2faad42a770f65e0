"""Compare: was it worth it? An experiment with one target and the checkpoints of a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from mashup._score.racing import finalists_for
from mashup._score.score import score as score_library
from mashup._select import Selection
from mashup._select import select as select_from
from mashup._train.trainer import steps_of
from mashup._train.work import run_tokens
from mashup.checkpoint import check_base
from mashup.errors import DivergedError, InputError, Problem
from mashup.experiment.arms import make_plan
from mashup.experiment.jobs import Inputs, Layout, Plan, Store, write_layout
from mashup.experiment.results import Arm, ArmResult, all_records, arm_of, result_of
from mashup.experiment.run import RECORDS, made_now
from mashup.experiment.settings import (
    Choosing,
    Experiment,
    TaskData,
    check_arms,
    check_merging,
    check_values,
)
from mashup.experiment.work import do
from mashup.experiment.worker import Given, Worker
from mashup.faults import all_resolved, given_of
from mashup.files import digest_of
from mashup.library import Library, scan
from mashup.library.leakage import usable_sources
from mashup.library.sources import fetch_fitting
from mashup.model import AnyBase, load_base, name_of
from mashup.outputs import make_folder, only_one, refuse_existing, to_json, write_text
from mashup.progress import SILENT, Progress
from mashup.results.comparison import ABOUT, read_about
from mashup.results.records import Record, write_records
from mashup.settings import (
    USUAL_ARMS,
    ArmName,
    CriterionName,
    MergeSettings,
    ScoreSettings,
    SelectSettings,
    StrategyName,
    TrainSettings,
)
from mashup.tables import Shown, as_frame
from mashup.task import Task, commonest_accuracy, load_task

SCORES, JOBS = "scores.json", "jobs"
#: Jobs in their order: every merge first, so that an impossible one is reported early.
_ORDER = ("score", "init", "train")


class Choice(TypedDict, total=False):
    """Shorthands of :func:`compare` for settings of scoring and choosing."""

    samples: int
    criterion: CriterionName
    strategy: StrategyName
    k: int
    diversity: float


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """A finished comparison, on disk with its pages.

    Attributes:
        path: folder with ``records.jsonl``, ``scores.json``, ``runs/``, tables and pages.
        selection: what was chosen, and the scores behind it.
        results: one for each arm, seed and budget.
        records: all measured values.
    """

    path: Path
    selection: Selection
    results: tuple[ArmResult, ...]
    records: tuple[Record, ...]

    def to_pandas(self) -> Any:
        """A ``DataFrame`` with a row for each measured value, as in ``records.jsonl``."""
        return as_frame([asdict(record) for record in self.records])

    @property
    def _title(self) -> str:
        return f"Comparison {self.path}: {self.selection.sentence}"

    def _shown(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": one.arm.name,
                "seed": one.seed,
                "budget": one.budget,
                "test_accuracy": one.curve[-1].test_accuracy,
                "test_loss": one.curve[-1].test_loss,
                "seconds": one.curve[-1].seconds + one.before,
            }
            for one in self.results
        ]

    @property
    def page(self) -> Path:
        return self.path / "index.html"

    @property
    def table(self) -> Path:
        return self.path / "table.md"


def compare(
    library: Library | str | Path,
    base: AnyBase,
    task: Any,
    *,
    output: str | Path,
    arms: Sequence[ArmName] = USUAL_ARMS,
    seeds: Sequence[int] = (42,),
    learning_rates: Sequence[float] = (),
    budgets: Sequence[float] = (1.0,),
    score: ScoreSettings | None = None,
    select: SelectSettings | None = None,
    merge_options: MergeSettings | Mapping[str, Any] | None = None,
    settings: TrainSettings | None = None,
    accept_base: bool = False,
    strict: bool = False,
    progress: Progress = SILENT,
    **choosing: Unpack[Choice],
) -> Comparison:
    """Compare a warm start with scratch and with controls, and write records and pages.

    The same call again continues one that was killed.

    Args:
        library: as for :func:`mashup.score`.
        base: as for :func:`mashup.score`.
        task: as for :func:`mashup.score`.
        output: the folder to make.
        arms: which arms; scratch is always run. Arms whose donors are trained by an experiment
            (``format-only``, ``each-single``) are not possible here.
        seeds: of the training runs; each arm runs with each.
        learning_rates: a grid. Each arm takes its own best by dev loss and is charged for the
            search. By default the one of ``settings``.
        budgets: shares of the full number of steps that scratch and mashup are run with as
            well, each with its own schedule (the ladder); 1.0 is always run.
        score: how checkpoints are scored.
        select: how they are chosen.
        merge_options: ``method``, its numbers, ``weights``, ``rank``, ``factors`` of
            :func:`mashup.merge`, as settings or as a mapping. Arms whose number of parents the
            method cannot take are merged by ``linear``.
        settings: of training.
        accept_base: as for :func:`mashup.score`.
        strict: as for :func:`mashup.score`.
        progress: where to show bars.
        choosing: shorthands for settings of ``score`` and ``select``: ``samples``, ``criterion``,
            ``strategy``, ``k``, ``diversity``.

    Raises:
        UsageError: settings that cannot be.
        InputError: as the steps do; or every checkpoint was trained on the held-out rows; or
            ``output`` holds another comparison.
        DivergedError: every run of an arm diverged.
    """
    output, settings = Path(output).absolute(), settings or TrainSettings(keep="best")
    check_values(seeds, budgets, learning_rates)
    check_arms(arms, settings)
    choose = _choosing(score, select, choosing)
    merge = check_merging(given_of(merge_options))
    refuse_existing(output, ABOUT)
    task = task if isinstance(task, Task) else load_task(task)
    library = library if isinstance(library, Library) else scan(library)
    if isinstance(base, str | Path):
        check_base(base, (checkpoint.base for checkpoint in library.checkpoints))
    with only_one(output):
        fetch_fitting(library, name_of(base), accept_base=accept_base, progress=progress)
        kept, left_out = usable_sources(library, task, is_full=settings.is_full)
        base = load_base(base)
        run_tokens(base, task, settings)  # unusable rows are reported before any work
        scores = score_library(
            kept, base, task, choose.cut_to(ScoreSettings), seed=task.seed,
            finalists=finalists_for(choose.k), max_length=settings.max_length,
            accept_base=accept_base, strict=strict, progress=progress,
        )  # fmt: skip
        for problem in left_out:
            progress.say(f"left out: {problem.where}: {problem.what}, {problem.found}")
        scores = replace(scores, left_out=(*scores.left_out, *left_out))
        selection = select_from(scores, choose.cut_to(SelectSettings))
        progress.say(selection.sentence)
        experiment = Experiment(
            name="comparison", base=base.name, tasks={"target": TaskData(dataset=task.name)},
            library=library.source or str(library.root), split_seed=task.seed, train=settings,
            learning_rates=tuple(learning_rates) or (settings.learning_rate,), seeds=tuple(seeds),
            control_seeds=tuple(seeds), arms=tuple(dict.fromkeys(("scratch", *arms))),
            budgets=tuple(dict.fromkeys(budgets)), choose=choose, merge=merge,
        )  # fmt: skip
        named = {"name": output.name, "tasks": {task.name: experiment.tasks["target"]}}
        experiment = experiment.model_copy(update=named)
        return _run(experiment, Given(base, task, selection), output, progress)


def _choosing(
    score: ScoreSettings | None, select: SelectSettings | None, given: Mapping[str, Any]
) -> Choosing:
    """Settings objects and shorthands as one.

    Raises:
        UsageError: unknown names, impossible values, or a name that stands in both.
    """
    kinds = ((ScoreSettings, score), (SelectSettings, select))
    parts = all_resolved(kinds, given, "compare")
    return Choosing(**{name: value for part in parts for name, value in part})


def _run(experiment: Experiment, given: Given, output: Path, progress: Progress) -> Comparison:
    """Every job of the experiment, then records and pages."""
    inputs, task = _inputs(experiment, given), given.task
    plan = make_plan(experiment, inputs, keeps_weights=True)
    about = _about(experiment, given) | {"identity": _identity(experiment, inputs, given)}
    about |= {"made": made_now(given.base.device)}
    begin(output, about)
    write_text(output / SCORES, to_json(given.selection.scores.rows()))
    worker = Worker(experiment, Store(output, JOBS), progress, given)
    for kind in _ORDER:
        for job in [job for job in plan.jobs.values() if job.kind == kind]:
            if kind == "train" and not worker.store.is_done(job):
                progress.say(job.name)
            do(worker, job)
            if kind == "train":
                _refuse_diverged(plan, worker.store, job.key)
        if kind == "init":
            about |= _planned(plan, worker.store, experiment)
            write_text(output / ABOUT, to_json(about))
    results = tuple(one for cell in plan.cells if (one := result_of(cell, worker.store)))
    about |= {"arms": _described([(one.arm, one.seed) for one in results if one.budget == 1.0])}
    write_text(output / ABOUT, to_json(about))  # by now it is known what has won a race
    facts = {task.name: commonest_accuracy(task)}, {task.name: len(task.train)}
    layout = Layout.of(experiment.name, plan, *facts)
    write_layout(output, layout)
    records = all_records(layout, worker.store)
    write_records(output / RECORDS, records)
    from mashup._report.write import write_report

    write_report(output)
    return Comparison(output, given.selection, results, records)


def _inputs(experiment: Experiment, given: Given) -> Inputs:
    """What jobs are keyed by; of the library, all that was scored or expected to be worse."""
    base, task, scores = given.base, given.task, given.selection.scores
    known = {score.digest for score in scores.ranking} | {*scores.sketches}
    key = " ".join([base.digest, str(base.dtype).removeprefix("torch."), *base.asked.values()])
    steps = steps_of(len(task.train), experiment.train)
    library = {digest: digest for digest in known}
    return Inputs(key, {task.name: task.digest}, {task.name: steps}, library)


def _about(experiment: Experiment, given: Given) -> dict[str, Any]:
    """Base, task, sample, choice and settings, as the report shows them."""
    task, scores, selection = given.task, given.selection.scores, given.selection
    merge = experiment.merge.model_dump(include=experiment.merge.model_fields_set)
    return {
        "version": 1,
        "base": given.base.about,
        "task": {"name": task.name, "digest": task.digest},
        "splits": {"train": len(task.train), "dev": len(task.dev), "test": len(task.test)},
        "sample": {"digest": scores.sample_digest, "examples": scores.examples},
        "sentence": selection.sentence,
        "left_out": [problem.to_json() for problem in scores.left_out],
        "leaks": list(scores.leaks),
        "unchanged": [checkpoint.name for checkpoint in scores.unchanged],
        "dropped": task.dropped,
        "left_out_rows": task.left_out | ({"too long": scores.long} if scores.long else {}),
        "criterion": scores.criterion,
        "strategy": scores.strategy,
        "reason": scores.reason,
        "forwards": scores.cost.forwards,
        "exhaustive_forwards": scores.cost.exhaustive,
        "chosen": [score.digest for score in selection.chosen],
        "settings": experiment.train.model_dump(),
        "seeds": list(experiment.seeds),
        "learning_rates": list(experiment.learning_rates),
        "budgets": list(experiment.budgets),
        "merge": merge,
    }


def _planned(plan: Plan, store: Store, experiment: Experiment) -> dict[str, Any]:
    """What each arm starts from, and the rank that all train."""
    arms = [(arm_of(cell, store), cell.seed) for cell in plan.cells if cell.budget == 1.0]
    full = experiment.train.is_full
    sizes = [store.result(k) for j in plan.jobs.values() for k in j.needs.get("size", ())]
    rank = next((one.get("rank") for one in sizes), None) or experiment.train.lora_r
    return {"arms": _described(arms), "rank": 0 if full else rank}


def _described(arms: Sequence[tuple[Arm, int]]) -> list[dict[str, Any]]:
    return [
        {"arm": arm.name, "seed": seed, "parents": list(arm.parents), "note": arm.note}
        for arm, seed in arms
    ]


def _refuse_diverged(plan: Plan, store: Store, key: str) -> None:
    """Stop when the job was the last of an arm's runs and all of them diverged."""
    for cell in plan.cells:
        if key not in cell.runs or not all(store.is_done(plan.jobs[run]) for run in cell.runs):
            continue
        facts = [store.result(run) for run in cell.runs]
        if all(one["diverged"] for one in facts):
            raise DivergedError(*(Problem(**p) for one in facts for p in one["problems"]))


# -- what a folder is for


def _identity(experiment: Experiment, inputs: Inputs, given: Given) -> dict[str, str]:
    """Digests of everything that decides the results, by what a user calls it."""
    of = experiment.model_dump(mode="json")
    task = given.task.name
    parts: dict[str, Any] = {
        "base": inputs.base,
        "data": (inputs.tasks[task], given.selection.scores.sample_digest),
        "checkpoints": sorted(inputs.library.values()),
        "settings of choosing": of["choose"],
        "settings of merging": of["merge"],
        "settings of training": of["train"],
        "learning rates": of["learning_rates"],
        "seeds": of["seeds"],
        "arms": of["arms"],
        "budgets": sorted(of["budgets"]),
    }
    return {name: digest_of(part)[:20] for name, part in parts.items()}


def begin(output: Path, about: dict[str, Any]) -> None:
    """Note what the folder is for.

    Raises:
        InputError: it is for another comparison.
    """
    known = read_about(output) if (output / ABOUT).exists() else about
    was, now = known.get("identity"), about["identity"]
    if was != now:
        fix = "choose another `output`, or give the settings of that comparison"
        found = "a comparison of an earlier version of mashup, which cannot be continued"
        if was:
            names = [name for name in now if was.get(name) != now[name]]
            found = f"a comparison with other {', '.join(names)}"
        raise InputError(Problem("output exists already", str(output), found, "this one", fix))
    make_folder(output)
    write_text(output / ABOUT, to_json(known))
