"""Several experiments side by side: other models, or other settings of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mashup._report import numbers
from mashup._report.experiment.cells import Titled, gain, loss_gain, p_value, percent, whole
from mashup._report.experiment.drawing import Drawing
from mashup._report.experiment.figures import models_drawing
from mashup._report.experiment.summary import Study
from mashup._report.summary import MASHUP, SCRATCH
from mashup._report.tables import Cell, Table


@dataclass(frozen=True)
class Models:
    """The table and the picture."""

    titled: Titled
    drawing: Drawing


def side_by_side(studies: Sequence[Study]) -> Models | None:
    """None for a single experiment."""
    if len(studies) < 2:
        return None
    return Models(models_table(studies), models_drawing(studies))


def models_table(studies: Sequence[Study]) -> Titled:
    """One row an experiment: scratch, mashup, their difference."""
    columns = (
        *("Experiment", "Base", "Targets", "Seeds", "Scratch", "mashup", "Gain, points"),
        *("p", "Loss, nats", "Reached scratch's dev loss"),
    )
    rows = tuple(_model(study) for study in studies)
    note = "p: Wilcoxon's test over the targets of the experiment, not corrected across rows."
    return Titled("models", "Experiments side by side", Table(columns, rows, words=2), note)


def _model(study: Study) -> tuple[Cell, ...]:
    subject = study.contrast(MASHUP)
    base = study.base.rstrip("/").rsplit("/", 1)[-1]
    return (
        Cell(study.name),
        Cell(base),
        whole(len(study.targets)),
        whole(len(study.seeds)),
        _accuracy(study, SCRATCH),
        _accuracy(study, MASHUP),
        gain(subject.gain if subject else None),
        p_value(subject.p if subject else None),
        loss_gain(subject.loss if subject else None),
        _reached(study),
    )


def _accuracy(study: Study, arm: str) -> Cell:
    rows = study.rows(arm)
    return percent(fmean(row.accuracy for row in rows)) if rows else Cell(numbers.NONE)


def _reached(study: Study) -> Cell:
    runs = [run for row in study.rows(MASHUP) for run in row.runs]
    known = [run.values["fair_parity_steps"] for run in runs if "fair_parity_steps" in run.values]
    reached = sum(steps is not None for steps in known)
    return Cell(f"{reached} of {len(known)} runs", value=reached) if known else Cell(numbers.NONE)
