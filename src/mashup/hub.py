"""The Hugging Face Hub: what its errors mean, how long to wait for it, and parts of files.

Everything goes through ``huggingface_hub``, which knows the endpoint, the token and the proxy.
Its own retries of an unreachable host take 23 seconds; :func:`patiently` gives up after two.

A message never holds what a URL or a header may hold, since that may be a token or a signature.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mashup.errors import InputError, Problem

T = TypeVar("T")

#: owner/name, as the Hub allows it; no part may be ``.`` or ``..``.
REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(
    r"(?:.*/)?models--(?P<repo>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})(?P<inner>/.+)?"
)
_WAITS = (0.5, 1.5)  # seconds before the second and the third try
_LONGEST = 90.0  # seconds that a server may ask us to wait
_BUSY = (429, 500, 502, 503, 504)
_TIMEOUT = 10  # seconds for an answer to begin
_LOGIN = "log in again with 'hf auth login', or set HF_TOKEN"


@dataclass(frozen=True)
class Snapshot:
    """A folder of a repository at one commit: ``repo`` is owner/name, ``inner`` a path or ""."""

    repo: str
    commit: str
    inner: str = ""

    def __str__(self) -> str:
        """``hub:owner/name@commit/inner``, which names the same bytes for ever."""
        return f"hub:{self.repo}@{self.commit}" + (f"/{self.inner}" if self.inner else "")

    @property
    def path(self) -> Path:
        """Its place below the folder of a cache of the Hub."""
        return Path(f"models--{self.repo.replace('/', '--')}", "snapshots", self.commit, self.inner)


def snapshot_of(path: Path) -> Snapshot | None:
    """What a folder of a cache of the Hub is a copy of; None for another folder."""
    match = _SNAPSHOT.fullmatch(path.absolute().as_posix())
    if match is None:
        return None
    repo = match["repo"].replace("--", "/", 1)
    return Snapshot(repo, match["commit"], (match["inner"] or "").strip("/"))


def cache_folder() -> Path:
    """The folder in which ``huggingface_hub`` keeps repositories."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether the user asked for no requests at all (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Without requests, for what would try an unreachable Hub again and again."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and bars of ``huggingface_hub``: what fails is reported once, by us."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger, had_bars = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    if had_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(before)
        if had_bars:
            enable_progress_bars()


def patiently(request: Callable[[], T]) -> T:
    """What ``request`` returns, tried three times where waiting may help.

    A busy server is waited for as long as it says (``Retry-After``), up to 90 seconds. A
    connection that is cut, or not made, is tried again. A host that does not answer in time is not.

    Raises:
        Exception: what the last try raised; :func:`problem_of` says what it means.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    for wait in (*_WAITS, None):
        try:
            return request()
        except HfHubHTTPError as error:
            asked = _retry_after(error)
            if wait is None or _status(error) not in _BUSY or asked > _LONGEST:
                raise
            time.sleep(asked or wait)
        except HTTPError as error:
            if wait is None or "Timeout" in type(error).__name__:
                raise
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _status(error: Any) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _retry_after(error: Any) -> float:
    """Seconds that a server asks for; 0 where it does not say. The Hub's own header has ``t=``."""
    headers = error.response.headers
    match = re.search(r"\bt=(\d+)", headers.get("ratelimit", "")) or re.fullmatch(
        r"\s*(\d+)\s*", headers.get("retry-after", "")
    )
    return float(match[1]) if match else 0.0


def faults() -> tuple[type[Exception], ...]:
    """What ``huggingface_hub`` raises for a request; some are OSErrors, but not of the disk."""
    from huggingface_hub import errors

    return (
        *(errors.HTTPError, errors.EntryNotFoundError, errors.FileMetadataError),
        errors.OfflineModeIsEnabled,
    )


