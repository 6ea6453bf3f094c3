"""A local server that speaks the endpoints of the hub that huggingface_hub uses to create, fill and read repositories.

It keeps commits in memory: a commit is a table of paths, each with the bytes of its file. As on the hub, the server
decides which files are large, large ones are named by SHA-256 and sent before the commit that has them, others by git's
digest.
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
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_local"
LARGE = re.compile(r".*(\.npz|\.parquet|\.safetensors|\.png|/c/.*)$")
REPO = r"/(?:(datasets|models)/)?([\w.-]+/[\w.-]+)"


@dataclass
class Repo:
    """A repository: commits in order, and the branch main at the last."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return a commit by its id, or the last of main."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit and return its id."""
        text = str(len(self.commits)) + "".join(f"{k}{hashlib.sha256(v).hexdigest()}" for k, v in files.items())
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), files))
        return self.commits[-1][0]


@dataclass
class Hub:
    """The server's state, which tests look at and change."""

    url: str = ""
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)  # by kind, such as datasets, and name
    blobs: dict[str, bytes] = field(default_factory=dict)  # large files by SHA-256
    requests: list[tuple[str, str]] = field(default_factory=list)
    fail: Callable[[str, str], bool] = lambda method, path: False  # whether a request ends in an error

    def files(self, kind: str, name: str) -> dict[str, bytes]:
        """Return the files of a repository's last commit."""
        return self.repos[kind, name].commits[-1][1]


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Run the server on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        self.hub.requests.append((method, path))
        if self.hub.fail(method, path):
            return self._send(400, {"error": "the connection was lost"})
        if not path.startswith("/upload/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid credentials"})
        for pattern, answer in ROUTES:
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return answer(self, body, *found.groups())
        return self._send(404, {"error": f"no endpoint {method} {path}"})

    def _chunks(self) -> bytes:
        parts = []
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            parts.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                break
        return b"".join(parts)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _repo(self, kind: str | None, name: str) -> Repo | None:
        found = self.hub.repos.get((kind or "models", name))
        if found is None:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return found

    def _commit_at(self, kind: str | None, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repo = self._repo(kind, name)
        if repo is None:
            return None
        found = repo.at(revision)
        if found is None:
            self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return found

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        key = f"{given.get('type') or 'model'}s", f"{given['organization']}/{given['name']}"
        url = {"url": f"{self.hub.url}/{key[0]}/{key[1]}"}
        if key in self.hub.repos:
            return self._send(409, url | {"error": "You already created this repo"})
        repo = self.hub.repos[key] = Repo(given.get("visibility") == "private" or given.get("private") is True)
        repo.commit({".gitattributes": b""})
        return self._send(200, url)

    def validate(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []} if b"tags" in body else {"errors": [{"message": "no tags"}]})

    def preupload(self, body: bytes, kind: str, name: str, revision: str) -> None:
        if commit := self._commit_at(kind, name, revision):
            del commit
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if LARGE.match(one["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})

    def batch(self, body: bytes, kind: str | None, name: str) -> None:
        if self._repo(kind, name) is None:
            return
        objects = []
        for one in json.loads(body)["objects"]:
            there = one["oid"] in self.hub.blobs
            action = {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}
            objects.append(one | ({} if there else {"actions": action}))
        self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, digest: str) -> None:
        if hashlib.sha256(body).hexdigest() != digest:
            return self._send(400, {"error": "other bytes"})
        self.hub.blobs[digest] = body
        return self._send(200, {})

    def commit(self, body: bytes, kind: str, name: str, revision: str) -> None:
        if (found := self._commit_at(kind, name, revision)) is None:
            return
        files = dict(found[1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.hub.repos[kind, name].commit(files)
        self._send(200, {"commitOid": commit, "commitUrl": f"{self.hub.url}/{kind}/{name}/commit/{commit}"})

    def tree(self, _: bytes, kind: str, name: str, revision: str) -> None:
        if found := self._commit_at(kind, name, revision):
            self._send(200, [_entry(path, content) for path, content in sorted(found[1].items())])

    def info(self, _: bytes, kind: str, name: str, revision: str | None = None) -> None:
        if found := self._commit_at(kind, name, revision or "main"):
            self._send(200, {"id": name, "sha": found[0], "siblings": [{"rfilename": path} for path in found[1]]})

    def resolve(self, _: bytes, kind: str | None, name: str, revision: str, path: str) -> None:
        if (found := self._commit_at(kind, name, revision)) is None:
            return None
        if path not in found[1]:
            return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = found[1][path]
        digest = hashlib.sha256(content).hexdigest() if LARGE.match(path) else _git_digest(content)
        return self._send(200, content, {"ETag": f'"{digest}"', "X-Repo-Commit": found[0]})


def _git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _git_digest(content)}
    if LARGE.match(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["oid"] = _git_digest(digest.encode())
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
    return entry


ROUTES: tuple[tuple[str, Callable[..., None]], ...] = (
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api{REPO}/preupload/([^/]+)", _Handler.preupload),
    (rf"POST {REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /upload/([0-9a-f]{64})", _Handler.upload),
    (rf"POST /api{REPO}/commit/([^/]+)", _Handler.commit),
    (rf"GET /api{REPO}/tree/([^/]+)", _Handler.tree),
    (rf"GET /api{REPO}/revision/([^/]+)", _Handler.info),
    (rf"GET /api{REPO}", _Handler.info),
    (rf"(?:GET|HEAD) {REPO}/resolve/([^/]+)/(.+)", _Handler.resolve),
)
