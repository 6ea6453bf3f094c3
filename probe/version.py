"""The version of this program, with the commit where it runs from a git checkout, and of the format of its caches."""

from __future__ import annotations

import functools
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CACHE_FORMAT_VERSION = 2  # of a cache's arrays and of every file in it; a reader takes no other
DISTRIBUTION = "layerprobe"
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1, or SHA-256 where a repository was made for it
DIGITS = 7  # of a commit that are shown


@functools.cache
def layerprobe_version() -> str:
    """Version and, in a checkout, the commit: ``0.1.0.dev0+g1a2b3c4``.

    It is saved with every plan as provenance and is part of no fingerprint: a new commit does not invalidate a cache.
    """
    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:  # a checkout on the path that was never installed
        number = "0"
    # the repository's folder, if this package runs from a checkout; an installed copy has no .git next to it, even
    # where its environment lies within another checkout
    commit = commit_of(Path(__file__).resolve().parents[1])
    return f"{number}+g{commit[:DIGITS]}" if commit else number


def commit_of(checkout: Path) -> str:
    """Return the full commit hash of a checkout or worktree; "" if it is none or can't be read.

    git is not run: it may not be installed, and ``--version`` should be fast.
    """
    try:
        folder = _git_folder(checkout)
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        found = _resolve_reference(folder, head.removeprefix("ref:").strip()) if head.startswith("ref:") else head
    except (OSError, ValueError):
        return ""
    return found if COMMIT.fullmatch(found) else ""


def _git_folder(checkout: Path) -> Path:
    """Return ``.git``, or the folder that a file of this name points to in worktrees and submodules."""
    git = checkout / ".git"
    if not git.is_file():
        return git
    return checkout / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()


def _resolve_reference(folder: Path, name: str) -> str:
    """Return the commit of a branch; the branches of a worktree lie in the main repository's folder."""
    pointer = folder / "commondir"
    common = folder / pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else folder
    for root in (folder, common):
        if (root / name).is_file():
            return (root / name).read_text(encoding="utf-8").strip()
    for line in (common / "packed-refs").read_text(encoding="utf-8").splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name:
            return commit
    return ""
