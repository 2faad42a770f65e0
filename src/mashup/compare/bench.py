"""The bench: what all runs of a comparison share, and how an arm is run on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup.compare.arms import Arm
from mashup.compare.results import ArmResult
from mashup.errors import DivergedError, Problem
from mashup.files import digest_of
from mashup.merge import Init
from mashup.merge.manifest import MANIFEST
from mashup.model import Base
from mashup.progress import Progress
from mashup.score import Scores
from mashup.settings import TrainSettings
from mashup.start import Sample, make_init
from mashup.task import Task
from mashup.train import Run, train
from mashup.train.trainer import steps_of


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

    def of_rank(self, mashup: Arm, scores: Scores) -> Bench:
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
        scoring = scores.full_seconds if arm.pays_for_scoring else 0.0
        about = init.manifest if init else {}
        merging = about.get("merge_seconds", 0.0) + about.get("measure_seconds", 0.0)
        return {"score": scoring, "merge": merging}

    def _train(self, arm: Arm, init: Init | None, seed: int, rate: float, budget: float) -> Run:
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
