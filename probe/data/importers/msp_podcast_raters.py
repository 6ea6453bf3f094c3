"""Ratings of MSP-Podcast's single raters, in the three formats that its releases have them in."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import check_label_file, find_entry, read_text
from layerprobe.probe.exceptions import InputError

COLUMNS = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
KEYS = {"A": "arousal", "V": "valence", "D": "dominance"}
NUMBER = r"\d+(?:\.\d*)?|nan"
RATER = re.compile(
    rf"(?P<rater>[^;]+);.*?A:\s*(?P<A>{NUMBER});\s*V:\s*(?P<V>{NUMBER});\s*D:\s*(?P<D>{NUMBER})", re.IGNORECASE
)

Ratings = dict[str, dict[str, list[tuple[str, float]]]]  # raters with their ratings, by target and utterance


def read_csv(path: Path) -> pd.DataFrame:
    """Read a label table with every cell as text.

    Raises:
        InputError: if the file is no table in UTF-8
    """
    check_label_file(path)
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # of pandas' parser and of decoding, too
        raise InputError("LP157", f"{path} can't be read as a table: {error}. Download it again.") from error


def read_single_ratings(labels: Path) -> tuple[Ratings, str, int]:
    """Return the ratings of single raters, the name of their file ('' for none), and how many lines are no ratings.

    Raises:
        InputError: if the file is not in its format
    """
    for name, read in (
        ("labels_detailed.json", _from_json), ("labels_detailed.csv", _from_csv), ("labels.txt", _from_text),
    ):  # fmt: skip
        path = find_entry(labels, name)
        if path is not None:
            try:
                ratings, n_unread = read(path)
            except InputError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                text = f"{path} is not in its format ({type(error).__name__}: {error})"
                raise InputError("LP157", f"{text}. Download it again.") from error
            return ratings, path.name, n_unread
    return {}, "", 0


def _from_json(path: Path) -> tuple[Ratings, int]:
    ratings = _no_ratings()
    for name, raters in json.loads(read_text(path)).items():
        for rater, labels in raters.items():
            for column, target in COLUMNS.items():
                _add(ratings, target, Path(name).stem, rater, labels.get(column))
    return ratings, 0


def _from_csv(path: Path) -> tuple[Ratings, int]:
    """Read ``labels_detailed.csv``: releases 1.6 and 2.0 have columns, those between a raw line per rater."""
    ratings, table = _no_ratings(), read_csv(path)
    names = [Path(name).stem for name in table["FileName"]]
    if "EmoDetail" in table:
        return ratings, sum(
            not _add_line(ratings, name, line) for name, line in zip(names, table["EmoDetail"], strict=True)
        )
    workers = (
        table["Workers"]
        if "Workers" in table
        else table["WorkerID"]
        if "WorkerID" in table
        else table.index.astype(str)
    )
    for column, target in COLUMNS.items():
        if column in table:
            for name, rater, value in zip(names, workers, table[column], strict=True):
                _add(ratings, target, name, str(rater), value)
    return ratings, 0


def _from_text(path: Path) -> tuple[Ratings, int]:
    ratings, name, n_unread = _no_ratings(), "", 0
    for line in read_text(path, latin_1=True).splitlines():
        first = line.split(";", 1)[0].strip()
        if first.lower().endswith(".wav"):
            name = Path(first).stem
        elif line.strip() and name:
            n_unread += not _add_line(ratings, name, line)
    return ratings, n_unread


def _no_ratings() -> Ratings:
    return {target: defaultdict(list) for target in COLUMNS.values()}


def _add_line(ratings: Ratings, name: str, line: str) -> bool:
    """Add the ratings of one line, and return whether it holds any."""
    m = RATER.match(line.strip())
    if m:
        for key, target in KEYS.items():
            _add(ratings, target, name, m["rater"].strip(), m[key])
    return m is not None


def _add(ratings: Ratings, target: str, name: str, rater: str, value: Any) -> None:
    number = float(value) if value not in (None, "") else math.nan  # of half a million, pandas would take a minute
    if math.isfinite(number):
        ratings[target][name].append((sys.intern(rater), number))
