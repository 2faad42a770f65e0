"""Checkpoints that runs left with a tracker: MLflow's artifacts, W&B's model artifacts and files.

Trackers have no way to read a part of a file, so a scan downloads what it lists, once a run, into
a folder of our own. What lies on this machine already (a file store, an offline run) is linked.
The metrics of a run are written next to a checkpoint that has none.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mashup.checkpoint.history import MANIFEST, RESULTS
from mashup.checkpoint.read import kind_of
from mashup.errors import InputError, Problem, UsageError
from mashup.files import digest_of, user_cache
from mashup.outputs import (
    disk_errors,
    make_folder,
    move,
    only_one,
    temporary_folder,
    to_json,
    write_text,
)
from mashup.progress import Progress

#: For the clients' own retries, which take minutes by default; what the user set stays.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_HTTP_TIMEOUT": "20",
    "WANDB_INIT_TIMEOUT": "20",
}
_MOST = 10_000  # artifacts of a run that are looked through
_FINISHED = ("FINISHED", "FAILED", "KILLED", "finished", "crashed", "failed", "killed")


def bring(source: str, progress: Progress) -> tuple[Path, tuple[str, ...]]:
    """The folder with the checkpoints of ``mlflow:EXPERIMENT`` or ``wandb:ENTITY/PROJECT``.

    Args:
        source: also ``wandb:FOLDER``, where W&B wrote offline runs.
        progress: where to show a bar.

    Returns:
        The folder, and notes on runs without a checkpoint.

    Raises:
        UsageError: the client is not installed, or nothing is named.
        InputError: no such experiment or project, or the tracker cannot be reached.
    """
    kind, _, name = source.partition(":")
    if not name:
        expected = "mlflow:EXPERIMENT" if kind == "mlflow" else "wandb:ENTITY/PROJECT or a folder"
        raise UsageError(Problem("no such source", source, "no name", expected))
    home = user_cache() / "sources" / kind / f"{_plain(name)}-{digest_of(source)[:8]}"
    with disk_errors(home):
        make_folder(home)
    with only_one(home, wait=True), _impatient():
        if kind == "wandb" and Path(name).is_dir():
            without = _link_offline(Path(name), home)
        else:
            list_runs = _mlflow if kind == "mlflow" else _wandb
            without = _bring_all(source, list_runs(source, name), home, progress)
    if not without:
        return home, ()
    return home, (f"{len(without):,} runs without a checkpoint: {without[0]}",)


class _Run:
    """A run of a tracker.

    Attributes:
        name: for people, and for the folder.
        is_over: whether nothing is added to it any more.
        metrics: its last values.
        download: writes its checkpoints into a folder; gives a folder of this machine instead
            where they are there already.
    """

    def __init__(
        self,
        name: str,
        key: str,
        is_over: bool,
        metrics: Mapping[str, Any],
        download: Callable[[Path], Path | None],
    ) -> None:
        self.name, self.is_over, self.metrics, self.download = name, is_over, metrics, download
        self.folder = f"{_plain(name)}-{_plain(key)[:8]}"


def _bring_all(source: str, runs: Iterable[_Run], home: Path, progress: Progress) -> list[str]:
    """Names of the runs without a checkpoint; the others are in ``home`` afterwards."""
    with _said(source):
        found = list(runs)
    without = []
    with progress.bar("fetching runs", len(found)) as advance:
        for run in found:
            with _said(f"{source}, run {run.name}"):
                if not _bring(run, home / run.folder):
                    without.append(run.name)
            advance()
    return without


def _bring(run: _Run, place: Path) -> bool:
    """Whether a run has a checkpoint, which is at ``place`` then."""
    if place.exists() and run.is_over:
        return True
    with disk_errors(place), temporary_folder(place) as part:
        made = part / place.name
        made.mkdir()
        here = run.download(made)
        if here is None and not any(made.iterdir()):
            return False
        if here is None:
            _note_metrics(made, run.metrics)
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)
        if here is None:
            move(made, place)
        else:
            place.symlink_to(here, target_is_directory=True)
    return True


def _note_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Metrics of a run next to each of its checkpoints that has none."""
    numbers = {k.replace("/", "_"): v for k, v in metrics.items() if isinstance(v, int | float)}
    for here, _, names in os.walk(folder):
        if kind_of(names) and numbers and not {RESULTS, MANIFEST} & set(names):
            write_text(Path(here, RESULTS), to_json(numbers, allow_nan=True))