def is_unreachable(error: BaseException) -> bool:
    """Whether an error is of the way to the Hub, or of its absence, not of what was asked for."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):
        return _status(error) >= 500
    return isinstance(error, HTTPError | ConnectionError | LocalEntryNotFoundError)


def problem_of(error: Exception, where: str) -> Problem:
    """What an error of ``huggingface_hub`` means, in one sentence and without any secret.

    Args:
        error: that a request raised.
        where: what was asked for: a source, a repository or a file.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = _status(error)
    what, found, fix, code = "the Hub cannot be used", type(error).__name__, "try again later", ""
    if isinstance(error, errors.GatedRepoError):
        what, found = "gated repository", "the Hub gives it only to those who were granted access"
        fix, code = "ask for access on its page, then log in with 'hf auth login'", "hub.gated"
    elif isinstance(error, errors.DisabledRepoError):
        what, found, code = "repository is disabled", "the Hub has disabled it", "hub.disabled"
        fix = "choose another one"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what, found = "no such repository", "the Hub has none of this name that you may read"
        fix, code = f"check the name; for a private repository {_LOGIN}", "hub.missing"
    elif isinstance(error, errors.RevisionNotFoundError):
        what, found = "revision is gone", "the Hub has no such revision"
        fix, code = "give a revision that its page lists, or none for the newest", "hub.revision"
    elif isinstance(error, errors.EntryNotFoundError) and status:
        what, found, code = "file is gone", "the Hub has no such file", "hub.file"
        fix = "scan the source again"
    elif status in (401, 403):
        what, found = "the Hub refuses the token", f"status {status}: expired, or without the right"
        fix, code = _LOGIN, "hub.token"
    elif status == 404:
        what, found, fix = "not on the Hub", "the Hub knows no such name", "check the name"
        code = "hub.missing"
    elif status == 429:
        wait = _retry_after(error)
        found = "status 429: too many requests" + (f"; wait {wait:.0f} s" if wait else "")
        what, code = "the Hub limits requests", "hub.limit"
        fix = "run the same command later; what was read is remembered. A login raises the limit"
    elif status:
        found, code = f"status {status}", "hub.status"
    elif isinstance(error, errors.FileMetadataError):
        found, code = "an answer that is not one of a Hub", "hub.foreign"
        fix = "check HF_ENDPOINT and the proxy"
    elif is_offline():
        what, found, code = (
            "the Hub cannot be used",
            "it is offline (HF_HUB_OFFLINE)",
            "hub.offline",
        )
        fix = "unset HF_HUB_OFFLINE, or use what is in the cache"
    elif is_unreachable(error):
        what, found = "the Hub cannot be reached", _connection(error)
        fix, code = "check the network, the proxy and HF_ENDPOINT", "hub.unreachable"
    return Problem(what, where, found, fix=fix, code=code)


def _connection(error: BaseException) -> str:
    name = type(error).__name__
    if "Timeout" in name:
        return "it does not answer in time"
    return "no connection" if "Connect" in name else f"the connection was cut ({name})"


def get_json(path: str, **query: Any) -> Iterator[Any]:
    """Answers of the Hub's API (https://huggingface.co/docs/hub/api), a page each.

    ``huggingface_hub`` asks for pages with its long retries, so we ask ourselves.

    Args:
        path: below ``/api/``.
        query: parameters; a list is given once for each value.

    Raises:
        Exception: as :func:`patiently`.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def request() -> Any:
        given = None if more else query
        response = get_session().get(
            f"{constants.ENDPOINT}{where}{more}",
            params=given,
            headers=build_hf_headers(),
            follow_redirects=True,
            timeout=_TIMEOUT,
        )
        hf_raise_for_status(response)
        return response

    where, more = f"/api/{path}", ""
    while where:
        response = patiently(request)
        yield response.json()
        link = urlsplit(response.links.get("next", {}).get("url", ""))
        where, more = link.path, f"?{link.query}"  # of this host: the token goes nowhere else


@dataclass(frozen=True)
class Part:
    """The first bytes of a file, and the size of all of it."""

    content: bytes
    size: int


def read_start(snapshot: Snapshot, name: str, count: int) -> Part:
    """The first ``count`` bytes of a file of a repository, by an HTTP range request.

    Args:
        snapshot: repository and commit.
        name: path in the repository.
        count: bytes; a server without ranges is read no further.

    Raises:
        InputError: the answer does not say how long the file is.
        Exception: as :func:`patiently`.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = hf_hub_url(snapshot.repo, name, revision=snapshot.commit)

    def request() -> Part:
        headers = build_hf_headers() | {
            "Range": f"bytes=0-{count - 1}",
            "Accept-Encoding": "identity",
        }
        with get_session().stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT
        ) as response:
            if response.status_code == 416:  # of an empty file there is no first byte
                return Part(b"", 0)
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            content = b""
            for piece in response.iter_bytes(1 << 16):
                content += piece
                if len(content) >= count:
                    break
            return Part(content[:count], _whole(response, f"{snapshot}/{name}"))

    return patiently(request)


def _whole(response: Any, where: str) -> int:
    """Bytes of the whole file."""
    ranged = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("content-range", ""))
    length = ranged[1] if ranged else response.headers.get("content-length", "")
    if (response.status_code == 206 and not ranged) or not length.isdecimal():
        fix = "check HF_ENDPOINT: it may not be a Hub"
        raise InputError(Problem("answer without a size", where, "no length", "a length", fix))
    return int(length)
