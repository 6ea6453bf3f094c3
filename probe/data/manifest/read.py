"""Manifests, and tables of utterances without a header, read and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.header import load_header, parse_header
from layerprobe.probe.data.manifest.names import SPEAKER, resolve_names, with_same_speaker
from layerprobe.probe.data.manifest.schema import (
    GROUPS,
    NEEDED_COLUMNS,
    TIMES,
    Header,
    Manifest,
    ManifestError,
    NameRules,
    rater_columns,
)
from layerprobe.probe.data.manifest.table import TextTable, check_table_file, log_notes, read_text_table
from layerprobe.probe.data.manifest.validate import (
    RowProblems,
    check_targets,
    check_utterances,
    missing_columns,
    missing_required,
    with_decimal_points,
)
from layerprobe.probe.filesystem import connect
from layerprobe.probe.identities import normalise_name, normalise_names
from layerprobe.probe.problem import Problem
from layerprobe.probe.splits import UNKNOWN_SPEAKER

JOINED_SHOWN = 5  # names that another one replaces
SAME_SPEAKER_ADVICE = (
    "For this run alone, sweep, manifest validate and manifest describe take --same-speaker A=B for two names of one "
    "speaker, and --same-speaker all or none for all names that look alike."
)


@dataclass(frozen=True)
class NumberedManifest:
    """A manifest with the row of each utterance in its file."""

    manifest: Manifest
    row_numbers: np.ndarray  # (n_utterances,) as a spreadsheet shows them: the header is row 1
    unknown: dict[str, int] = field(default_factory=dict)  # rows of each spelling of a speaker who is not known


def read_manifest(
    path: Path | str,
    *,
    speakers: bool = True,
    same_speaker: Sequence[str] = (),
    columns: Sequence[str] = (),
    groups: Sequence[str] = (),
    join_names: bool = True,
) -> Manifest:
    """Read a manifest with its header and check every row.

    Names are normalised as `probe.identities` states. What is unusual in the file and was recognised, such as
    semicolons or spellings of "not known", is reported once by the logger ``layerprobe``.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.parquet`` table, which may be in a store (``s3://…``); its header has the same
            name with ``.toml``
        speakers: whether speakers are known; without them every utterance is its own speaker, and scores may
            be too optimistic, because the same voice can be in training and test data
        same_speaker: decisions on speakers whose names look alike, in addition to the header's: each ``A=B``, ``all``
            or ``none``
        columns: further columns that the caller reads, such as one of texts
        groups: further columns whose names are groups of utterances, such as sessions
        join_names: False where nothing depends on who speaks, as for the extraction: names that look alike are
            neither joined nor refused

    Raises:
        InputError: if a file is missing or can't be read
        ManifestError: naming every problem with its row as a spreadsheet shows it: the header is row 1
    """
    return read_numbered_manifest(
        path, speakers=speakers, same_speaker=same_speaker, columns=columns, groups=groups, join_names=join_names
    ).manifest


def read_numbered_manifest(
    path: Path | str,
    *,
    speakers: bool = True,
    same_speaker: Sequence[str] = (),
    columns: Sequence[str] = (),
    groups: Sequence[str] = (),
    join_names: bool = True,
) -> NumberedManifest:
    """Read a manifest as `read_manifest` does, with the row numbers that messages name."""
    path = connect(path)
    check_table_file(path, what="manifest")
    header_path = path.with_suffix(".toml")
    content = load_header(header_path, table_path=path)
    table = read_text_table(path, wanted=_wanted(content, (*columns, *groups)))
    header = parse_header(content, table.cells, path=header_path, table_path=path)
    raw = table.cells if speakers else table.cells.assign(speaker_id=UNKNOWN_SPEAKER)
    if missing := missing_columns(raw, header, header_name=header_path.name):
        raise ManifestError(path, missing)
    problems = RowProblems(path, table.row_numbers)
    named, unknown, notes = _with_names(raw, header, problems, (*GROUPS, *groups), same_speaker, join_names)
    rated = [c for target in header.targets for c in (target, *rater_columns(raw, target))]
    numeric, decimal = with_decimal_points(named, [*TIMES, "duration", *rated], problems)
    checked = check_utterances(numeric, problems, folder=path.absolute().parent)
    check_targets(checked, numeric, header, problems, header_name=header_path.name)
    problems.raise_if_any()
    _log_all(path, table, decimal, notes)
    return NumberedManifest(Manifest(path, header, checked), table.row_numbers, unknown)


def read_utterances(path: Path | str, *, columns: Sequence[str] = (), missing_files: bool = False) -> pd.DataFrame:
    """Read a table of utterances that need no ratings, no speakers and no header, and check every row.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.parquet`` table with the columns ``utterance_id`` and ``path``
        columns: further columns that the caller reads, such as one of texts
        missing_files: whether audio that is not there is accepted, for the reader to refuse

    Returns:
        the table with absolute paths and, where there is none, a column ``speaker_id`` of unknown speakers

    Raises:
        InputError: if the file is missing or can't be read
        ManifestError: naming every problem with its row
    """
    path = connect(path)
    table = read_text_table(path, wanted=_wanted({}, columns))
    raw = table.cells
    if missing := missing_required(raw, ("utterance_id", "path")):
        raise ManifestError(path, missing)
    if SPEAKER not in raw:
        raw[SPEAKER] = UNKNOWN_SPEAKER
    problems = RowProblems(path, table.row_numbers)
    named, _, notes = _with_names(raw, Header(""), problems, (), (), join=False)
    numeric, decimal = with_decimal_points(named, [*TIMES, "duration"], problems)
    checked = check_utterances(numeric, problems, folder=path.absolute().parent, missing_files=missing_files)
    problems.raise_if_any()
    _log_all(path, table, decimal, notes)
    return checked


def _wanted(content: dict[str, Any], further: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a column is needed, by its name: targets, their raters, and what commands read."""
    targets = content.get("targets")
    names = {*NEEDED_COLUMNS, *further, *map(normalise_name, targets if isinstance(targets, dict) else ())}
    return lambda name: name in names or re.sub(r"_r\d+$", "", name) in names


def _with_names(
    raw: pd.DataFrame,
    header: Header,
    problems: RowProblems,
    groups: Sequence[str],
    same_speaker: Sequence[str],
    join: bool,
) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """Return the cells with names normalised, the spellings of unknown speakers, and what is to be reported."""
    named, notes, unknown = raw.copy(), list[str](), dict[str, int]()
    header_name = problems.path.with_suffix(".toml").name
    for column in ("utterance_id", "split", *header.nominal):
        if column in raw:
            classes = header.nominal[column].classes if column in header.nominal else ()
            named[column] = _as_classes(raw[column], classes)
            notes += _changed_note(column, int((named[column] != raw[column]).sum()))
    problems.add_general(_misplaced_rules(raw, header, header_name))
    for column in dict.fromkeys((SPEAKER, *groups)):
        if column not in raw:
            continue
        written, rules = raw[column].tolist(), header.names.get(column, NameRules())
        if column == SPEAKER and same_speaker:
            rules, wrong = with_same_speaker(rules, same_speaker, written)
            problems.add_general(wrong)
        found = resolve_names(written, rules, column=column, header_name=header_name, join=join)
        problems.add_general(list(found.problems), advice=SAME_SPEAKER_ADVICE if column == SPEAKER else "")
        named[column] = found.names
        notes += _changed_note(column, found.n_changed)
        unknown |= found.unknown if column == SPEAKER else {}
        notes += _unknown_note(column, found.unknown, header_name)
        notes += _joined_note(column, found.joined)
    return named, unknown, notes


def _as_classes(written: pd.Series[str], classes: Sequence[str]) -> list[str]:
    """Return names normalised; one that is a class of the header, such as "1.0", keeps its decimal zero."""
    names = normalise_names(written)
    if not classes:
        return names
    return [exact if (exact := normalise_name(w)) in classes else name for w, name in zip(written, names, strict=True)]


def _misplaced_rules(raw: pd.DataFrame, header: Header, header_name: str) -> list[Problem]:
    """Return a problem for each column whose names the header has rules for and that is no column of names."""
    rated = [c for target in header.targets for c in (target, *rater_columns(raw, target))]
    without = {"utterance_id", "path", "split", *TIMES, *rated, *header.nominal}
    return [
        Problem(
            "LP137",
            f"{header_name} has rules for names of {column}, which is not a column of speakers or groups of the table",
        )
        for column in header.names
        if column in without or column not in raw
    ]


def _changed_note(column: str, n: int) -> list[str]:
    return [f"{column}: {n} name{'s' * (n > 1)} normalised (blanks at the ends, Unicode form, decimal .0)"] if n else []


def _joined_note(column: str, joined: dict[str, str]) -> list[str]:
    notes = [f"{column} {a!r} is read as {b!r}" for a, b in list(joined.items())[:JOINED_SHOWN]]
    return notes + ([f"and {len(joined) - JOINED_SHOWN} more names"] if len(joined) > JOINED_SHOWN else [])


def _unknown_note(column: str, unknown: dict[str, int], header_name: str) -> list[str]:
    usual = UNKNOWN_SPEAKER if column == SPEAKER else ""
    spelled = {name: n for name, n in unknown.items() if name != usual}
    if not spelled:
        return []
    own = ", and each such utterance as a speaker of its own" if column == SPEAKER else ""
    return [
        f"{column} counts as unknown{own}: {unknown_text(spelled)} (where one is a name, state "
        f'known_names.{column} = ["NAME"] in {header_name})'
    ]


def unknown_text(unknown: dict[str, int]) -> str:
    """Return the spellings of unknown names, each with its number of rows: ``'' 2, 'n/a' 1``."""
    return ", ".join(f"{name!r} {n}" for name, n in sorted(unknown.items()))


def _log_all(path: Path, table: TextTable, decimal: list[str], notes: list[str]) -> None:
    log_notes(path, (*table.notes, *([f"decimal commas in {', '.join(decimal)}"] if decimal else []), *notes))
