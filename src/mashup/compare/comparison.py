"""Run a comparison: score once, then every arm with every seed and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup.compare.arms import Arm, make_arms
from mashup.compare.leakage import leaking
from mashup.compare.records import Record, write_records
from mashup.compare.results import ArmResult, make_records
from mashup.errors import DivergedError, InputError, Problem
from mashup.files import digest_of, read_json, refuse_existing, to_json, write_text
from mashup.library import Library, scan
from mashup.merge import Init
from mashup.model import Base, load_base
from mashup.progress import SILENT, Progress
from mashup.score import Scores, score
from mashup.score.result import Criterion
from mashup.select import Selection, select
from mashup.settings import ARMS, ArmName, TrainSettings
from mashup.start import Sample, make_init
from mashup.task import Task, load_task
from mashup.train import Run, train

_ABOUT = "comparison.json"


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
    criterion: Criterion = "loss",
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
        k, criterion, samples: how parents are chosen.
        arms: which arms; scratch is always run.
        seeds: of the training runs; each arm runs with each.
        learning_rates: a grid; each arm takes its own best by dev loss and is charged for
            the search. By default the one of ``settings``.
        budgets: shares of the full number of steps that scratch and mashup are run with as
            well, each with its own schedule (the ladder); 1.0 is always run.
        settings: of training.
        merge_options: ``method``, ``rank``, ``factors`` of :func:`mashup.merge`.
        accept_base, skip_bad: as for :func:`mashup.score`.
        progress: where to show bars.

    Raises:
        InputError: as the steps do; or every checkpoint was trained on the held-out rows.
    """
    from mashup.report import write_report

    output, settings = Path(output), settings or TrainSettings()
    task = task if isinstance(task, Task) else load_task(task)
    library = library if isinstance(library, Library) else scan(library)
    if not (output / _ABOUT).exists():
        refuse_existing(output)
    clean, leaks = _without_leaks(library, task)
    base = load_base(base) if isinstance(base, str) else base
    sample = Sample(samples, task.seed, settings.max_length)
    scores = score(
        clean, base, task, samples=samples, seed=task.seed, criterion=criterion,
        max_length=sample.max_length, accept_base=accept_base, skip_bad=skip_bad, progress=progress,
    )  # fmt: skip
    scores = replace(scores, left_out=(*scores.left_out, *leaks))
    selection = select(scores, k=k)
    progress.say(selection.sentence)
    planned = {seed: make_arms(arms, selection, seed) for seed in seeds}
    about = {
        **_about(base, task, scores, selection, settings),
        "seeds": list(seeds),
        "learning_rates": list(learning_rates),
        "budgets": list(budgets),
        "merge": merge_options or {},
        "arms": [_planned(arm, seed) for seed in seeds for arm in planned[seed]],
    }
    _begin(output, about)
    write_text(output / "scores.json", to_json(scores.rows()))
    rates = tuple(learning_rates) or (settings.learning_rate,)
    bench = _Bench(output, base, task, sample, settings, rates, merge_options or {}, progress)
    bench = bench.of_rank(make_arms(("mashup",), selection, 0)[1], scores)
    write_text(output / _ABOUT, to_json(about | {"rank": bench.settings.lora_r}))
    results = []
    for seed in seeds:
        for arm in planned[seed]:
            results += bench.run(arm, scores, seed, budgets)
    records = make_records(output.name, task.name, results)
    write_records(output / "records.jsonl", records)
    comparison = Comparison(output, selection, tuple(results), records)
    write_report(comparison)
    return comparison


def _without_leaks(library: Library, task: Task) -> tuple[Library, tuple[Problem, ...]]:
    leaks = leaking(library.usable, task)
    kept = tuple(c for c in library.checkpoints if str(c.path) not in leaks)
    if leaks and not any(c.usable for c in kept):
        raise InputError(*leaks.values())
    return replace(library, checkpoints=kept), tuple(leaks.values())


def _about(
    base: Base,
    task: Task,
    scores: Scores,
    selection: Selection,
    settings: TrainSettings,
) -> dict[str, Any]:
    return {
        "base": {"name": base.name, "digest": base.digest, "dtype": str(base.dtype)},
        "task": {"name": task.name, "digest": task.digest},
        "splits": {"train": len(task.train), "dev": len(task.dev), "test": len(task.test)},
        "sample": {"digest": scores.sample_digest, "examples": scores.examples},
        "sentence": selection.sentence,
        "left_out": [problem.to_json() for problem in scores.left_out],
        "unchanged": [checkpoint.name for checkpoint in scores.unchanged],
        "dropped": task.dropped,
        "criterion": scores.criterion,
        "chosen": [score.digest for score in selection.chosen],
        "settings": settings.model_dump(),
    }


def _planned(arm: Arm, seed: int) -> dict[str, Any]:
    parents = [parent.name for parent in arm.parents]
    return {"arm": arm.name, "seed": seed, "parents": parents, "note": arm.note}


