"""A finished experiment or comparison as a run of MLflow or Weights & Biases.

The run gets every arm of every target (accuracy, gain over scratch with its interval, steps,
seconds), the curves, the sources that were chosen, the verdict, and the files of the report.
Credentials and servers are those of the tracker: ``MLFLOW_TRACKING_URI``, ``WANDB_API_KEY``, ...
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mashup._report.study import ArmRow, Study, Target
from mashup._report.verdict import make_verdict
from mashup.errors import Problem, UsageError

_PROJECT = "mashup"  # of W&B, where WANDB_PROJECT names none
_BATCH = 1000  # metrics that MLflow takes in one request
_NUMBERS = ("accuracy", "loss", "seconds", "gain", "gain low", "gain high")
_ODD = re.compile(r"[^\w\-. :/]")  # what MLflow does not take in a name


def send(studies: Sequence[Study], files: Sequence[Path], root: Path, tracker: str) -> None:
    """Send each study to a tracker, as one run of its name.

    Args:
        studies: what a report shows.
        files: of the report.
        root: the folder of the report; names in the tracker are relative to it.
        tracker: ``mlflow`` or ``wandb``, which :func:`check_tracker` has found.

    Raises:
        UsageError: it does not take it.
    """
    for study in studies:
        try:
            _TRACKERS[tracker](study, files, root)
        except Exception as error:  # the errors of servers and their clients have no common base
            found = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            fix = "check address, name and login; the report itself is written"
            raise UsageError(Problem("the tracker refuses", tracker, found, fix=fix)) from error


def check_tracker(tracker: str) -> None:
    """Look whether the tracker is known and installed.

    Raises:
        UsageError: it is not.
    """
    if tracker not in _TRACKERS:
        expected = " or ".join(_TRACKERS)
        raise UsageError(Problem("unknown tracker", "`report_to`", tracker, expected))
    try:
        importlib.import_module(tracker)
    except ImportError as error:
        fix = f"pip install 'mashup-learning[{tracker}]'"
        raise UsageError(Problem("unknown tracker", "`report_to`", str(error), fix=fix)) from error


def rows_of(study: Study) -> list[dict[str, Any]]:
    """One row for each arm of each target; gains in points, seconds with everything charged."""
    return [_row(target, arm) for target in _targets(study) for arm in target.arms]


def curves_of(study: Study) -> list[dict[str, Any]]:
    """One row for each evaluation of each run."""
    return [
        {"target": target.task, "arm": arm.name, "seed": run.seed, **point.to_json()}
        for target in _targets(study)
        for arm in target.arms
        for run in arm.runs
        for point in run.points
    ]


def _targets(study: Study) -> Iterator[Target]:
    yield from study.targets
    yield from study.sized


def _row(target: Target, arm: ArmRow) -> dict[str, Any]:
    row: dict[str, Any] = {"target": target.task, "arm": arm.name, "starts from": arm.start}
    row |= {"steps": arm.steps, "accuracy": arm.accuracy, "loss": arm.loss, "seconds": arm.seconds}
    if gain := arm.accuracy_gain:
        points = [100 * value for value in (gain.value, gain.low, gain.high)]
        row |= dict(zip(("gain", "gain low", "gain high"), points, strict=True))
    return row


def _lineage(study: Study) -> dict[str, str]:
    """The base, the sources that each target started from, and the verdict."""
    chosen = {
        target.task: ", ".join(one.name for one in target.sources if one.chosen) or "none"
        for target in _targets(study)
    }
    named = {f"mashup.sources.{task}": names for task, names in chosen.items()}
    return {"mashup.base": study.base, "mashup.verdict": make_verdict(study).sentence} | named


def _metrics(study: Study) -> dict[str, float]:
    return {
        f"{row['target']}/{row['arm']}/{name}": row[name]
        for row in rows_of(study)
        for name in _NUMBERS
        if name in row
    }


def _to_mlflow(study: Study, files: Sequence[Path], root: Path) -> None:
    import mlflow
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    metrics = [Metric(_ODD.sub("-", key), value, now, 0) for key, value in _metrics(study).items()]
    for row in curves_of(study):
        name = _ODD.sub("-", f"{row['target']}/{row['arm']}/seed {row['seed']}")
        ends = {key: value for key, value in row.items() if "_" in key}
        metrics += [Metric(f"{name}/{key}", ends[key], now, row["step"]) for key in ends]
    with mlflow.start_run(run_name=study.name) as run:
        mlflow.set_tags({_ODD.sub("-", key): text for key, text in _lineage(study).items()})
        for start in range(0, len(metrics), _BATCH):
            mlflow.MlflowClient().log_batch(run.info.run_id, metrics[start : start + _BATCH])
        mlflow.log_dict({"rows": rows_of(study)}, "rows.json")
        for path in files:
            inner = path.relative_to(root).parent
            mlflow.log_artifact(str(path), str(Path("report") / inner))


def _to_wandb(study: Study, files: Sequence[Path], root: Path) -> None:
    import wandb

    project = os.environ.get("WANDB_PROJECT", _PROJECT)
    about: dict[str, Any] = dict(_lineage(study))
    with wandb.init(project=project, name=study.name, job_type="mashup", config=about) as run:
        for name, rows in (("arms", rows_of(study)), ("curves", curves_of(study))):
            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = [[row.get(key) for key in columns] for row in rows]
            run.log({name: wandb.Table(columns=columns, data=data)})
        run.summary.update(_metrics(study))
        artifact = wandb.Artifact(re.sub(r"[^\w\-.]", "-", study.name), "report")
        for path in files:
            artifact.add_file(str(path), str(path.relative_to(root)))
        run.log_artifact(artifact)


_TRACKERS: Mapping[str, Callable[[Study, Sequence[Path], Path], None]] = {
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
}
