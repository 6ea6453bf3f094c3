"""The two renamings with which a compacted cache takes the place of the old one, and their completion after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

from layerprobe.probe.filesystem import is_remote


def compaction_folders(path: Path) -> tuple[Path, Path]:
    """Return where a compaction writes the new cache, and where it keeps the old one until it has been replaced."""
    return path.with_name(f".{path.name}.compact-new"), path.with_name(f".{path.name}.compact-old")


def resume_compaction(path: Path) -> None:
    """Make the second of the two renamings of a compaction if the process was killed between them."""
    if is_remote(path):  # is never compacted
        return
    path = path.resolve()
    fresh, old = compaction_folders(path)
    if not path.exists() and fresh.exists() and old.exists():
        fresh.rename(path)
    if path.exists() and old.exists():
        shutil.rmtree(old, ignore_errors=True)
