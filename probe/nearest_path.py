"""The file that someone meant: the one whose path is nearest to a path at which there is no file."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from layerprobe.probe.identities import SimilarNames, likeness

MOST_PARTS = 32  # of a path that are looked up


@dataclass(frozen=True)
class NearestFile:
    """A file that exists and resembles a path at which there is none."""

    path: Path
    difference: str  # what differs, such as "case"; a clause for messages


class NearestPaths:
    """Files nearest to missing paths; every folder is listed once."""

    def __init__(self, endings: Collection[str]) -> None:
        """Set the endings that a file with another ending than the missing one can have."""
        self._endings = endings
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, written: str, folder: Path) -> NearestFile | None:
        """Return the file nearest to a path, or None where nothing resembles it.

        Args:
            written: the path as a user wrote it; there is no file
            folder: where relative paths start
        """
        if not written.strip():
            return None
        return (
            self._after_a_plain_change(written, folder)
            or self._resembling(folder / written)
            or self._resembling(folder / written.replace("\\", "/"), "a backslash")
        )

    def _after_a_plain_change(self, written: str, folder: Path) -> NearestFile | None:
        slashes = written.replace("\\", "/")
        candidates = [(folder / written.strip(), "a blank")]
        if written.startswith("~"):
            candidates.append((Path(os.path.expanduser(slashes)), "~, which only a shell expands"))  # noqa: PTH111
        if slashes != written:
            candidates.append((folder / slashes, "a backslash"))
        candidates.append((Path(slashes), "the start: relative paths start at the manifest's folder"))
        parts = PurePosixPath(slashes).parts
        for first in range(1, min(len(parts), MOST_PARTS)):  # a path of another machine, or from another folder
            candidates.append((folder.joinpath(*parts[first:]), "the folders before it"))
        return next((NearestFile(path, how) for path, how in candidates if _is_file(path)), None)

    def _resembling(self, path: Path, how: str = "") -> NearestFile | None:
        """Walk down from the root and take, where a part does not exist, the one that looks like it."""
        found, changes = Path(path.anchor), [how] if how else []
        parts = path.parts[1:] if path.anchor else path.parts
        for number, part in enumerate(parts, start=1):
            if part == ".." or _exists(found / part):
                found = found / part
                continue
            name = self._entry_like(found, part, last=number == len(parts))
            if name is None:
                return None
            changes.append(_how_they_differ(part, name))
            found = found / name
        return NearestFile(found, " and ".join(dict.fromkeys(changes))) if changes and _is_file(found) else None

    def _entry_like(self, folder: Path, part: str, *, last: bool) -> str | None:
        entries = self._entries(folder)
        same = entries.get(likeness(part), [])
        if not same and last:  # another ending, or none
            same = [name for name in entries.get(f"stem {likeness(Path(part).stem)}", []) if name != part]
        return same[0] if same else None

    def _entries(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            entries: dict[str, list[str]] = {}
            try:
                names = sorted(os.listdir(folder))  # noqa: PTH208 - a hundred thousand paths are slow to make
            except OSError:  # no folder, or one that may not be read: nothing is known of what is in it
                names = []
            for name in names:
                entries.setdefault(likeness(name), []).append(name)
                stem, ending = os.path.splitext(name)  # noqa: PTH122
                if ending.lower() in self._endings:
                    entries.setdefault(f"stem {likeness(stem)}", []).append(name)
            self._listed[folder] = entries
        return self._listed[folder]


def missing_file(path: Path, *, endings: Collection[str] = ()) -> str:
    """Return a clause about a missing file of the command line: that it does not exist, and which one is nearest.

    Args:
        path: at which there is no file
        endings: that the nearest file can have in place of the path's own, such as ``.parquet`` in place of ``.csv``
    """
    found = NearestPaths(endings).find(str(path), Path.cwd())
    if found is None:
        return f"{path} does not exist"
    return f"{path} does not exist, but {found.path} does (it differs in {found.difference})"


def _how_they_differ(written: str, found: str) -> str:
    if likeness(written) != likeness(found):
        return "the ending"
    return SimilarNames((written, found), (1, 1)).difference


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for the file system
        return False
