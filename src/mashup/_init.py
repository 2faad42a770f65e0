"""Scan, score, select and merge in one call: an init for a task, measured as written."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mashup._merge.manifest import against_best
from mashup._merge.merge import Init, merge
from mashup._score.racing import finalists_for
from mashup._score.score import score as score_library
from mashup._score.scores import Criterion, Score, Scores
from mashup._select import Selection
from mashup._select import select as select_from
from mashup.delta import Delta
from mashup.evaluate.answers import AnswerSet, evaluate_sample, task_answers
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.faults import all_resolved
from mashup.library import Library
from mashup.model import AnyBase, Base, applied, load_base, read_change
from mashup.model.change import by_own_names
from mashup.outputs import disk_errors, move, only_one, refuse_existing, temporary_folder
from mashup.progress import SILENT, Progress
from mashup.settings import MergeSettings, ScoreSettings, SelectSettings
from mashup.task import Task, Tokens, load_task

#: Factors on a merged delta that ``scale="search"`` tries, and those that it goes on to while the
#: largest tried so far is the best: a minimum at the edge of what was tried is none.
SCALES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FARTHER_SCALES = (1.75, 2.0, 2.5, 3.0, 4.0)
#: What the best parent alone must be ahead, to be taken instead of the merge: in nats per answer
#: token, bits or share of right answers, by the criterion of the choice.
WORTH = 0.01
#: Paired standard errors by which two losses on the sample differ for sure.
NOISE = 2.0


@dataclass(frozen=True)
class InitResult:
    """What :func:`init` found and wrote.

    Attributes:
        scores: the ranking of the library.
        selection: what was chosen from it; empty where no checkpoint helps.
        init: the folder that was written; None where no checkpoint helps.
    """

    scores: Scores
    selection: Selection
    init: Init | None

    @property
    def sentence(self) -> str:
        """What to start from, and why."""
        if self.init and "instead_of" in self.init.manifest:
            return against_best(self.init.manifest)
        return self.selection.sentence


def init(
    library: Library | str | Path,
    base: AnyBase,
    task: Any,
    *,
    output: str | Path,
    score: ScoreSettings | None = None,
    select: SelectSettings | None = None,
    merge_options: MergeSettings | None = None,
    seed: int = 42,
    max_length: int = 1024,
    accept_base: bool = False,
    strict: bool = False,
    always_merge: bool = False,
    progress: Progress = SILENT,
    **shorthands: Any,
) -> InitResult:
    """Find the checkpoints that fit a task best and merge them into a start for it.

    Scans, scores, selects and merges, and measures the written folder on the sample.
    ``init(library, base, task, output="init/", k=3, method="ties")`` is short for
    ``select=SelectSettings(k=3), merge_options=MergeSettings(method="ties")``.

    Args:
        library: a scanned library, its folder, or a source (``hub:ORG``, ...).
        base: a loaded base model or its name, or a transformers model in memory.
        task: a loaded task, or its dataset as :func:`mashup.load_task` takes it. Only its
            training rows are used.
        output: the folder to make; it must not exist. Nothing is written where no checkpoint
            helps.
        score: settings of :func:`mashup.score`.
        select: settings of :func:`mashup.select`.
        merge_options: settings of :func:`mashup.merge`.
        seed: of the sample.
        max_length: the longest example in tokens.
        accept_base: also take adapters that name no base or another one, if they fit.
        strict: stop at broken checkpoints instead of skipping and counting them.
        always_merge: write the merge even where the best checkpoint alone is clearly better.
        progress: where to show a bar.
        shorthands: fields of the three settings by name; None is the default. What a settings
            object sets cannot be given here as well.

    Raises:
        UsageError: unknown, impossible or contradicting settings, all at once.
        InputError: no such base, no usable checkpoint, unusable examples, or an existing output.
        OutputError: no room on the disk.
    """
    output = Path(output)
    kinds = ((ScoreSettings, score), (SelectSettings, select), (MergeSettings, merge_options))
    scoring, selecting, merging = all_resolved(kinds, shorthands, "init")
    refuse_existing(output)
    base, task = load_base(base), task if isinstance(task, Task) else load_task(task)
    scores = score_library(
        library, base, task, scoring, seed=seed, finalists=finalists_for(selecting.k),
        max_length=max_length, accept_base=accept_base, strict=strict, progress=progress,
    )  # fmt: skip
    selection = select_from(scores, selecting)
    if selection.is_empty:
        return InitResult(scores, selection, None)
    options = merging.model_dump(exclude_unset=True)
    options["accept_base"] = accept_base or merging.accept_base
    made = make_init(
        selection, base, task, Sample(scoring.samples, seed, max_length), output,
        progress=progress, or_best=not always_merge, **options,
    )  # fmt: skip
    return InitResult(scores, selection, made)


@dataclass(frozen=True)
class Sample:
    """Which examples were scored on: how many, drawn how, how long at most."""

    samples: int = 256
    seed: int = 42
    max_length: int = 1024


def make_init(
    selection: Selection,
    base: Base,
    task: Task,
    sample: Sample,
    output: Path,
    *,
    progress: Progress = SILENT,
    or_best: bool = False,
    **options: Any,
) -> Init:
    """Merge a selection and note in its manifest what the written folder scores on the sample.

    Args:
        selection: not empty.
        base: the loaded base.
        task: the task that the selection was scored on.
        sample: the same sample as the selection's.
        output: the folder to make.
        progress: where to show a bar.
        or_best: write the best of the selection alone where it is better than the merge by the
            criterion of the choice, by more than two paired standard errors and more than
            :data:`WORTH`.
        options: of :func:`mashup.merge`; ``scale="search"`` takes the one of those that
            :func:`search_scale` tries whose merge is best on the sample, by the criterion of the
            choice: by loss, a merge that knows the task is made smaller until its form is right.

    Raises:
        InputError: as :func:`mashup.merge`.
    """
    with only_one(output), disk_errors(output), temporary_folder(output) as part:
        refuse_existing(output)
        start = time.perf_counter()
        staged = part / output.name  # it gets its place when it is complete
        init = _measured_merge(selection, base, task, sample, staged, options, progress)
        behind = init.manifest["sample"].get("best_single")
        floor = max(WORTH, NOISE * behind["standard_error"]) if behind else 0.0
        if or_best and behind and behind["difference"] > floor:
            shutil.rmtree(staged)
            alone = Selection((_best(selection),), selection.scores, selection.passed)
            plain = options | {"method": "linear", "weights": None, "scale": 1.0}
            merged = {"merge": [score.name for score in selection.chosen]}
            merged |= {f"merge_{name}": init.manifest["sample"][name] for name in ("loss", "value")}
            init = _measured_merge(alone, base, task, sample, staged, plain, progress)
            init = init.noting(instead_of=behind | merged)
        seconds = time.perf_counter() - start - init.manifest["merge_seconds"]
        init = init.noting(measure_seconds=seconds)  # all that is neither scoring nor merging
        move(staged, Path(os.path.realpath(output)))
        return replace(init, path=output)


def _measured_merge(
    selection: Selection,
    base: Base,
    task: Task,
    sample: Sample,
    staged: Path,
    options: Mapping[str, Any],
    progress: Progress,
) -> Init:
    """One merge, written and measured."""
    options = dict(options)
    criterion = selection.scores.criterion
    loss_of, scales = _value_of(base, task, sample), {}
    if options.get("scale") == "search":
        value_of = loss_of if criterion == "loss" else _value_of(base, task, sample, criterion)
        scales = search_scale(selection, base, value_of, staged, options)
        options["scale"] = min(scales, key=lambda one: (scales[one], abs(one - 1)))
    init = merge(selection, output=staged, base=base, measure=loss_of, **options)
    merged = measure(staged, base, task, sample, progress, criterion)
    noted = {"scales": {str(scale): value for scale, value in scales.items()}} if scales else {}
    about: dict[str, Any] = {"name": task.name, "digest": task.digest}
    about |= {"left_out_rows": task.left_out} if task.left_out else {}
    drawn = {"samples": sample.samples, "seed": sample.seed, "max_length": sample.max_length}
    return init.noting(task=about, sample=_note(selection, merged) | drawn, **noted)


def search_scale(
    selection: Selection,
    base: Base,
    value_of: Callable[[Delta], float],
    staged: Path,
    options: Mapping[str, Any],
) -> dict[float, float]:
    """Scale to the value on the sample of the merge as it would be written; less is better.

    All of :data:`SCALES`, then :data:`FARTHER_SCALES` as long as the largest tried is the best.

    Args:
        selection, base: what is merged, for what.
        value_of: measures a delta.
        staged: folder to merge into, again and again; gone afterwards.
        options: of the merge.
    """
    values: dict[float, float] = {}
    for scale in (*SCALES, *FARTHER_SCALES):
        if scale in FARTHER_SCALES and min(values, key=values.__getitem__) != max(values):
            break
        merge(selection, output=staged, base=base, measure=value_of, **{**options, "scale": scale})
        values[scale] = value_of(read_change(base.model, staged))
        shutil.rmtree(staged)
    return values


def measuring(
    checkpoints: Sequence[str | Path], model: str, task: Task, samples: int
) -> dict[str, Any]:
    """``losses`` of checkpoints on a task's sample, and ``measure``, for :func:`mashup.merge`.

    Raises:
        InputError: a model or a checkpoint that cannot be read.
    """
    base, sample = load_base(model), Sample(samples)
    loss = _value_of(base, task, sample)
    return {
        "losses": [loss(read_change(base.model, Path(folder))) for folder in checkpoints],
        "measure": loss,
    }


def _value_of(
    base: Base, task: Task, sample: Sample, criterion: Criterion = "loss"
) -> Callable[[Delta], float]:
    """What measures ``base`` with a delta on the sample by a criterion; less is better.

    The sample is tokenized when the first delta comes: most methods measure none.
    """

    @cache
    def measured() -> Callable[[], float]:
        tokens = sample_tokens(base, task, sample.samples, sample.seed, sample.max_length)
        if criterion == "loss":
            batches = batches_for(base, tokens)
            return lambda: evaluate(base.model, batches).loss
        answers = _answers(base, task, tokens, sample, criterion)
        return lambda: Score(None, evaluate_sample(base, tokens, answers)).value(criterion)

    def value(delta: Delta) -> float:
        with applied(base.model, by_own_names(base.model, delta)):
            return measured()()

    return value


def _answers(
    base: Base, task: Task, tokens: Sequence[Tokens], sample: Sample, criterion: Criterion
) -> AnswerSet | None:
    """The task's answers, each of which gets a probability, where knowledge is measured."""
    return task_answers(base, task, tokens, sample.seed) if criterion == "knowledge" else None


