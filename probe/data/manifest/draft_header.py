"""A first header for a table, drafted from its columns; scales in it are guesses that its author checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.manifest.decimals import read_decimals
from layerprobe.probe.data.manifest.scales import finite_numbers, observed_range, usual_scale
from layerprobe.probe.data.manifest.schema import (
    ASR_TRANSCRIPT,
    MANIFEST_FORMAT_VERSION,
    REQUIRED,
    TIMES,
    TRANSCRIPT,
    rater_columns,
)
from layerprobe.probe.data.manifest.table import check_table_file, log_notes, read_text_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import create_file
from layerprobe.probe.identities import normalise_names
from layerprobe.probe.toml import toml_key, toml_value

# Columns that have a meaning of their own, and descriptions of speakers and recordings that are rarely targets.
OTHER_COLUMNS = {
    *REQUIRED,
    *TIMES,
    "split",
    TRANSCRIPT,
    ASR_TRANSCRIPT,
    "gender",
    "corpus",
    "duration",
    "sampling_rate",
    "age",
    "language",
    "sex",
    "session",
}
NUMERIC_FRACTION = 0.8  # of the cells that are not empty; other cells of a numeric column are reported by validate
MAX_CLASSES = 20
MIN_ROWS_PER_CLASS = 2  # on average; identifiers and texts have one row for each value


@dataclass(frozen=True)
class DraftTarget:
    """A numeric column that is taken for ratings."""

    name: str
    low: float  # the smallest rating, those of single raters included
    high: float
    scale: tuple[float, float] | None  # guessed; None where no usual scale holds the ratings


@dataclass(frozen=True)
class DraftHeader:
    """What a table's columns were taken for."""

    path: Path  # of the header
    targets: tuple[DraftTarget, ...]
    classes: dict[str, tuple[str, ...]]  # of nominal targets, by column, in order of frequency
    other: tuple[str, ...]  # columns that were taken for no target
    missing: tuple[str, ...]  # columns that a manifest needs and the table lacks

    def text(self) -> str:
        """Return the header as TOML, with a comment at everything that is to be checked."""
        lines = [
            f"# Header of {self.path.stem}, drafted by layerprobe manifest init. Check every line with a comment.",
            f"format_version = {MANIFEST_FORMAT_VERSION}",
            f"corpus = {toml_value(self.path.stem)}  # check: the name of the corpus in reports",
            '# version = "1.0"',
            '# licence = "CC BY 4.0"',
        ]
        for target in self.targets:
            lines += ["", *_scale_lines(target)]
        for name, classes in self.classes.items():
            listed = ", ".join(map(toml_value, classes))
            lines += ["", f"[targets.{toml_key(name)}]  # check: delete this table if the column is no target"]
            lines.append(f"classes = [{listed}]  # check: those of the table")
        return "\n".join(lines) + "\n"


def draft_header(path: Path | str) -> DraftHeader:
    """Draft the header of a table from its columns; nothing is written.

    Numeric columns become rated targets, text columns with few distinct values nominal ones. Columns that a manifest
    gives a meaning (`OTHER_COLUMNS`) and ratings of single raters (``NAME_r1``) become none.

    Args:
        path: a ``.csv`` or ``.parquet`` table

    Raises:
        InputError: if the table is missing, can't be read, or has a header already
    """
    path = Path(path)
    header = path.with_suffix(".toml")
    check_table_file(path)
    if header.exists():
        raise InputError(
            "LP129", f"{header} exists already and is not overwritten. Edit it, or delete it and run the command again."
        )
    table = read_text_table(path)
    cells, decimal = _with_decimal_points(table.cells)
    log_notes(path, (*table.notes, *([f"decimal commas in {', '.join(decimal)}"] if decimal else [])))
    names = [str(c) for c in cells]
    single = {rater for name in names for rater in rater_columns(cells, name)}
    targets: list[DraftTarget] = []
    classes: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in OTHER_COLUMNS or name in single or name.endswith("_source"):
            continue
        filled = pd.Series([value for value in normalise_names(cells[name]) if value], dtype=str)
        if filled.nunique() < 2:
            continue
        if len(finite_numbers(filled)) >= NUMERIC_FRACTION * len(filled):
            rated = pd.concat([finite_numbers(cells[c]) for c in (name, *rater_columns(cells, name))])
            low, high = observed_range(rated)
            targets.append(DraftTarget(name, low, high, usual_scale(low, high)))
        elif filled.nunique() <= min(MAX_CLASSES, len(filled) / MIN_ROWS_PER_CLASS):
            classes[name] = tuple(map(str, filled.value_counts().index))
    described = {*(t.name for t in targets), *classes}
    return DraftHeader(
        path=header,
        targets=tuple(targets),
        classes=classes,
        other=tuple(n for n in names if n not in described and n not in REQUIRED and n not in single),
        missing=tuple(c for c in REQUIRED if c not in cells),
    )


def _with_decimal_points(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the cells with decimal points in columns of numbers, and the columns that had decimal commas."""
    numeric = []
    for name in map(str, cells):
        filled = cells[name][cells[name].str.contains(r"\d", regex=True)].str.replace(",", ".", regex=False)
        if name not in REQUIRED and len(filled) and len(finite_numbers(filled)) >= NUMERIC_FRACTION * len(filled):
            numeric.append(name)
    found = read_decimals(cells, numeric).cells
    return cells.assign(**found), list(found)


def write_draft(draft: DraftHeader) -> None:
    """Write a drafted header.

    Raises:
        InputError: if the file exists; it is never overwritten
    """
    try:
        create_file(draft.path, draft.text())
    except FileExistsError as error:
        raise InputError(
            "LP129",
            f"{draft.path} exists already and is not overwritten. Edit it, or delete it and run the command again.",
        ) from error


def _scale_lines(target: DraftTarget) -> list[str]:
    run = f"ratings run from {target.low:g} to {target.high:g}"
    title = f"[targets.{toml_key(target.name)}]"
    if target.scale is None:  # in comments, so that no scale is invented
        lines = [f"{title}", "minimum = ", "maximum = ", 'meaning = ""']
        question = (
            f"{target.name}: {run}, which no usual scale holds. If these are ratings, uncomment and state the scale:"
        )
        return [f"# {_one_line(question)}", *(f"# {line}".rstrip() for line in lines)]
    low, high = target.scale
    return [
        f"{title}  # check: delete this table if the column holds no ratings",
        f"minimum = {low:g}  # check: a guess, {run}",
        f"maximum = {high:g}  # check: a guess",
        'meaning = ""  # what the ends of the scale stand for, such as "very calm to very active"',
    ]


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)
