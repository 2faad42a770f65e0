"""Run a comparison: score once, then every arm with every seed and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup.compare.about import ABOUT, begin, describe, planned_arm
from mashup.compare.arms import make_arms
from mashup.compare.bench import Bench
from mashup.compare.leakage import leaking
from mashup.compare.records import Record, commonest_record, write_records
from mashup.compare.results import ArmResult, make_records
from mashup.errors import InputError, Problem, UsageError
from mashup.files import refuse_existing, to_json, write_text
from mashup.library import Library, scan
from mashup.merge import METHODS
from mashup.merge.methods import Settings
from mashup.model import Base, load_base
from mashup.progress import SILENT, Progress
from mashup.score import score
from mashup.score.choose import Strategy
from mashup.score.racing import finalists_for
from mashup.score.result import Criterion
from mashup.select import Selection, select
from mashup.settings import ARMS, ArmName, TrainSettings
from mashup.start import Sample
from mashup.task import Task, commonest_accuracy, load_task
from mashup.train.loop import run_tokens


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, on disk with its pages.

    Attributes:
        path: folder with ``records.jsonl``, ``scores.json``, ``runs/``, tables and pages.
        selection: what was chosen, and the scores behind it.
        results: one an arm and seed.
        records: all measured values.
    """

    path: Path
    selection: Selection
    results: tuple[ArmResult, ...]
    records: tuple[Record, ...]

    @property
    def page(self) -> Path:
        return self.path / "index.html"

    @property
    def table(self) -> Path:
        return self.path / "table.md"


