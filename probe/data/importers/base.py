"""What every importer gives: a table, its header, what was dropped and why, what is to be remarked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.schema import Header, Target
from layerprobe.probe.data.write import write_manifest
from layerprobe.probe.exceptions import InputError

SAM = {  # self-assessment manikins, by their order in most papers
    "arousal": "very calm to very active",
    "valence": "very negative to very positive",
    "dominance": "very weak to very strong",
}
GENDERS = {"M": "male", "F": "female"}
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus")
LFS_POINTER = 200  # bytes; a large file that git has not fetched is smaller, a sound is not


@dataclass(frozen=True)
class Imported:
    """A corpus read, before it is written."""

    table: pd.DataFrame  # with absolute paths
    header: Header
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> utterances
    warnings: list[str] = field(default_factory=list)


def audio_files_below(folder: Path) -> dict[str, Path]:
    """Sound files of a folder and those below it by name without ending, in one walk; none is opened.

    Files that begin with ``._`` are another system's notes and left out. Of two with one name the first is taken.
    """
    found: dict[str, Path] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            stem, ending = os.path.splitext(name)  # noqa: PTH122 - a hundred thousand paths are slow to make
            if ending.lower() in SOUNDS and not name.startswith("._"):
                found.setdefault(stem, Path(root, name))
    return found


def inside(folder: Path, name: str) -> Path | None:
    """The entry of a folder with that name, whatever its case; None if there is none."""
    if not folder.is_dir():
        return None
    return next((p for p in sorted(folder.iterdir()) if p.name.lower() == name.lower()), None)


def check_no_lfs_pointers(paths: Iterable[Path], corpus: str) -> None:
    """Stop where sounds are notes of git about files that it has not fetched."""
    for path in paths:
        if path.stat().st_size < LFS_POINTER and path.read_bytes().startswith(b"version https://git-lfs"):
            raise InputError(f"{path} is a pointer of git-lfs, not {corpus}'s sound. Fetch the sounds: git lfs pull.")


def rating_scale(low: float, high: float) -> dict[str, Target]:
    """Arousal, valence and dominance on one scale."""
    return {name: Target(low, high, meaning) for name, meaning in SAM.items()}


def by_rank(
    ratings: dict[str, list[tuple[str, float]]], order: list[str], target: str
) -> dict[str, list[float | None]]:
    """Columns ``target_r1, …`` of each utterance's own raters, in the order of their names; None where there is none.

    Args:
        ratings: for an utterance its raters' names with their ratings
        order: of the utterances
        target: the ratings' name
    """
    rows = [sorted(ratings.get(name, [])) for name in order]
    most = max(map(len, rows), default=0)
    return {f"{target}_r{k + 1}": [row[k][1] if k < len(row) else None for row in rows] for k in range(most)}


def against_published(found: dict[str, int], published: dict[str, int], version: str) -> str:
    """What differs from the counts that a version was published with, in one sentence."""
    apart = [f"{name} {found.get(name, 0):,} of {n:,}" for name, n in published.items() if found.get(name, 0) != n]
    if not apart:
        return f"counts are those published of {version}"
    return f"counts differ from those published of {version}: {', '.join(apart)}"


def write_imported(imported: Imported, out: Path) -> None:
    """The manifest, with paths from its own folder where the sounds lie below it; equal corpora give equal bytes."""
    folder = out.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    paths = [Path(p) for p in imported.table["path"]]
    shown = [str(p.relative_to(folder)) if p.is_relative_to(folder) else str(p) for p in paths]
    write_manifest(out, imported.table.assign(path=shown), imported.header)


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """In the order of the utterances' names, numbered anew; columns without any content are left out."""
    kept = [
        c
        for c in table
        if c in ("utterance_id", "path", "speaker_id") or not (table[c].isna() | (table[c] == "")).all()
    ]
    return table.sort_values("utterance_id", kind="stable")[kept].reset_index(drop=True)
