"""The starts that a library gives: merges of the checkpoints that fit a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mashup._init import Sample, make_init
from mashup._merge.manifest import MANIFEST
from mashup._merge.merge import Init
from mashup._score.racing import finalists_for
from mashup._score.score import score
from mashup._select import Selection, least_loss, select
from mashup.library import Library
from mashup.model import Base
from mashup.progress import Progress
from mashup.settings import ScoreSettings, SelectSettings
from mashup.task import Task

#: Most checkpoints in the mean of all that know the task.
MOST_PARENTS = 16
#: What the starts of a library are called; those that a library cannot give are not made.
MERGE, BEST, ALL, LEAST_LOSS = "merge", "best-single", "all", "least-loss"


@dataclass(frozen=True)
class Choosing:
    """How starts are made from a library.

    Attributes:
        score, select: settings of those two steps.
        scales: more factors on the merge; each is one more start.
        merging: options of :func:`mashup.merge`.
        sample: which examples are scored on.
        accept_base: take checkpoints that name no base or another one.
        strict: stop at a broken checkpoint.
    """

    score: ScoreSettings
    select: SelectSettings
    scales: tuple[float, ...]
    merging: Mapping[str, Any]
    sample: Sample
    accept_base: bool = False
    strict: bool = False

    def to_json(self) -> dict[str, Any]:
        """What decides which starts are made."""
        return {
            "score": self.score.model_dump(),
            "select": self.select.model_dump(),
            "scales": list(self.scales),
            "merging": {name: str(value) for name, value in self.merging.items()},
            "sample": [self.sample.samples, self.sample.seed, self.sample.max_length],
        }


def expected_starts(k: int, scales: tuple[float, ...]) -> list[str]:
    """Names of the most starts that a library can give, whether one of it knows the task or not."""
    first = MERGE if k > 1 else BEST
    known = [first, *(f"{first}-x{scale:g}" for scale in scales)]
    known += [ALL, BEST] if k > 1 else []
    return max(known, [BEST, LEAST_LOSS], key=len)


def choose(
    library: Library, base: Base, task: Task, how: Choosing, progress: Progress
) -> dict[str, tuple[Selection, float]]:
    """Name of each start to what is merged for it, and the factor on the merge.

    Where no checkpoint is better than the base for sure, the first of the ranking takes part if it
    is ahead of the base, and the merge of those with the least loss: strangers that give the form
    can gain in a short run, and the dev rows of the race decide. Empty where no checkpoint has
    less loss than the base. The most promising come first.
    """
    scores = score(
        library, base, task,
        how.score, seed=how.sample.seed, max_length=how.sample.max_length,
        finalists=max(finalists_for(how.select.k), MOST_PARENTS),
        accept_base=how.accept_base, strict=how.strict, progress=progress,
    )  # fmt: skip
    merged = select(scores, how.select)
    if merged.is_empty:
        first, least = scores.finalists[:1], least_loss(scores, how.select.k)
        is_ahead = first and first[0].against(scores.base, scores.criterion)[0] < 0
        starts = {BEST: (Selection(first, scores), 1.0)} if is_ahead else {}
        if not least or (is_ahead and least == first):
            return starts
        names = " and ".join(one.name for one in least)
        better = "knows this task" if scores.criterion == "knowledge" else "is surely better"
        progress.say(f"no checkpoint {better}; {LEAST_LOSS} races too: {names}")
        return starts | {LEAST_LOSS: (Selection(least, scores), 1.0)}
    single = select(scores, k=1)
    everybody = select(scores, k=MOST_PARENTS)
    starts = {MERGE: (merged, 1.0)} if len(merged.chosen) > 1 else {BEST: (single, 1.0)}
    name, (selection, _) = next(iter(starts.items()))
    starts[BEST] = (single, 1.0)
    if len(everybody.chosen) > len(merged.chosen):
        starts[ALL] = (everybody, 1.0)
    return starts | {f"{name}-x{scale:g}": (selection, scale) for scale in how.scales}


def make_start(
    selection: Selection,
    scale: float,
    base: Base,
    task: Task,
    how: Choosing,
    folder: Path,
    progress: Progress,
) -> Init:
    """The folder of a start, made unless it is there."""
    if (folder / MANIFEST).exists():
        return Init.open(folder)
    options = dict(how.merging)
    options["accept_base"] = how.accept_base or options.get("accept_base", False)
    if len(selection.chosen) == 1:
        options |= {"method": "linear", "weights": None}
    if scale != 1.0:
        options["scale"] = scale
    return make_init(
        selection, base, task, how.sample, folder,
        progress=progress, **options,
    )  # fmt: skip
