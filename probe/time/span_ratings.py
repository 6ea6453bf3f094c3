"""Ratings of spans: a table with a row per span and a column per target, and the manifest of their utterances."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.schema import ASR_TRANSCRIPT, TRANSCRIPT, Manifest, Target, rater_columns
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.span_ids import span_ids

TARGETS = "targets"  # the kind of a sweep with targets per span
SPAN_COLUMNS = ("span_id", "utterance_id", "start", "end", "label")
NO_TARGET = r"_(r\d+|n_samples|n_raters)$"  # ends of columns of single raters, and of counts
SAME_TIME = 1e-3  # seconds by which a span may differ between table and cache
REGULAR = 1e-6  # of the distance from the first window, by which windows may be off their grid


@dataclass(frozen=True, eq=False)
class SpanRatings:
    """Ratings of spans, with the lag that was applied."""

    path: Path
    lag: float  # seconds by which ratings come after what they are of
    targets: tuple[str, ...]
    table: pd.DataFrame  # `SPAN_COLUMNS` without label, and the targets as floats, NaN where there is no rating
    n_beyond_end: int  # spans without a rating because the lag leads beyond the last one of their utterance
    scales: Mapping[str, Target] = field(default_factory=dict)  # of targets, as the file next to the table states them

    @property
    def content(self) -> str:
        """Hash of the ratings and times of all spans."""
        text = self.table.sort_values("span_id").to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_toml(self) -> dict[str, Any]:
        """Return the settings of the table ``[time]`` of plan.toml."""
        return {
            "kind": TARGETS,
            "table": str(self.path.absolute()),
            "lag": self.lag,
            "content": self.content,
            "n_beyond_end": self.n_beyond_end,
            "fingerprint": combined_fingerprint(self.content, f"{self.lag:.9g}"),
        }

    def manifest(self, manifest: Manifest) -> Manifest:
        """Return the manifest of the utterances that have spans in the table, rated by the means over their spans.

        Folds are made of these utterances. Transcripts, raters and classes are left out: they are of whole utterances.

        Raises:
            InputError: if the manifest has none of the utterances
        """
        means = self.table.groupby("utterance_id")[list(self.targets)].mean()
        table = manifest.table
        rated = table[table["utterance_id"].isin(means.index)].reset_index(drop=True)
        if rated.empty:
            raise InputError(
                "LP577",
                f"None of the utterances of {self.path} is in {manifest.path} (first: "
                f"{self.table['utterance_id'][0]}). Write the ids of the manifest in its column utterance_id.",
            )
        raters = [name for target in manifest.targets for name in rater_columns(table, target)]
        dropped = {*raters, *manifest.targets, *manifest.header.nominal, TRANSCRIPT, ASR_TRANSCRIPT, *self.targets}
        rated = rated.drop(columns=[name for name in dropped if name in rated])
        rated = rated.assign(**{name: means[name].reindex(rated["utterance_id"]).to_numpy() for name in self.targets})
        stated = {**manifest.header.targets, **self.scales}  # traces may have another scale than ratings of the whole
        scales = {name: stated.get(name, self._scale(name)) for name in self.targets}
        return Manifest(manifest.path, replace(manifest.header, targets=scales, nominal={}), rated)

    def _scale(self, target: str) -> Target:
        values = self.table[target]
        return Target(float(values.min()), float(values.max()), "range of the ratings of spans")


def read_span_ratings(path: Path, manifest: Manifest, *, lag: float = 0.0) -> SpanRatings:
    """Read a table of ratings of spans.

    The targets are the columns that ``NAME.toml`` next to the table describes, as ``layerprobe manifest spans`` writes
    it; without it those that the header of the manifest has as rated targets, or if there are none, all columns of
    numbers. Spans without an id are numbered as `probe.span_ids.span_ids` does.

    Args:
        path: CSV with the columns ``utterance_id``, ``start`` and ``end`` (seconds), and one for each target
        manifest: of the utterances
        lag: seconds by which ratings come after what they are of. The rating of a span is then that of the span that
            begins so much later, interpolated linearly between adjacent ones.

    Raises:
        InputError: if a column is missing, a cell is no number, an id is there twice, no column is a target, or spans
            are no regular windows where there is a lag
    """
    if not path.is_file():
        raise InputError("LP577", f"{path} does not exist. Give a CSV file with utterance_id, start, end and targets.")
    raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in ("utterance_id", "start", "end") if name not in raw]
    if missing:
        raise InputError("LP577", f"{path} has no column {missing[0]}. It needs utterance_id, start, end and targets.")
    if raw.empty:
        raise InputError("LP577", f"{path} has no rows. Write a row for each span.")
    table = raw[["utterance_id"]].assign(start=_numbers(path, raw, "start"), end=_numbers(path, raw, "end"))
    if table[["start", "end"]].isna().any(axis=None):
        row = int(np.flatnonzero(table[["start", "end"]].isna().any(axis=1))[0]) + 2
        raise InputError("LP577", f"{path}, row {row}: start or end is empty. Write both in seconds.")
    scales, lag_before = _stated(path)
    others = [n for n in map(str, raw) if n not in SPAN_COLUMNS and not re.search(NO_TARGET, n)]
    names = [n for n in others if n in scales] or [n for n in others if n in manifest.targets]
    names = names or [n for n in others if _all_numbers(raw[n])]
    if not names:
        raise InputError(
            "LP577",
            f"{path} has no target: none of its columns is one of {', '.join(manifest.targets)}, or holds numbers. Add "
            "a column of ratings.",
        )
    table = table.assign(**{name: _numbers(path, raw, name) for name in names})
    ids = raw["span_id"].str.strip().tolist() if "span_id" in raw else []
    if not ids:
        ids = span_ids(table["utterance_id"].tolist(), table["start"].tolist(), table["end"].tolist())
    if "" in ids:
        row = ids.index("") + 2
        raise InputError("LP577", f"{path}, row {row}: the span_id is empty. Write one, or leave the column out.")
    repeated = pd.Series(ids)[pd.Series(ids).duplicated()]
    if len(repeated):
        raise InputError("LP577", f"{path} has the span_id {repeated.iloc[0]} twice. Each span needs one of its own.")
    table.insert(0, "span_id", ids)
    if lag == 0:
        return SpanRatings(path, 0.0, tuple(names), table, 0, scales)
    _check_lag(path, lag, lag_before)
    parts = [_lagged(path, rows, names, lag) for _, rows in table.groupby("utterance_id", sort=False)]
    lagged = pd.concat([rows for rows, _ in parts]).loc[table.index]
    return SpanRatings(path, float(lag), tuple(names), lagged, sum(n for _, n in parts), scales)


def _check_lag(path: Path, lag: float, before: float) -> None:
    """Check a lag that is not 0; ``before`` is the one that was applied when the table was made."""
    if not np.isfinite(lag) or lag < 0:
        raise InputError("LP578", f"--lag {lag} is no number of seconds of 0 or more. Choose one such as 3.")
    if before:
        raise InputError(
            "LP578",
            f"{path.with_suffix('.toml')} states that ratings were shifted by {before:g} s when the table was made. "
            "Leave --lag out, or write the table without it.",
        )


def _stated(path: Path) -> tuple[dict[str, Target], float]:
    """Return what the file next to a table states: scales of targets, and the lag that ratings were shifted by.

    Raises:
        InputError: if it can't be read
    """
    file = path.with_suffix(".toml")
    if not file.is_file():
        return {}, 0.0
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        targets = {
            str(name): Target(float(scale["minimum"]), float(scale["maximum"]), str(scale.get("meaning", "")))
            for name, scale in content.get("targets", {}).items()
            if "minimum" in scale and "maximum" in scale
        }
        return targets, float(content.get("lag", 0.0))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            "LP577", f"{file} can't be read: {error}. Write it again with layerprobe manifest spans, or remove it."
        ) from error


def _lagged(path: Path, rows: pd.DataFrame, names: list[str], lag: float) -> tuple[pd.DataFrame, int]:
    """Return the spans of one utterance with the ratings of a later time, and how many have none for want of it."""
    starts = rows["start"].to_numpy()
    place, step = _grid(starts)
    if step <= 0 or (np.abs(starts - starts.min() - place * step) > SAME_TIME + REGULAR * place * step).any():
        raise InputError(
            "LP578",
            f"{path}: the spans of {rows['utterance_id'].iloc[0]} do not begin at regular times, which --lag "
            f"{lag:g} needs. Average the ratings in windows (layerprobe manifest spans … --every 0.5 --window 1), or "
            "shift them before.",
        )
    n = int(place.max()) + 1
    whole = int(np.floor((lag + SAME_TIME) / step))
    fraction = lag / step - whole if lag - whole * step > SAME_TIME else 0.0  # nearer to a start is at this start
    columns = {}
    for name in names:
        grid = np.full(n + whole + 2, np.nan)
        grid[place] = rows[name].to_numpy()
        first, second = grid[place + whole], grid[place + whole + 1]
        columns[name] = first if fraction == 0 else (1 - fraction) * first + fraction * second
    beyond = place + whole + fraction > n - 1
    return rows.assign(**columns), int(beyond.sum())


def _grid(starts: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the number of each start on the regular grid that fits best, from 0, and the step of the grid.

    Times may be rounded, so that the step is a mean, and no single difference of starts.

    Args:
        starts: ``(n_spans,)`` seconds, in any order

    Returns:
        numbers ``(n_spans,)``, and the step in seconds, 0 where starts are equal; 1 for a single span
    """
    order = np.argsort(starts, kind="stable")
    steps = np.diff(starts[order])
    if not len(steps) or steps.min() <= 0:
        return np.zeros(len(starts), dtype=int), 0.0 if len(steps) else 1.0
    single = float(steps[steps < 1.5 * steps.min()].mean())
    place = np.zeros(len(starts), dtype=int)
    place[order[1:]] = np.cumsum(np.rint(steps / single).astype(int))
    return place, float((starts.max() - starts.min()) / place.max())


def _numbers(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float64, NaN where it is empty."""
    cells = table[name].str.strip()
    values = pd.to_numeric(cells.where(cells != "", "nan"), errors="coerce")
    bad = values.isna() & ~cells.str.lower().isin(["", "nan"])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError("LP577", f"{path}, row {row + 2}: {name} is {cells[row]!r}, no number. Correct it.")
    return np.asarray(values, dtype=np.float64)


def _all_numbers(cells: pd.Series) -> bool:
    values = pd.to_numeric(cells.where(cells.str.strip() != "", "nan"), errors="coerce")
    return bool((values.notna() | cells.str.strip().str.lower().isin(["", "nan"])).all() and values.notna().any())
