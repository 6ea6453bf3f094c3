"""layerprobe.json: what a repository holds, each file with its size and digest."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import has_content
from layerprobe.probe.version import layerprobe_version
from layerprobe.sharing.source import CACHE, RUN, TRAINED, SharedFile, Source

LISTING, FORMAT_VERSION = "layerprobe.json", 1
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # which no file has, or a terminal would follow
SAFE_NAME = re.compile(r"[^/\\]{1,200}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ListedFile:
    """A file of a repository."""

    path: str  # with /, relative to the repository
    bytes: int
    sha256: str  # 64 hex digits

    def matches(self, file: Path) -> bool:
        """Return whether a file is there and has this size and digest."""
        return has_content(file, size=self.bytes, sha256=self.sha256)


@dataclass(frozen=True)
class Listing:
    """The content of a layerprobe.json."""

    kind: str  # cache, run or trained regressor
    name: str  # of the folder that was pushed
    fingerprint: str  # of the run, or of the cache's plan
    files: tuple[ListedFile, ...]

    @property
    def prefix(self) -> str:
        """Folder in the repository that becomes the pulled one; empty where that is the whole repository."""
        return f"{self.name}/" if self.kind == CACHE else ""


def listing_file(source: Source) -> SharedFile:
    """Return layerprobe.json of a source."""
    content = {
        "format_version": FORMAT_VERSION,
        "layerprobe_version": layerprobe_version(),
        "kind": source.kind,
        "name": source.name,
        "fingerprint": source.fingerprint,
        "files": [{"path": f.path, "bytes": f.size, "sha256": f.sha256} for f in source.files],
    }
    return SharedFile.of(LISTING, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_listing(file: Path, *, repository: str) -> Listing:
    """Read a layerprobe.json, which others may have written.

    Args:
        file: its copy
        repository: where it is from, for errors

    Raises:
        InputError: if it is damaged, of another format version, or names a file outside of the folder
    """
    try:
        content = json.loads(file.read_bytes())
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                "LP886",
                f"{LISTING} of {repository} has format version {version}; this version of layerprobe reads "
                f"{FORMAT_VERSION}. Update layerprobe, or ask for another push.",
            )
        files = tuple(ListedFile(_text(f["path"]), int(f["bytes"]), _text(f["sha256"])) for f in content["files"])
        found = Listing(_text(content["kind"]), _text(content["name"]), _text(content["fingerprint"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("LP886", f"{LISTING} of {repository} is damaged ({error!r}). Ask for another push.") from error
    if found.kind not in (CACHE, RUN, TRAINED) or not _is_name(found.name):
        raise InputError("LP886", f"{LISTING} of {repository} names no run and no cache. Ask for another push.")
    for listed in files:
        if not _is_inside(listed.path, found.prefix) or not DIGEST.fullmatch(listed.sha256):
            raise InputError(
                "LP886",
                f"{LISTING} of {repository} names {listed.path!r}, which is no file of the {found.kind}. Nothing was "
                "written; do not trust this repository.",
            )
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _is_name(name: str) -> bool:
    return bool(SAFE_NAME.fullmatch(name)) and name not in (".", "..") and not UNPRINTABLE.search(name)


def _is_inside(path: str, prefix: str) -> bool:
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and not any(part in ("..", ".") or "\\" in part or ":" in part for part in parts)
    plain = plain and not UNPRINTABLE.search(path) and not path.startswith("/")
    return bool(parts) and plain and path.startswith(prefix)