def compare(
    library: Library | str | Path,
    base: Base | str,
    task: Task | str | Path,
    *,
    output: str | Path,
    k: int = 2,
    diversity: float = 0.0,
    criterion: Criterion = "loss",
    strategy: Strategy = "auto",
    samples: int = 256,
    arms: Sequence[ArmName] = ARMS,
    seeds: Sequence[int] = (42,),
    learning_rates: Sequence[float] = (),
    budgets: Sequence[float] = (1.0,),
    settings: TrainSettings | None = None,
    merge_options: dict[str, Any] | None = None,
    accept_base: bool = False,
    skip_bad: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare a warm start with scratch and with controls, and write records and pages.

    The same call again continues one that was killed.

    Args:
        library, base, task: as for :func:`mashup.score`.
        output: the folder to make.
        k, diversity, criterion, strategy, samples: how parents are chosen.
        arms: which arms; scratch is always run.
        seeds: of the training runs; each arm runs with each.
        learning_rates: a grid; each arm takes its own best by dev loss and is charged for
            the search. By default the one of ``settings``.
        budgets: shares of the full number of steps that scratch and mashup are run with as
            well, each with its own schedule (the ladder); 1.0 is always run.
        settings: of training.
        merge_options: ``method``, its numbers, ``weights``, ``rank``, ``factors`` of
            :func:`mashup.merge`. Arms whose number of parents the method cannot take are merged
            by ``linear``.
        accept_base, skip_bad: as for :func:`mashup.score`.
        progress: where to show bars.

    Raises:
        InputError: as the steps do; or every checkpoint was trained on the held-out rows.
    """
    from mashup.report import write_report

    output, settings = Path(output).absolute(), settings or TrainSettings()
    _check(seeds, budgets, learning_rates)
    _check_merging(merge_options or {})
    task = task if isinstance(task, Task) else load_task(task)
    library = library if isinstance(library, Library) else scan(library)
    if not (output / ABOUT).exists():
        refuse_existing(output)
    library, wholes = _trainable(library, settings)
    clean, leaks = _without_leaks(library, task)
    base = load_base(base) if isinstance(base, str) else base
    run_tokens(base, task, settings)  # rows that cannot be used are told before any work
    sample = Sample(samples, task.seed, settings.max_length)
    scores = score(
        clean, base, task, samples=samples, seed=task.seed, criterion=criterion,
        strategy=strategy, finalists=finalists_for(k), max_length=sample.max_length,
        accept_base=accept_base, skip_bad=skip_bad, progress=progress,
    )  # fmt: skip
    scores = replace(scores, left_out=(*scores.left_out, *wholes, *leaks))
    selection = select(scores, k=k, diversity=diversity)
    progress.say(selection.sentence)
    planned = {seed: make_arms(arms, selection, seed) for seed in seeds}
    about = {
        **describe(base, task, scores, selection, settings),
        "seeds": list(seeds),
        "learning_rates": list(learning_rates),
        "budgets": list(budgets),
        "merge": merge_options or {},
        "arms": [planned_arm(arm, seed) for seed in seeds for arm in planned[seed]],
    }
    begin(output, about)
    write_text(output / "scores.json", to_json(scores.rows()))
    rates = tuple(learning_rates) or (settings.learning_rate,)
    bench = Bench(output, base, task, sample, settings, rates, merge_options or {}, progress)
    bench = bench.sized(make_arms(("mashup",), selection, 0)[1], scores)
    write_text(output / ABOUT, to_json(about | {"rank": bench.rank}))
    pairs = [(seed, arm) for seed in seeds for arm in planned[seed]]
    for _, arm in pairs:
        bench.init_of(arm, scores)  # all merges first: one that cannot be is told early
    results = []
    for seed, arm in pairs:
        results += bench.run(arm, scores, seed, budgets)
    commonest = commonest_record(output.name, task.name, commonest_accuracy(task))
    records = (*make_records(output.name, task.name, results), commonest)
    write_records(output / "records.jsonl", records)
    comparison = Comparison(output, selection, tuple(results), records)
    write_report(comparison)
    return comparison


def _check(seeds: Sequence[int], budgets: Sequence[float], rates: Sequence[float]) -> None:
    """Refuse values that cannot be, all at once."""
    problems = []
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        problems.append(Problem("bad setting", "--seeds", str(list(seeds)), "different, 0 or more"))
    if not all(0 < budget <= 1 for budget in budgets):
        found, expected = str(list(budgets)), "shares of the steps, above 0 and at most 1"
        problems.append(Problem("bad setting", "--budgets", found, expected))
    if not all(rate > 0 for rate in rates):
        problems.append(Problem("bad setting", "--learning-rates", str(list(rates)), "above 0"))
    if problems:
        raise UsageError(*problems)


def _trainable(library: Library, settings: TrainSettings) -> tuple[Library, tuple[Problem, ...]]:
    """A LoRA starts from LoRAs; all weights can start from both.

    Raises:
        InputError: whole models alone, and a LoRA is to be trained.
    """
    if settings.is_full:
        return library, ()
    loras = tuple(c for c in library.checkpoints if c.kind == "lora")
    fix = "give --finetuning-type full to train all weights"
    problems = tuple(
        Problem("whole model", str(c.path), "all weights", "a LoRA, since a LoRA is trained", fix)
        for c in library.checkpoints
        if c.kind == "full"
    )
    if not loras:
        raise InputError(*problems)
    return replace(library, checkpoints=loras), problems


def _without_leaks(library: Library, task: Task) -> tuple[Library, tuple[Problem, ...]]:
    leaks = leaking(library.usable, task)
    kept = tuple(c for c in library.checkpoints if str(c.path) not in leaks)
    if leaks and not any(c.usable for c in kept):
        raise InputError(*leaks.values())
    return replace(library, checkpoints=kept), tuple(leaks.values())


def _check_merging(options: dict[str, Any]) -> None:
    """Refuse, before any work, what would fail when the first arm is merged.

    Raises:
        UsageError: an unknown method, numbers that cannot be, or a weight for each parent.
    """
    method = options.get("method", "linear")
    if method not in METHODS:
        raise UsageError(Problem("unknown method", "--method", method, ", ".join(METHODS)))
    names = ("scale", "density", "gamma", "epsilon")
    known = {name: options[name] for name in names if name in options}
    numbers = Settings(**{name: one for name, one in known.items() if one != "search"})
    METHODS[method].check(numbers, max(METHODS[method].parents[0], 1))
    if not isinstance(options.get("weights", "uniform"), str):
        found, expected = str(options["weights"]), "uniform or loss: arms have 1, 2 or k parents"
        raise UsageError(Problem("bad weights", "--weights", found, expected))
