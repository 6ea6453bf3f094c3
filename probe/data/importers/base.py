"""Result of an importer, and the steps that importers have in common."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import relative_paths, write_manifest
from layerprobe.probe.exceptions import InputError

SAM = {  # self-assessment manikins (Bradley and Lang, 1994), in their order in most papers
    "arousal": "very calm to very active",
    "valence": "very negative to very positive",
    "dominance": "very weak to very strong",
}
GENDERS = {"M": "male", "F": "female"}
AUDIO_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus")
LFS_POINTER_BYTES = 200  # the pointer to a large file that git has not fetched is smaller, audio is not


@dataclass(frozen=True)
class Imported:
    """A corpus that was read and is not yet written as a manifest."""

    table: pd.DataFrame  # with absolute paths
    header: Header
    dropped: Counter[str] = field(default_factory=Counter)  # number of utterances by reason
    warnings: list[str] = field(default_factory=list)  # remarks for the user, each a clause


def audio_files_below(folder: Path) -> dict[str, Path]:
    """Find the audio files of a folder and its subfolders, by name without ending; none is opened.

    Files that begin with ``._`` are metadata of macOS and left out. Of two with one name the first is taken.
    """
    found: dict[str, Path] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            stem, ending = os.path.splitext(name)  # noqa: PTH122 - a hundred thousand paths are slow to make
            if ending.lower() in AUDIO_ENDINGS and not name.startswith("._"):
                found.setdefault(stem, Path(root, name))
    return found


def find_entry(folder: Path, name: str) -> Path | None:
    """Return the entry of a folder with that name, whatever its case; None if there is none."""
    if not folder.is_dir():
        return None
    return next((p for p in sorted(folder.iterdir()) if p.name.lower() == name.lower()), None)


def check_no_lfs_pointers(paths: Iterable[Path], corpus: str) -> None:
    """Check that audio files are not pointers of git-lfs to files that were not fetched.

    Raises:
        InputError: if one is
    """
    for path in paths:
        if path.stat().st_size < LFS_POINTER_BYTES and path.read_bytes().startswith(b"version https://git-lfs"):
            raise InputError(f"{path} is a pointer of git-lfs, not audio of {corpus}. Fetch the files: git lfs pull.")


def rating_scale(low: float, high: float) -> dict[str, Target]:
    """Return the targets arousal, valence and dominance on one scale."""
    return {name: Target(low, high, meaning) for name, meaning in SAM.items()}


def numbered_rater_columns(
    ratings: dict[str, list[tuple[str, float]]], order: list[str], target: str
) -> dict[str, list[float | None]]:
    """Return the per-rater columns ``TARGET_r1, …``: each utterance's ratings in the order of its raters' names.

    Args:
        ratings: names of raters with their ratings, by utterance
        order: of the utterances
        target: name of the target

    Returns:
        columns of ``len(order)`` ratings; None where an utterance has fewer raters
    """
    rows = [sorted(ratings.get(name, [])) for name in order]
    n_columns = max(map(len, rows), default=0)
    return {f"{target}_r{k + 1}": [row[k][1] if k < len(row) else None for row in rows] for k in range(n_columns)}


def compare_with_published(found: dict[str, int], published: dict[str, int], version: str) -> str:
    """Return a clause on how counts differ from those that a version was published with."""
    differences = [
        f"{name} {found.get(name, 0):,} of {n:,}" for name, n in published.items() if found.get(name, 0) != n
    ]
    if not differences:
        return f"counts equal those published for {version}"
    return f"counts differ from those published for {version}: {', '.join(differences)}"


def write_imported(imported: Imported, out: Path) -> None:
    """Write the manifest, with paths relative to its folder where audio is below it; equal input gives equal bytes."""
    folder = out.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    paths = relative_paths(imported.table["path"], folder)
    write_manifest(out, imported.table.assign(path=paths), imported.header)


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table sorted by utterance_id with a new index; empty columns are left out."""
    kept = [
        c
        for c in table
        if c in ("utterance_id", "path", "speaker_id") or not (table[c].isna() | (table[c] == "")).all()
    ]
    return table.sort_values("utterance_id", kind="stable")[kept].reset_index(drop=True)
