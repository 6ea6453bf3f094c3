"""Targets among the columns of a source: which they are, their scales, classes and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import SAM, counted
from layerprobe.probe.data.importers.choices import ColumnChoices
from layerprobe.probe.data.manifest.decimals import read_decimals
from layerprobe.probe.data.manifest.draft_header import MAX_CLASSES, OTHER_COLUMNS
from layerprobe.probe.data.manifest.scales import usual_scale
from layerprobe.probe.data.manifest.schema import TIMES, Nominal, Target, rater_columns
from layerprobe.probe.exceptions import InputError

RATED = tuple(SAM)
EMOTION = "emotion"
DURATION = "duration"
EMPTY = ("", "nan", "na", "n/a", "none", "null", "-")  # cells without a number, in lower case


@dataclass(frozen=True)
class TargetColumns:
    """Targets with their scales or classes, and all columns of numbers."""

    rated: dict[str, Target]
    nominal: dict[str, Nominal]
    numbers: dict[str, np.ndarray]  # (n_utterances,) of rated targets, single raters, start, end and duration
    remarks: list[str] = field(default_factory=list)


def targets_of(
    name: str,
    cells: pd.DataFrame,
    choices: ColumnChoices,
    declared: dict[str, tuple[str, ...]],
    row_name: Callable[[int], str],
) -> TargetColumns:
    """Find the targets: columns with a scale, arousal, valence, dominance, ``emotion``, and those with classes.

    Args:
        name: of the source, for messages
        cells: of text, by the manifest's names
        choices: scales and classes that the user states
        declared: classes of columns that the source itself declares to be nominal
        row_name: where a row lies

    Raises:
        InputError: if a target has no scale, a rating is no number, or there is no target
    """
    own = list(map(str, cells))
    known = [*own, *dict.fromkeys(re.sub(r"_r\d+$", "", c) for c in own)]
    for option, stated in (("--scale", choices.scales), ("--classes", choices.classes)):
        if lacking := [target for target in stated if target not in known]:
            raise InputError(
                "LP191",
                f"{name} has no column {lacking[0]!r} for {option} (there are {', '.join(own) or 'none'}). Name it: "
                f"--map {lacking[0]}=COLUMN.",
            )
    nominal, notes = _nominal(cells, choices, declared)
    rated = [t for t in dict.fromkeys((*RATED, *choices.scales)) if t in known and t not in nominal]
    if not rated and not nominal:
        raise InputError(
            "LP193",
            f"{name} has no target: no column is {', '.join((*RATED, EMOTION))} (there are "
            f"{', '.join(own) or 'none'}). Name one: --map arousal=COLUMN --scale arousal=LOW:HIGH, or "
            "--classes COLUMN.",
        )
    raters = [c for target in rated for c in rater_columns(cells, target)]
    wanted = [c for c in (*TIMES, DURATION, *rated, *raters) if c in cells]
    numbers, not_numbers = _numbers(cells, wanted, optional=(*TIMES, DURATION), row_name=row_name)
    notes += [f"column {c} left out, because it holds no numbers" for c in not_numbers]
    for target in rated:
        if target not in numbers:
            numbers[target], note = _mean_of_raters(numbers, rater_columns(cells, target), target)
            notes.append(note)
    described = {t: Target(*_scale(name, t, numbers, raters, choices), meaning=SAM.get(t, "")) for t in rated}
    return TargetColumns(described, nominal, numbers, notes)


def _nominal(
    cells: pd.DataFrame, choices: ColumnChoices, declared: dict[str, tuple[str, ...]]
) -> tuple[dict[str, Nominal], list[str]]:
    """Return the nominal targets with their classes, and a remark on a column that has one class only."""
    found = {c: classes for c, classes in declared.items() if c not in OTHER_COLUMNS and len(classes) <= MAX_CLASSES}
    if EMOTION in cells:
        found.setdefault(EMOTION, ())
    found |= {c: classes or found.get(c, ()) for c, classes in choices.classes.items()}
    found = {c: classes for c, classes in found.items() if c not in choices.scales and c in cells}
    nominal, notes = {}, []
    for column, stated in found.items():
        classes = stated or tuple(sorted(set(cells[column]) - {""}))
        if len(classes) < 2:
            notes.append(f"{column} is no target, because it has {counted(len(classes), 'class')}")
        else:
            nominal[column] = Nominal(classes)
    return nominal, notes


def _scale(
    name: str, target: str, numbers: dict[str, np.ndarray], raters: Iterable[str], choices: ColumnChoices
) -> tuple[float, float]:
    if target in choices.scales:
        return choices.scales[target]
    columns = [target, *(c for c in raters if re.sub(r"_r\d+$", "", c) == target)]
    values = np.concatenate([numbers[c][np.isfinite(numbers[c])] for c in columns])
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 5.0)
    guess = usual_scale(low, high) or (low, high)
    raise InputError(
        "LP193",
        f"{name}: {target} has ratings from {low:g} to {high:g}, and their scale is not stated. State the ends of the "
        f"scale that raters used, such as --scale {target}={guess[0]:g}:{guess[1]:g}.",
    )


def _numbers(
    cells: pd.DataFrame, columns: list[str], *, optional: Iterable[str], row_name: Callable[[int], str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return columns of numbers, NaN where a cell is empty, and the optional columns that hold something else."""
    text = cells[columns].astype(str)
    text = text.assign(**read_decimals(text, columns).cells)
    numbers, other = {}, []
    for column in columns:
        plain = text[column].str.strip()
        values = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=float, copy=True)
        values[~np.isfinite(values)] = np.nan
        wrong = np.flatnonzero(np.isnan(values) & ~plain.str.lower().isin(EMPTY).to_numpy())
        if wrong.size and column in optional:
            other.append(column)
            continue
        if wrong.size:
            k = int(wrong[0])
            raise InputError(
                "LP194",
                f"{row_name(k)}: {column} is {plain.iloc[k]!r}, not a number. Correct the row, or choose another "
                f"column: --map {column}=COLUMN.",
            )
        numbers[column] = values
    return numbers, other


def _mean_of_raters(numbers: dict[str, np.ndarray], raters: list[str], target: str) -> tuple[np.ndarray, str]:
    ratings = np.stack([numbers[c] for c in raters])
    rated = np.isfinite(ratings)
    n_rated = rated.sum(axis=0)
    total = np.where(rated, ratings, 0.0).sum(axis=0)
    mean = np.divide(total, n_rated, out=np.full(total.shape, np.nan), where=n_rated > 0)
    return np.round(mean, 6), f"{target} is the mean of {counted(len(raters), 'rater')}"