def _begin(output: Path, about: dict[str, Any]) -> None:
    """Note what the folder is for; refuse one that is for something else."""
    path = output / _ABOUT
    known = read_json(path) if path.exists() else about
    if digest_of(known | {"rank": 0}) != digest_of(about | {"rank": 0}):
        fix = "choose another --output, or give the settings of that comparison"
        found = "a comparison with other settings, data, checkpoints or seeds"
        raise InputError(Problem("output exists already", str(output), found, "this one", fix))
    output.mkdir(parents=True, exist_ok=True)
    write_text(path, to_json(known))


@dataclass(frozen=True)
class _Bench:
    """What all runs of a comparison share."""

    output: Path
    base: Base
    task: Task
    sample: Sample
    settings: TrainSettings
    rates: tuple[float, ...]
    merge_options: dict[str, Any]
    progress: Progress
    rank: int = 0

    def of_rank(self, mashup: Arm, scores: Scores) -> _Bench:
        """The same bench, with the rank that the mashup arm trains for every arm.

        Scratch and the controls get as many trainable parameters as mashup has, so that no
        difference is one of size. Smaller merges are padded with directions where B = 0.
        """
        init = self._init(mashup, scores)
        if init is None:
            return self
        rank = init.manifest["resolved_rank"]
        alpha = self.settings.lora_alpha / self.settings.lora_r * rank
        settings = self.settings.model_copy(update={"lora_r": rank, "lora_alpha": alpha})
        return replace(self, rank=rank, settings=settings)

    def run(self, arm: Arm, scores: Scores, seed: int, budgets: Sequence[float]) -> list[ArmResult]:
        """The results of one arm and seed, one a budget."""
        init = self._init(arm, scores)
        overhead = self._overhead(arm, scores, init)
        ladder = {1.0, *budgets} if arm.name in ("scratch", "mashup") else {1.0}
        results = []
        for budget in sorted(ladder, reverse=True):
            runs = self._search(arm, init, seed, budget)
            best = min(runs, key=lambda run: run.last.dev_loss)
            search = sum(run.record["train_seconds"] for run in runs if run is not best)
            costs = overhead | {"search": search if arm.trained else 0.0}
            if check := best.record["start_check"]:
                costs["merge"] += check["seconds"]
            results.append(ArmResult(arm, seed, budget, best, costs))
        return results

    def _search(self, arm: Arm, init: Init | None, seed: int, budget: float) -> list[Run]:
        """One run a learning rate, those that diverged left out."""
        runs: list[Run] = []
        diverged: list[Problem] = []
        for rate in self.rates:
            try:
                runs.append(self._train(arm, init, seed, rate, budget))
            except DivergedError as error:
                diverged += error.problems
        if not runs:
            raise DivergedError(*diverged)
        return runs

    def _init(self, arm: Arm, scores: Scores) -> Init | None:
        """Merged once for each set of parents."""
        if not arm.parents:
            return None
        options = dict(self.merge_options)
        if self.rank and options.get("method") != "factor_average":
            options["rank"] = self.rank
        key = digest_of([s.digest for s in arm.parents], options)[:8]
        path = self.output / "inits" / f"{'+'.join(_short(s.name) for s in arm.parents)}-{key}"
        if (path / "mashup.json").exists() and "sample" in Init.open(path).manifest:
            return Init.open(path)
        selection = arm.selection(scores)
        return make_init(
            selection,
            self.base,
            self.task,
            self.sample,
            path,
            accept_base=True,
            progress=self.progress,
            **options,
        )

    def _overhead(self, arm: Arm, scores: Scores, init: Init | None) -> dict[str, float]:
        """Seconds before the first step; scoring as if nothing had been cached.

        ``merge`` holds the checks as well: measuring the merge, and the start check.
        """
        scoring = scores.full_seconds if arm.pays_for_scoring else 0.0
        about = init.manifest if init else {}
        merging = about.get("merge_seconds", 0.0) + about.get("measure_seconds", 0.0)
        return {"score": scoring, "merge": merging}

    def _train(self, arm: Arm, init: Init | None, seed: int, rate: float, budget: float) -> Run:
        from mashup.train.trainer import steps_of

        values: dict[str, Any] = {"seed": seed, "learning_rate": rate}
        if budget != 1.0:
            full = steps_of(len(self.task.train), self.settings)
            values["max_steps"] = max(1, round(budget * full))
        settings = self.settings.model_copy(update=values)
        start = init.path.name if init else "scratch"
        name = f"{start}-seed{seed}-lr{rate:g}" + (f"-budget{budget:g}" if budget != 1 else "")
        self.progress.say(f"{arm.name}: {name}")
        return train(
            self.base, self.task, output=self.output / "runs" / name, init=init, accept_base=True,
            settings=settings, progress=self.progress,
        )  # fmt: skip


def _short(name: str) -> str:
    return name.replace("/", "-")[:40]