def measure(
    folder: Path,
    base: Base,
    task: Task,
    sample: Sample,
    progress: Progress = SILENT,
    criterion: Criterion = "loss",
) -> Score:
    """The score of a checkpoint folder on a task's sample, outside any cache.

    With the criterion ``knowledge`` every answer of the task gets a probability.
    """
    tokens = sample_tokens(base, task, sample.samples, sample.seed, sample.max_length)
    answers = _answers(base, task, tokens, sample, criterion)
    with applied(base.model, read_change(base.model, folder)):
        label = "measuring the merge"
        return Score(None, evaluate_sample(base, tokens, answers, progress=progress, label=label))


def _best(selection: Selection) -> Score:
    return min(selection.chosen, key=lambda score: score.order(selection.scores.criterion))


def _note(selection: Selection, merged: Score) -> dict[str, Any]:
    """What the manifest says of the sample.

    ``value`` is of the criterion of the choice, as a person reads it: bits, nats a token or share
    of right answers. Differences are signed so that less is better.
    """
    scores, criterion = selection.scores, selection.scores.criterion
    difference, error = merged.against(scores.base)
    best = _best(selection)
    behind, doubt = merged.against(best, criterion)
    single = {
        "name": best.name,
        "path": str(best.path),
        "loss": best.loss,
        "criterion": criterion,
        "value": _shown(best, criterion),
        "difference": behind,
        "standard_error": doubt,
    }
    known = merged.knowledge
    return {
        "criterion": criterion,
        "value": _shown(merged, criterion),
        **({"knowledge": known.bits, "knowledge_error": known.error} if known else {}),
        **({"best_single": single} if len(selection.chosen) > 1 else {}),
        "digest": scores.sample_digest,
        "examples": scores.examples,
        "base_digest": scores.base_digest,
        "base_dtype": scores.base_dtype,
        "base_loss": scores.base.loss,
        "base_accuracy": scores.base.accuracy,
        "loss": merged.loss,
        "accuracy": merged.accuracy,
        "difference": difference,
        "standard_error": error,
        "left_out_long": scores.long,
        "score_seconds": scores.cost.seconds,
    }


def _shown(score: Score, criterion: Criterion) -> float:
    """The criterion's value with the sign that people know it by."""
    value = score.value(criterion)
    return value if criterion == "loss" else -value
