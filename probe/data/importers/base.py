"""Result of an importer, and the steps that importers have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.manifest.dialect import decode_text
from layerprobe.probe.data.manifest.file_kind import no_table
from layerprobe.probe.data.manifest.schema import Header, Target, rater_columns
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.data.stored.locations import relative_paths
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import LFS_POINTER
from layerprobe.probe.identities import is_unknown, normalise_names

SAM = {  # self-assessment manikins (Bradley and Lang, 1994), in their order in most papers
    "arousal": "very calm to very active",
    "valence": "very negative to very positive",
    "dominance": "very weak to very strong",
}
GENDERS = {"M": "male", "F": "female"}
SPLITS = {  # by their spellings in corpora
    "train": "train", "dev": "development", "devel": "development", "development": "development",
    "val": "development", "valid": "development", "validation": "development",
    "test": "test", "test1": "test1", "test2": "test2", "test3": "test3",
}  # fmt: skip
ROUNDING = 1e-9  # of the scale; a rating that is outside by less was rounded
AUDIO_MISSING = "listed, but audio is missing"  # a reason in `Imported.dropped`
LFS_POINTER_BYTES = 200  # the pointer to a large file that git has not fetched is smaller, audio is not


@dataclass(frozen=True)
class Imported:
    """A corpus that was read and is not yet written as a manifest."""

    table: pd.DataFrame  # with absolute paths
    header: Header
    dropped: Counter[str] = field(default_factory=Counter)  # number of files or utterances by reason
    warnings: list[str] = field(default_factory=list)  # remarks for the user, each a clause

    def summary(self) -> str:
        """Return one sentence: how many utterances of how many speakers, and what was skipped for which reason."""
        speakers = normalise_names(self.table["speaker_id"])
        known = [speaker for speaker in speakers if not is_unknown(speaker)]
        n_unknown = len(speakers) - len(known)
        written = f"{counted(len(speakers), 'utterance')} of {counted(len(set(known)), 'speaker')} written"
        if n_unknown:
            written += f", {n_unknown:,} of them of unknown speakers"
        reasons = +self.dropped
        if not reasons:
            return f"{written}; none skipped."
        listed = ", ".join(f"{reason} ({n:,})" for reason, n in reasons.items())
        return f"{written}; {reasons.total():,} skipped: {listed}."


def find_entry(folder: Path, *names: str) -> Path | None:
    """Return the entry of a folder with that name, in any case; None if there is none.

    With several names, each is looked for in the folder of the one before.
    """
    found = folder
    for name in names:
        entries = sorted(found.iterdir()) if found.is_dir() else []
        entry = next((p for p in entries if p.name.lower() == name.lower()), None)
        if entry is None:
            return None
        found = entry
    return found


def check_no_lfs_pointers(paths: Iterable[Path], corpus: str) -> None:
    """Check that audio files are not git-lfs pointers to files that were not fetched.

    Raises:
        InputError: if any is
    """
    found = [
        path for path in paths if path.stat().st_size < LFS_POINTER_BYTES and path.read_bytes().startswith(LFS_POINTER)
    ]
    if found:
        others = f", as are {len(found) - 1:,} more" if len(found) > 1 else ""
        raise InputError(
            "LP155", f"{found[0]} is a git-lfs pointer, not audio of {corpus}{others}. Fetch the audio: git lfs pull."
        )


def not_the_corpus(folder: Path, corpus: str, lack: str) -> InputError:
    """Return the error for a folder that is not the corpus', with what it lacks."""
    return InputError("LP160", f"{folder} is no {corpus}: {lack}. Give the folder of the corpus as it was unpacked.")


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
    """Write the manifest, with paths relative to its folder where audio is below it; equal input gives equal bytes.

    Raises:
        InputError: if ``out`` is not ``NAME.csv``
    """
    check_csv(out)
    folder = out.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    paths = relative_paths(imported.table["path"], folder)
    write_manifest(out, imported.table.assign(path=paths), imported.header)


def check_csv(out: Path) -> None:
    """Check that a table is to be written as CSV.

    Raises:
        InputError: if it is not
    """
    if out.suffix.lower() != ".csv":
        raise InputError(
            "LP154", f"{out} is not a .csv file, which is what is written. Name it {out.with_suffix('.csv').name}."
        )


def without_impossible_ratings(imported: Imported) -> Imported:
    """Return the corpus with ratings outside their scale left empty, which a remark counts."""
    table, found = imported.table.copy(), []
    for name, target in imported.header.targets.items():
        slack = ROUNDING * (target.maximum - target.minimum)
        for column in (name, *rater_columns(table, name)):
            outside = (table[column] < target.minimum - slack) | (table[column] > target.maximum + slack)
            rows = zip(table.loc[outside, "utterance_id"], table.loc[outside, column], strict=True)
            found += [(utterance, f"{column} {value:g}") for utterance, value in rows]
            table[column] = table[column].mask(outside)
    if not found:
        return imported
    remark = f"{counted(len(found), 'rating')} outside the scale left empty ({found[0][0]}: {found[0][1]}, first)"
    return replace(imported, table=table, warnings=[*imported.warnings, remark])


def check_label_file(path: Path) -> None:
    """Check that a label file is not what stands in its place, such as a git-lfs pointer or a web page.

    Raises:
        InputError: if it is, or is empty
    """
    fault = no_table(path)
    if fault:
        raise InputError("LP156", f"{path} is no label file: {fault}.")


def read_text(path: Path, *, latin_1: bool = False) -> str:
    """Read a label file in a form of Unicode, or in Latin-1 where that is allowed and it is in none.

    Raises:
        InputError: if the file is not text, or is empty
    """
    check_label_file(path)
    return decode_text(path, path.read_bytes(), latin_1=latin_1)[0]


def split_named(name: str) -> str:
    """Return a manifest's split by a spelling of corpora, '' where it is none.

    >>> split_named("Test 1"), split_named("devel"), split_named("pool")
    ('test1', 'development', '')
    """
    return SPLITS.get(re.sub(r"[\s_-]", "", name.lower()), "")


def check_once(names: Iterable[str], where: Path) -> None:
    """Check that no utterance is labelled twice.

    Raises:
        InputError: naming the first one that is
    """
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        n = counted(len(repeated), "utterance")
        raise InputError("LP158", f"{where} labels {n} more than once, {repeated[0]} first. Keep one line of each.")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table sorted by utterance_id with a new index; empty columns are left out."""
    return without_empty_columns(table.sort_values("utterance_id", kind="stable"))


def without_empty_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a new index; empty columns are left out."""
    kept = [
        c
        for c in table
        if c in ("utterance_id", "path", "speaker_id") or not (table[c].isna() | (table[c] == "")).all()
    ]
    return table[kept].reset_index(drop=True)
