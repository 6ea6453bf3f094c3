"""Acted corpora without ratings, described by their file names: CREMA-D, RAVDESS, EMO-DB."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import (
    Imported,
    audio_files_below,
    check_no_lfs_pointers,
    compare_with_published,
    find_entry,
    tidy,
)
from layerprobe.probe.data.manifest.schema import Header, Nominal
from layerprobe.probe.exceptions import InputError

NO_RATINGS = "no ratings of arousal, valence or dominance: the target is the emotion, and no rating is derived from it"

CREMA_D = re.compile(r"^(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{2})$")
CREMA_D_EMOTIONS = {
    "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness",
}  # fmt: skip
CREMA_D_LEVELS = {"LO": "low", "MD": "middle", "HI": "high", "XX": ""}
CREMA_D_SILENT = "1076_MTI_SAD_XX"

RAVDESS = re.compile(r"^(\d{2})-(\d{2})-(\d{2})-(\d{2})-(\d{2})-(\d{2})-(\d{2})$")
RAVDESS_EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")

EMO_DB = re.compile(r"^(?P<actor>\d{2})(?P<text>[ab]\d{2})(?P<emotion>[WLEAFTN])(?P<version>[a-z])$")
EMO_DB_EMOTIONS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
}  # fmt: skip
EMO_DB_MEN = ("03", "10", "11", "12", "15")
EMO_DB_WOMEN = ("08", "09", "13", "14", "16")


def import_crema_d(folder: Path) -> Imported:
    """Read CREMA-D (Cao et al., 2014).

    Raises:
        InputError: if the folder is another corpus', or its audio was not fetched
    """
    audio = find_entry(folder, "AudioWAV")
    if audio is None:
        raise InputError(f"{folder} is no CREMA-D: it has no folder AudioWAV.")
    sexes = _demographics(folder)

    def row(name: str) -> dict[str, Any] | None:
        m = CREMA_D.match(name)
        if m is None or m["emotion"] not in CREMA_D_EMOTIONS or m["level"] not in CREMA_D_LEVELS:
            return None
        return {
            "speaker_id": m["actor"],
            "gender": sexes.get(m["actor"], ""),
            "sentence": m["sentence"],
            "intensity": CREMA_D_LEVELS[m["level"]],
            "emotion": CREMA_D_EMOTIONS[m["emotion"]],
        }

    files = audio_files_below(audio)
    check_no_lfs_pointers(list(files.values())[:1], "CREMA-D")
    dropped = Counter({f"{CREMA_D_SILENT} is silent": int(files.pop(CREMA_D_SILENT, None) is not None)})
    table = _make_table(files, row, folder, "CREMA-D", dropped)
    warnings = [
        NO_RATINGS,
        "all actors speak the same twelve sentences, so the text carries no information about the emotion",
    ]
    warnings.append(
        compare_with_published({"utterances": len(table)}, {"utterances": 7_441}, "the release without the silent file")
    )
    if not sexes:
        warnings.append("VideoDemographics.csv is missing, so genders are unknown")
    classes = tuple(CREMA_D_EMOTIONS.values())
    return Imported(table, _header("CREMA-D", "1", "ODbL 1.0", classes), +dropped, warnings)


def import_ravdess(folder: Path) -> Imported:
    """Read the spoken part of RAVDESS (Livingstone and Russo, 2018); actors with odd numbers are men.

    Raises:
        InputError: if the folder is another corpus'
    """
    dropped = Counter[str]()

    def row(name: str) -> dict[str, Any] | None:
        m = RAVDESS.match(name)
        if m is None or not 1 <= int(m[3]) <= len(RAVDESS_EMOTIONS) or not 1 <= int(m[7]) <= 24:
            return None
        if m[1] != "03":
            dropped["video, not audio only"] += 1
            return {}
        if m[2] != "01":
            dropped["sung"] += 1
            return {}
        return {
            "speaker_id": f"Actor_{m[7]}",
            "gender": "male" if int(m[7]) % 2 else "female",
            "sentence": {"01": "kids", "02": "dogs"}.get(m[5], m[5]),
            "intensity": {"01": "normal", "02": "strong"}.get(m[4], m[4]),
            "emotion": RAVDESS_EMOTIONS[int(m[3]) - 1],
        }

    table = _make_table(audio_files_below(folder), row, folder, "RAVDESS", dropped)
    warnings = [
        NO_RATINGS,
        compare_with_published({"utterances": len(table)}, {"utterances": 1_440}, "the spoken part"),
    ]
    return Imported(table, _header("RAVDESS", "1", "CC BY-NC-SA 4.0", RAVDESS_EMOTIONS), +dropped, warnings)


def import_emo_db(folder: Path) -> Imported:
    """Read EMO-DB (Burkhardt et al., 2005).

    Raises:
        InputError: if the folder is another corpus'
    """
    dropped = Counter[str]()

    def row(name: str) -> dict[str, Any] | None:
        m = EMO_DB.match(name)
        if m is None or m["actor"] not in EMO_DB_MEN + EMO_DB_WOMEN:
            return None
        return {
            "speaker_id": m["actor"],
            "gender": "male" if m["actor"] in EMO_DB_MEN else "female",
            "sentence": m["text"],
            "emotion": EMO_DB_EMOTIONS[m["emotion"]],
        }

    table = _make_table(audio_files_below(folder), row, folder, "EMO-DB", dropped)
    warnings = [NO_RATINGS, compare_with_published({"utterances": len(table)}, {"utterances": 535}, "the release")]
    return Imported(table, _header("EMO-DB", "1", "", tuple(EMO_DB_EMOTIONS.values())), +dropped, warnings)


def _make_table(
    files: dict[str, Path],
    row: Callable[[str], dict[str, Any] | None],
    folder: Path,
    corpus: str,
    dropped: Counter[str],
) -> pd.DataFrame:
    """Return the table of all files whose name is the corpus'.

    ``row`` returns the columns that a name encodes, ``{}`` for a file that it counted as dropped itself, or None for
    a name that is not the corpus'.
    """
    rows = []
    for name, path in files.items():
        columns = row(name)
        if columns is None:
            dropped[f"name is not one of {corpus}"] += 1
        elif columns:
            rows.append({"utterance_id": name, "path": str(path.absolute()), **columns})
    if not rows:
        raise InputError(f"{folder} is no {corpus}: no audio file in it has a name of that corpus.")
    return tidy(pd.DataFrame(rows))


def _header(corpus: str, version: str, licence: str, classes: tuple[str, ...]) -> Header:
    nominal = {"emotion": Nominal(classes, "emotion that the actor was instructed to express")}
    return Header(corpus, version, licence, {}, notes=f"{NO_RATINGS[0].upper()}{NO_RATINGS[1:]}.", nominal=nominal)


def _demographics(folder: Path) -> dict[str, str]:
    path = find_entry(folder, "VideoDemographics.csv")
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {row["ActorID"].strip(): row["Sex"].strip().lower() for row in csv.DictReader(file)}
