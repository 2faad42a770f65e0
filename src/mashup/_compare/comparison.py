"""Run a comparison: score once, then every arm with every seed and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mashup._compare.about import ABOUT, begin, describe, planned_arm
from mashup._compare.arms import Arm, make_arms
from mashup._compare.bench import Bench
from mashup._compare.inputs import check_arms, check_merging, check_values, usable
from mashup._compare.results import ArmResult, make_records
from mashup._init import Sample
from mashup._score.choose import Strategy
from mashup._score.racing import finalists_for
from mashup._score.score import score
from mashup._score.scores import Scores
from mashup._select import Selection, select
from mashup._train.tokens import run_tokens
from mashup.checkpoint import check_base
from mashup.files import only_one, refuse_existing, to_json, write_text
from mashup.library import Library, scan
from mashup.model import AnyBase, load_base
from mashup.progress import SILENT, Progress
from mashup.results.records import Record, commonest_record, write_records
from mashup.settings import ARMS, ArmName, CriterionName, TrainSettings
from mashup.tables import as_frame, as_html, as_text
from mashup.task import Task, commonest_accuracy, load_task


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return as_text(self._title, self._shown())

    def _repr_html_(self) -> str:
        return as_html(self._title, self._shown())

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
    k: int = 2,
    diversity: float = 0.0,
    criterion: CriterionName = "auto",
    strategy: Strategy = "auto",
    samples: int = 256,
    arms: Sequence[ArmName] = ARMS,
    seeds: Sequence[int] = (42,),
    learning_rates: Sequence[float] = (),
    budgets: Sequence[float] = (1.0,),
    settings: TrainSettings | None = None,
    merge_options: dict[str, Any] | None = None,
    accept_base: bool = False,
    strict: bool = False,
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
        accept_base, strict: as for :func:`mashup.score`.
        progress: where to show bars.

    Raises:
        InputError: as the steps do; or every checkpoint was trained on the held-out rows.
    """
    output, settings = Path(output).absolute(), settings or TrainSettings()
    check_values(seeds, budgets, learning_rates)
    check_arms(arms, settings)
    check_merging(merge_options or {})
    refuse_existing(output, ABOUT)
    task = task if isinstance(task, Task) else load_task(task)
    library = library if isinstance(library, Library) else scan(library)
    if isinstance(base, str | Path):
        check_base(base, (checkpoint.base for checkpoint in library.checkpoints))
    with only_one(output):
        kept, left_out = usable(library, task, settings)
        base = load_base(base)
        run_tokens(base, task, settings)  # rows that cannot be used are told before any work
        sample = Sample(samples, task.seed, settings.max_length)
        scores = score(
            kept, base, task, samples=samples, seed=task.seed, criterion=criterion,
            strategy=strategy, finalists=finalists_for(k), max_length=sample.max_length,
            accept_base=accept_base, strict=strict, progress=progress,
        )  # fmt: skip
        for problem in left_out:
            progress.say(f"left out: {problem.where}: {problem.what}, {problem.found}")
        scores = replace(scores, left_out=(*scores.left_out, *left_out))
        selection = select(scores, k=k, diversity=diversity)
        progress.say(selection.sentence)
        planned = [(seed, arm) for seed in seeds for arm in make_arms(arms, selection, seed)]
        about = {
            **describe(base, task, scores, selection, settings),
            "seeds": list(seeds),
            "learning_rates": list(learning_rates),
            "budgets": list(budgets),
            "merge": merge_options or {},
            "arms": [planned_arm(arm, seed) for seed, arm in planned],
        }
        begin(output, about)
        write_text(output / "scores.json", to_json(scores.rows()))
        rates = tuple(learning_rates) or (settings.learning_rate,)
        bench = Bench(output, base, task, sample, settings, rates, merge_options or {}, progress)
        bench = bench.sized(make_arms(("mashup",), selection, 0)[1], scores)
        write_text(output / ABOUT, to_json(about | {"rank": bench.rank}))
        return _finish(bench, selection, _results(bench, planned, scores, budgets))


def _results(
    bench: Bench,
    planned: Sequence[tuple[int, Arm]],
    scores: Scores,
    budgets: Sequence[float],
) -> tuple[ArmResult, ...]:
    """Every arm with its seed; all merges first, so that one that cannot be is told early."""
    for _, arm in planned:
        bench.init_of(arm, scores)
    runs = (bench.run(arm, scores, seed, budgets) for seed, arm in planned)
    return tuple(result for found in runs for result in found)


def _finish(bench: Bench, selection: Selection, results: tuple[ArmResult, ...]) -> Comparison:
    """Write records and pages."""
    from mashup._report import write_report

    name, task = bench.output.name, bench.task
    commonest = commonest_record(name, task.name, commonest_accuracy(task))
    records = (*make_records(name, task.name, results), commonest)
    write_records(bench.output / "records.jsonl", records)
    write_report(bench.output)
    return Comparison(bench.output, selection, results, records)
