"""The bench: what all runs of a comparison share, and how an arm is run on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup._compare.arms import Arm
from mashup._compare.results import ArmResult
from mashup._init import Sample, make_init
from mashup._merge.merge import Init
from mashup._merge.methods import METHODS
from mashup._score.result import Score
from mashup._score.scores import Scores
from mashup._train.record import Run
from mashup._train.run import train
from mashup._train.trainer import steps_of
from mashup.checkpoint.adapter import CONFIG
from mashup.checkpoint.history import MANIFEST
from mashup.errors import DivergedError
from mashup.files import digest_of, read_json
from mashup.model import Base
from mashup.progress import Progress
from mashup.settings import TrainSettings
from mashup.task import Task


@dataclass(frozen=True)
class Bench:
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

    def sized(self, mashup: Arm, scores: Scores) -> Bench:
        """The same bench, with modules and rank of the mashup arm for scratch and controls.

        So that no difference is one of size: scratch trains what the merge trains, and smaller
        merges are padded with directions where B = 0. Larger ones stay exact and larger. Where
        all weights are trained, sizes are the same anyway.
        """
        if self.settings.is_full:
            return self
        init = self.init_of(mashup, scores)
        if init is None:
            return replace(self, rank=self.settings.lora_r)
        rank = init.manifest["resolved_rank"]
        values = {
            "lora_r": rank,
            "lora_alpha": self.settings.lora_alpha / self.settings.lora_r * rank,
            "lora_target_modules": ",".join(read_json(init.path / CONFIG)["target_modules"]),
        }
        return replace(self, rank=rank, settings=self.settings.model_copy(update=values))

    def run(self, arm: Arm, scores: Scores, seed: int, budgets: Sequence[float]) -> list[ArmResult]:
        """The results of one arm and seed, one a budget."""
        init = self.init_of(arm, scores)
        overhead = self._overhead(arm, scores, init)
        ladder = {1.0, *budgets} if arm.name in ("scratch", "mashup") else {1.0}
        results = []
        for budget in sorted(ladder, reverse=True):
            runs, lost = self._search(arm, init, seed, budget)
            best = min(runs, key=lambda run: run.kept.dev_loss)
            search = lost + sum(_seconds(run) for run in runs if run is not best)
            costs = overhead | {"search": search if arm.trained else 0.0}
            costs["merge"] += _check_seconds(best)
            results.append(ArmResult(arm, seed, budget, best, costs))
        return results

    def _search(
        self, arm: Arm, init: Init | None, seed: int, budget: float
    ) -> tuple[list[Run], float]:
        """One run a learning rate, and the seconds of those that diverged."""
        runs: list[Run] = []
        diverged: list[DivergedError] = []
        for rate in self.rates:
            try:
                runs.append(self._train(arm, init, seed, rate, budget))
            except DivergedError as error:
                diverged.append(error)
        if not runs:
            raise DivergedError(*(problem for error in diverged for problem in error.problems))
        return runs, sum(error.seconds for error in diverged)

    def init_of(self, arm: Arm, scores: Scores) -> Init | None:
        """Merged once for each set of parents."""
        if not arm.parents:
            return None
        options = options_for(
            self.merge_options, arm.parents, rank=self.rank, full=self.settings.is_full
        )
        key = digest_of([s.digest for s in arm.parents], options)[:8]
        path = self.output / "inits" / f"{_joined([s.name for s in arm.parents])}-{key}"
        if (path / MANIFEST).exists():
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
        scoring = scores.cost.seconds if arm.pays_for_scoring else 0.0
        about = init.manifest if init else {}
        merging = about.get("merge_seconds", 0.0) + about.get("measure_seconds", 0.0)
        return {"score": scoring, "merge": merging}

    def _train(self, arm: Arm, init: Init | None, seed: int, rate: float, budget: float) -> Run:
        values: dict[str, Any] = {"seed": seed, "learning_rate": rate}
        if budget != 1.0:
            full = steps_of(len(self.task.train), self.settings)
            values["max_steps"] = max(1, round(budget * full))
        settings = TrainSettings(**self.settings.model_dump() | values)
        start = init.path.name if init else "scratch"
        name = f"{start}-seed{seed}-lr{rate!r}" + (f"-budget{budget:g}" if budget != 1 else "")
        self.progress.say(f"{arm.name}: {name}")
        return train(
            self.base, self.task, output=self.output / "runs" / name, init=init, accept_base=True,
            settings=settings, progress=self.progress,
        )  # fmt: skip


def options_for(
    asked: Mapping[str, Any], parents: Sequence[Score], *, rank: int, full: bool
) -> dict[str, Any]:
    """Options of the merge of an arm's parents.

    Args:
        asked: options of :func:`mashup.merge` for all arms.
        parents: of this arm; a method that cannot take so many gives way to ``linear``.
        rank: that smaller merges are padded to.
        full: whether all weights are trained.
    """
    options = dict(asked)
    least, most = METHODS[options.get("method", "linear")].parents
    if not least <= len(parents) <= most:
        options["method"] = "linear"  # one parent has no angle, three have no arc
    exact = sum(score.checkpoint.rank or 0 for score in parents if score.checkpoint)
    if full:
        options["output_kind"] = "full"
    elif exact <= rank and options.get("method") != "factor_average":
        options["rank"] = rank
    return options


def _seconds(run: Run) -> float:
    """What a run that was not taken costs."""
    return run.record["train_seconds"] + _check_seconds(run)


def _check_seconds(run: Run) -> float:
    check = run.record["start_check"]
    return check["seconds"] if check else 0.0


def _joined(names: Sequence[str]) -> str:
    """Names of parents as a part of a file name: 100 bytes at most, whole characters."""
    whole = "+".join(name.replace("/", "-")[:40] for name in names)
    return whole.encode()[:100].decode(errors="ignore")
