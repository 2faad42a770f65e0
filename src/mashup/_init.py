"""Scan, score, select and merge in one: the start of a training run, measured as written."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mashup._merge.merge import Init, merge
from mashup._score.gradient import newton_weights, uncovered
from mashup._score.result import Score
from mashup._select import Selection
from mashup.delta import Delta
from mashup.errors import Problem, UsageError
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import batches_for, evaluate, evaluate_showing, sample_tokens
from mashup.files import disk_errors, move, only_one, refuse_existing, temporary_folder
from mashup.model import Base, applied, load_base, read_change
from mashup.model.change import by_own_names
from mashup.progress import SILENT, Progress
from mashup.task import Task

#: Factors on a merged delta that ``scale="search"`` tries, and those that it goes on to while the
#: largest tried so far is the best: a minimum at the edge of what was tried is none.
SCALES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FARTHER_SCALES = (1.75, 2.0, 2.5, 3.0, 4.0)
#: Nats an answer token that the best parent alone must be ahead, to be taken instead of the merge.
WORTH = 0.01
#: Paired standard errors by which two losses on the sample differ for sure.
NOISE = 2.0


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
        or_best: write the best of the selection alone where that scores better than the merge
            by more than two paired standard errors and more than :data:`WORTH`.
        options: of :func:`mashup.merge`; ``scale="search"`` takes the one of those that
            :func:`search_scale` tries whose merge has the least loss on the sample.

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
            merged = init.manifest["sample"]["loss"]
            init = _measured_merge(alone, base, task, sample, staged, plain, progress)
            names = [score.name for score in selection.chosen]
            init = init.noting(instead_of=behind | {"merge": names, "merge_loss": merged})
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
    if options.get("weights") == "newton":
        used = [s.checkpoint.path for s in selection.chosen if s.checkpoint]
        batches = _batches(base, task, sample)
        options["weights"] = newton(used, base, batches, options.get("method", "linear"))
    loss_of, scales = _loss_of(base, task, sample), {}
    if options.get("scale") == "search":
        scales = search_scale(selection, base, loss_of, staged, options)
        options["scale"] = min(scales, key=lambda one: (scales[one], abs(one - 1)))
    init = merge(selection, output=staged, base=base, measure=loss_of, **options)
    merged = measure(staged, base, task, sample, progress)
    noted = {"scales": {str(scale): loss for scale, loss in scales.items()}} if scales else {}
    about: dict[str, Any] = {"name": task.name, "digest": task.digest}
    about |= {"left_out_rows": task.left_out} if task.left_out else {}
    return init.noting(task=about, sample=_note(selection, merged), **noted)


def search_scale(
    selection: Selection,
    base: Base,
    loss_of: Callable[[Delta], float],
    staged: Path,
    options: Mapping[str, Any],
) -> dict[float, float]:
    """Scale to the loss on the sample of the merge as it would be written.

    All of :data:`SCALES`, then :data:`FARTHER_SCALES` as long as the largest tried is the best.

    Args:
        selection, base: what is merged, for what.
        loss_of: measures a delta, nats an answer token.
        staged: folder to merge into, again and again; gone afterwards.
        options: of the merge.
    """
    losses: dict[float, float] = {}
    for scale in (*SCALES, *FARTHER_SCALES):
        if scale in FARTHER_SCALES and min(losses, key=losses.__getitem__) != max(losses):
            break
        merge(selection, output=staged, base=base, measure=loss_of, **{**options, "scale": scale})
        losses[scale] = loss_of(read_change(base.model, staged))
        shutil.rmtree(staged)
    return losses


def measuring(
    checkpoints: Sequence[str | Path], model: str, task: Task, samples: int
) -> dict[str, Any]:
    """``losses`` of checkpoints on a task's sample, and ``measure``, for :func:`mashup.merge`.

    Raises:
        InputError: a model or a checkpoint that cannot be read.
    """
    base, sample = load_base(model), Sample(samples)
    loss = _loss_of(base, task, sample)
    return {
        "losses": [loss(read_change(base.model, Path(folder))) for folder in checkpoints],
        "measure": loss,
    }


def measured_newton(
    checkpoints: Sequence[str], model: str, task: Task, samples: int, method: str
) -> tuple[float, ...]:
    """:func:`newton` on a task's sample.

    Raises:
        InputError: a model or a checkpoint that cannot be read.
        UsageError: as :func:`newton`.
    """
    base = load_base(model)
    batches = _batches(base, task, Sample(samples))
    return newton([Path(folder) for folder in checkpoints], base, batches, method)


def newton(
    folders: Sequence[Path], base: Base, batches: Sequence[Batch], method: str
) -> tuple[float, ...]:
    """Numbers for ``weights="newton"``: :func:`mashup._score.gradient.newton_weights`.

    Raises:
        UsageError: another method than ``linear``, or parents that are more than plain LoRA.
    """
    where, fix = "`weights` newton", "give `weights` uniform"
    if method != "linear":
        raise UsageError(Problem("weights of another method", where, method, "linear", fix))
    odd = {folder: reason for folder in folders if (reason := uncovered(folder))}
    if odd:
        folder, reason = next(iter(odd.items()))
        raise UsageError(Problem("not plain LoRA", str(folder), reason, f"LoRA for {where}", fix))
    return newton_weights(base, folders, batches)


def _loss_of(base: Base, task: Task, sample: Sample) -> Callable[[Delta], float]:
    """What measures ``base`` with a delta on the sample, in nats a token.

    The sample is tokenized when the first delta comes: most methods measure none.
    """

    @cache
    def batches() -> Sequence[Batch]:
        return _batches(base, task, sample)

    def loss(delta: Delta) -> float:
        with applied(base.model, by_own_names(base.model, delta)):
            return evaluate(base.model, batches()).loss

    return loss


def _batches(base: Base, task: Task, sample: Sample) -> Sequence[Batch]:
    tokens = sample_tokens(base, task, sample.samples, sample.seed, sample.max_length)
    return batches_for(base, tokens)


def measure(
    folder: Path, base: Base, task: Task, sample: Sample, progress: Progress = SILENT
) -> Score:
    """The score of a checkpoint folder on a task's sample, outside any cache."""
    batches = _batches(base, task, sample)
    with applied(base.model, read_change(base.model, folder)):
        return Score(None, evaluate_showing(base.model, batches, progress, "measuring the merge"))


def _best(selection: Selection) -> Score:
    return min(selection.chosen, key=lambda score: score.loss)


def _note(selection: Selection, merged: Score) -> dict[str, Any]:
    scores = selection.scores
    difference, error = merged.against(scores.base)
    best = _best(selection)
    behind, doubt = merged.against(best)
    single = {
        "name": best.name,
        "path": str(best.path),
        "loss": best.loss,
        "difference": behind,
        "standard_error": doubt,
    }
    return {
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