def _plain(text: str) -> str:
    """A text as the name of a folder: it can lead nowhere."""
    return re.sub(r"[^\w-]+", "-", text, flags=re.ASCII).strip("-")[:80] or "run"


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """With short retries; quiet, since what fails is said once."""
    given = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ |= given
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _said(where: str) -> Iterator[None]:
    """What a client raises, as a problem without addresses: they may hold a password."""
    try:
        yield
    except (InputError, UsageError, OSError) as error:
        if not isinstance(error, ConnectionError) and "requests" not in type(error).__module__:
            raise
        raise InputError(_refused(where, error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "wandb", "requests"):
            raise
        raise InputError(_refused(where, error)) from error


def _refused(where: str, error: Exception) -> Problem:
    text = " ".join(str(error).split())
    text = re.sub(r"\S*://\S*", "...", text)[:200]
    fix = "check the address, the name and the login of the tracker"
    return Problem("the tracker refuses", where, f"{type(error).__name__}: {text}", fix=fix)


def _missing_client(package: str) -> UsageError:
    fix = f"pip install 'mashup-learning[{package}]'"
    return UsageError(Problem(f"{package} is not installed", f"{package}:...", fix=fix))


# ---------------------------------------------------------------- MLflow


def _mlflow(source: str, name: str) -> Iterator[_Run]:
    """Runs of an experiment, by its name or number, at ``MLFLOW_TRACKING_URI``."""
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise _missing_client("mlflow") from None
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None and name.isdecimal():
        experiment = client.get_experiment(name)
    if experiment is None:
        found, fix = "the tracking server has none of this name", "check MLFLOW_TRACKING_URI"
        raise InputError(Problem("no such experiment", source, found, fix=fix))
    token: str | None = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=500, page_token=token)
        for run in page:
            info = run.info
            yield _Run(
                info.run_name or info.run_id, info.run_id, info.status in _FINISHED,
                run.data.metrics, _mlflow_download(client, info.run_id, info.artifact_uri),
            )  # fmt: skip
        token = page.token
        if not token:
            return


def _mlflow_download(client: Any, run: str, uri: str) -> Callable[[Path], Path | None]:
    def download(into: Path) -> Path | None:
        local = _local(uri)
        if local is not None:
            holds = any(kind_of([*folders, *names]) for _, folders, names in os.walk(local))
            return local if holds else None
        for folder in _artifact_folders(client, run):
            client.download_artifacts(run, folder, str(into))
        return None

    return download


def _local(uri: str) -> Path | None:
    """The folder of an artifact store on this machine, None for another one."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path) if parts.scheme else uri)
    return path if path.is_dir() else None


def _artifact_folders(client: Any, run: str) -> Iterator[str]:
    """Folders of a run's artifacts that hold a checkpoint."""
    folders, seen = [""], 0
    while folders and seen < _MOST:
        folder = folders.pop()
        entries = client.list_artifacts(run, folder or None)
        seen += len(entries)
        names = [PurePosixPath(entry.path).name for entry in entries]
        if kind_of(names):
            yield folder
        else:
            folders += [entry.path for entry in entries if entry.is_dir]


# ---------------------------------------------------------------- W&B


def _wandb(source: str, name: str) -> Iterator[_Run]:
    """Runs of ``ENTITY/PROJECT`` with their artifacts of the type ``model``."""
    try:
        import wandb
    except ImportError:
        raise _missing_client("wandb") from None
    if not _has_key():  # else the client would ask for one on the terminal
        fix = "log in with 'wandb login', or set WANDB_API_KEY; offline runs: wandb:FOLDER"
        raise InputError(Problem("no login to W&B", source, "no key", fix=fix))
    for run in wandb.Api(timeout=20).runs(name):
        summary = dict(run.summary.items())
        yield _Run(
            run.name or run.id, run.id, run.state in _FINISHED, summary, _wandb_download(run)
        )


def _has_key() -> bool:
    """Whether W&B's client will find a key: in the environment, or where its login puts it."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        if netrc.netrc().authenticators(host):
            return True
    return bool(os.environ.get("WANDB_API_KEY"))


def _wandb_download(run: Any) -> Callable[[Path], Path | None]:
    def download(into: Path) -> Path | None:
        for artifact in run.logged_artifacts():
            if artifact.type == "model":
                artifact.download(root=str(into / _plain(artifact.name)))
        return None

    return download


def _link_offline(folder: Path, home: Path) -> list[str]:
    """Link the files of offline runs (``wandb/offline-run-*``) below a folder."""
    for old in home.iterdir():
        if old.is_symlink():
            old.unlink()
    without = []
    runs = {*folder.glob("offline-run-*"), *folder.glob("run-*"), *folder.glob("wandb/*run-*")}
    for run in sorted(runs):
        files = run / "files"
        if any(kind_of([*folders, *names]) for _, folders, names in os.walk(files)):
            (home / run.name).symlink_to(files.resolve(), target_is_directory=True)
        else:
            without.append(run.name)
    return without
