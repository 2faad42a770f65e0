"""A small HTTP server that speaks the few endpoints of the Hub that we use, with its faults.

What it answers follows https://huggingface.co/docs/hub/api and what ``huggingface_hub`` expects:
``X-Repo-Commit``, ``ETag``, ``X-Linked-Etag`` and ``X-Linked-Size`` on a redirect for files of
git-lfs, ``X-Error-Code`` for what is missing, ``Link`` for the next page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

_PAGE = 2  # repositories of one page


@dataclass
class Repo:
    """A repository: name of a file to its bytes."""

    files: dict[str, bytes]
    commit: str
    tags: list[str] = field(default_factory=list)
    gated: bool = False


@dataclass
class Server:
    """What the server has, and what it was asked for."""

    repos: dict[str, Repo] = field(default_factory=dict)
    collections: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    #: Looks at a request first; what it returns True for is answered.
    fault: Callable[[Any], bool] = lambda handler: False
    ranges: bool = True
    pushed: dict[str, bytes] = field(default_factory=dict)  # files of the last commit
    url: str = ""
    store: str = ""  # the same server under another name, as the Hub keeps large files elsewhere

    def add(self, name: str, folder: Path, *tags: str, **more: Any) -> Repo:
        """A repository with the files below a folder; its commit is made of their content."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        text = b"".join(files.values()) + name.encode()
        self.repos[name] = Repo(files, hashlib.sha1(text).hexdigest(), list(tags), **more)
        return self.repos[name]

    def asked(self, text: str, method: str = "GET") -> list[str]:
        """Paths of requests that hold a text."""
        return [path for how, path, _ in self.requests if how == method and text in path]


class _Handler(BaseHTTPRequestHandler):
    hub: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path, dict(self.headers)))
        if self.hub.fault(self):
            return
        where = urlsplit(self.path)
        path, query = unquote(where.path), parse_qs(where.query)
        if path == "/api/whoami-v2":
            self.send({"name": "me", "type": "user", "auth": {"accessToken": {}}})
        elif path == "/api/models":
            self._models(query)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._model(match[1], match[2])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            files = self.hub.repos[match[1]].files
            self.send([
                {"type": "file", "oid": hashlib.sha1(c).hexdigest(), "size": len(c), "path": name}
                for name, c in files.items()
            ])  # fmt: skip
        elif match := re.fullmatch(r"/api/collections/(.+)", path):
            self._collection(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        elif match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            self._blob(match[1])
        else:
            self.refuse(404)

    def do_POST(self) -> None:
        """Make a repository, say how files are to be sent, take a commit."""
        self.hub.requests.append((self.command, self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.fault(self):
            return
        if self.path == "/api/repos/create":
            name = json.loads(body)["name"]
            owner = json.loads(body).get("organization") or "me"
            self.send({"url": f"{self.hub.url}/{owner}/{name}", "name": f"{owner}/{name}"})
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            self.send({"files": [{"path": name, **how} for name in names]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.hub.pushed = {f["path"]: base64.b64decode(f["content"]) for f in files}
            url = f"{self.hub.url}/me/x/commit/{'0' * 40}"
            self.send({"commitUrl": url, "commitOid": "0" * 40, "success": True})
        else:
            self.send({})

    def refuse(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        """Answer with an error of the Hub."""
        known = {"X-Error-Code": code, "X-Error-Message": message} if code or message else {}
        self.send({"error": message or code}, status, {**known, **headers})

    def send(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send_bytes(json.dumps(value).encode(), status, headers)

    def send_bytes(
        self, content: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _info(self, name: str) -> dict[str, Any]:
        repo = self.hub.repos[name]
        return {
            "_id": "0", "id": name, "modelId": name, "sha": repo.commit, "private": False,
            "gated": "auto" if repo.gated else False, "tags": repo.tags, "downloads": 0,
            "siblings": [{"rfilename": file} for file in repo.files],
        }  # fmt: skip

    def _models(self, query: dict[str, list[str]]) -> None:
        author, wanted = query.get("author", [""])[0], query.get("filter", [])
        names = [
            name
            for name, repo in sorted(self.hub.repos.items())
            if (not author or name.split("/")[0] == author) and set(wanted) <= set(repo.tags)
        ]
        start = int(query.get("cursor", ["0"])[0])
        rest = self.path.split("&cursor=")[0]
        more = {"Link": f'<{self.hub.url}{rest}&cursor={start + _PAGE}>; rel="next"'}
        page = names[start : start + _PAGE]
        self.send(list(map(self._info, page)), 200, more if names[start + _PAGE :] else {})

    def _model(self, name: str, revision: str | None) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self.refuse(404, "RepoNotFound")
        elif revision not in (None, "main", repo.commit):
            self.refuse(404, "RevisionNotFound")
        else:
            self.send(self._info(name))

    def _collection(self, slug: str) -> None:
        if slug not in self.hub.collections:
            self.refuse(404)
            return
        items = [
            {"_id": str(place), "id": name, "type": "model", "position": place}
            for place, name in enumerate(self.hub.collections[slug])
        ]
        owner = {"name": "owner", "type": "user"}
        self.send({
            "slug": slug, "title": "t", "owner": owner, "items": items, "position": 0,
            "lastUpdated": "2026-01-01T00:00:00.000Z", "private": False, "theme": "blue",
            "upvotes": 0,
        })  # fmt: skip

    def _file(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self.refuse(404, "RepoNotFound")
        elif repo.gated:
            self.refuse(403, "GatedRepo")
        elif revision not in ("main", repo.commit):
            self.refuse(404, "RevisionNotFound")
        elif file not in repo.files:
            self.refuse(404, "EntryNotFound", **{"X-Repo-Commit": repo.commit})
        else:
            content = repo.files[file]
            head = {"X-Repo-Commit": repo.commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            if not file.endswith(".safetensors"):
                self._ranged(content, head)
                return
            digest = hashlib.sha256(content).hexdigest()
            head |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self.send_bytes(b"", 302, head | {"Location": f"{self.hub.store}/lfs/{digest}"})

    def _blob(self, digest: str) -> None:
        every = (content for repo in self.hub.repos.values() for content in repo.files.values())
        content = next((c for c in every if hashlib.sha256(c).hexdigest() == digest), None)
        if content is None:
            self.refuse(404)
        else:
            self._ranged(content, {"ETag": f'"{digest}"'})

    def _ranged(self, content: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or not self.hub.ranges:
            self.send_bytes(content, 200, headers)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if start >= len(content):
            self.send_bytes(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
            return
        span = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self.send_bytes(content[start : end + 1], 206, headers | span)


@contextmanager
def serving(cache: Path) -> Iterator[Server]:
    """A server that ``huggingface_hub`` talks to in the block, with a cache of its own."""
    from huggingface_hub import close_session, constants

    hub = Server()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        pytest.MonkeyPatch.context() as m,
    ):
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        hub.store = hub.url.replace("127.0.0.1", "localhost")
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        m.setattr(constants, "ENDPOINT", hub.url)
        m.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        m.setattr(constants, "HF_HUB_OFFLINE", False)
        m.setattr(constants, "HF_HUB_DISABLE_XET", True)
        m.setattr(constants, "HF_HUB_CACHE", str(cache / "theirs"))
        m.setattr("mashup.hub._WAITS", (0.01, 0.02))
        m.setenv("XDG_CACHE_HOME", str(cache / "ours"))
        m.setenv("HF_TOKEN", "hf_secret")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        close_session()  # it refuses requests where it was made offline
        try:
            yield hub
        finally:
            server.shutdown()
            close_session()
