"""Acted corpora without ratings, described by their file names: CREMA-D, RAVDESS, EMO-DB."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.audio_files import audio_files_below, check_folder_number
from layerprobe.probe.data.importers.base import (
    Imported,
    compare_with_published,
    find_entry,
    not_the_corpus,
    read_text,
    tidy,
)
from layerprobe.probe.data.manifest.schema import Header, Nominal
from layerprobe.probe.exceptions import InputError

NO_RATINGS = "no ratings of arousal, valence or dominance: the target is the emotion, and no rating is derived from it"

CREMA_D = re.compile(r"^(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{1,2})$")
CREMA_D_EMOTIONS = {
    "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness",
}  # fmt: skip
CREMA_D_LEVELS = {"LO": "low", "MD": "middle", "HI": "high", "XX": "", "X": ""}  # X in one file's name
CREMA_D_SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
CREMA_D_SILENT = "1076_MTI_SAD_XX"

RAVDESS = re.compile(
    r"^(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<sentence>0[12])"
    r"-(?P<repetition>0[12])-(?P<actor>0[1-9]|1\d|2[0-4])$"
)
RAVDESS_FOLDER = re.compile(r"^actor[_ -]?(\d{1,2})$", re.IGNORECASE)
RAVDESS_EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")

EMO_DB = re.compile(r"^(?P<actor>\d{2})(?P<text>[ab]\d{2})(?P<emotion>[WLEAFTN])(?P<version>[a-z])$", re.IGNORECASE)
EMO_DB_EMOTIONS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
}  # fmt: skip
EMO_DB_MEN = ("03", "10", "11", "12", "15")
EMO_DB_WOMEN = ("08", "09", "13", "14", "16")


def import_crema_d(folder: Path) -> Imported:
    """Read CREMA-D (Cao et al., 2014).

    Raises:
        InputError: if the folder is another corpus'
    """
    audio = find_entry(folder, "AudioWAV")
    if audio is None:
        raise not_the_corpus(folder, "CREMA-D", "it has no folder AudioWAV")
    sexes = _demographics(folder)
    dropped = Counter[str]()

    def row(name: str, _: Path) -> dict[str, Any] | None:
        m = CREMA_D.match(name.upper())
        known = m is not None and m["emotion"] in CREMA_D_EMOTIONS and m["level"] in CREMA_D_LEVELS
        if m is None or not known or m["sentence"] not in CREMA_D_SENTENCES:
            return None
        if m[0] == CREMA_D_SILENT:
            dropped[f"{CREMA_D_SILENT} is silent"] += 1
            return {}
        return {
            "utterance_id": m[0],
            "speaker_id": m["actor"],
            "gender": sexes.get(m["actor"], ""),
            "sentence": m["sentence"],
            "intensity": CREMA_D_LEVELS[m["level"]],
            "emotion": CREMA_D_EMOTIONS[m["emotion"]],
        }

    table = _make_table(audio, row, folder, "CREMA-D", dropped)
    warnings = [
        NO_RATINGS,
        "all actors speak the same twelve sentences, so the text carries no information about the emotion",
    ]
    warnings.append(
        compare_with_published({"utterances": len(table)}, {"utterances": 7_441}, "the release without the silent file")
    )
    if not sexes:
        warnings.append("VideoDemographics.csv is missing, so genders are unknown")
    else:
        unknown = sorted(set(table["speaker_id"]) - set(sexes))
        if unknown:
            warnings.append(f"VideoDemographics.csv lacks {len(unknown)} actors ({unknown[0]} first): gender unknown")
    classes = tuple(CREMA_D_EMOTIONS.values())
    return Imported(table, _header("CREMA-D", "1", "ODbL 1.0", classes), +dropped, warnings)


def import_ravdess(folder: Path) -> Imported:
    """Read the spoken part of RAVDESS (Livingstone and Russo, 2018); actors with odd numbers are men.

    Raises:
        InputError: if the folder is another corpus', or a file is in the folder of another actor than its name states
    """
    dropped = Counter[str]()

    def row(name: str, path: Path) -> dict[str, Any] | None:
        m = RAVDESS.match(name)
        if m is None:
            return None
        if m["modality"] != "03":
            dropped["video, not audio only"] += 1
            return {}
        if m["channel"] != "01":
            dropped["sung"] += 1
            return {}
        check_folder_number(path, folder, RAVDESS_FOLDER, int(m["actor"]), "actor")
        return {
            "utterance_id": name,
            "speaker_id": f"Actor_{m['actor']}",
            "gender": "male" if int(m["actor"]) % 2 else "female",
            "sentence": {"01": "kids", "02": "dogs"}[m["sentence"]],
            "intensity": {"01": "normal", "02": "strong"}[m["intensity"]],
            "emotion": RAVDESS_EMOTIONS[int(m["emotion"]) - 1],
        }

    table = _make_table(folder, row, folder, "RAVDESS", dropped)
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

    def row(name: str, _: Path) -> dict[str, Any] | None:
        m = EMO_DB.match(name)
        if m is None or m["actor"] not in EMO_DB_MEN + EMO_DB_WOMEN:
            return None
        text, emotion = m["text"].lower(), m["emotion"].upper()
        return {
            "utterance_id": f"{m['actor']}{text}{emotion}{m['version'].lower()}",
            "speaker_id": m["actor"],
            "gender": "male" if m["actor"] in EMO_DB_MEN else "female",
            "sentence": text,
            "emotion": EMO_DB_EMOTIONS[emotion],
        }

    table = _make_table(folder, row, folder, "EMO-DB", dropped)
    warnings = [NO_RATINGS, compare_with_published({"utterances": len(table)}, {"utterances": 535}, "the release")]
    return Imported(table, _header("EMO-DB", "1", "", tuple(EMO_DB_EMOTIONS.values())), +dropped, warnings)


def _make_table(
    audio: Path,
    row: Callable[[str, Path], dict[str, Any] | None],
    folder: Path,
    corpus: str,
    dropped: Counter[str],
) -> pd.DataFrame:
    """Return the table of all files below ``audio`` whose name is the corpus'; the others are counted in ``dropped``.

    ``row`` returns the columns that a name encodes, ``{}`` for a file that it counted as dropped itself, or None for
    a name that is not the corpus'.
    """
    files = audio_files_below(audio)
    dropped.update(files.skipped)
    rows = []
    for name, path in files.paths.items():
        columns = row(name, path)
        if columns is None:
            dropped[f"name is not one of {corpus}"] += 1
        elif columns:
            rows.append({"utterance_id": "", "path": str(path.absolute()), **columns})
    if not rows:
        raise not_the_corpus(folder, corpus, "no audio file in it has a name of that corpus")
    return tidy(pd.DataFrame(rows))


def _header(corpus: str, version: str, licence: str, classes: tuple[str, ...]) -> Header:
    nominal = {"emotion": Nominal(classes, "emotion that the actor was instructed to express")}
    return Header(corpus, version, licence, {}, notes=f"{NO_RATINGS[0].upper()}{NO_RATINGS[1:]}.", nominal=nominal)


def _demographics(folder: Path) -> dict[str, str]:
    """Return each actor's sex from ``VideoDemographics.csv``, none where that is missing."""
    path = find_entry(folder, "VideoDemographics.csv")
    if path is None:
        return {}
    rows = list(csv.DictReader(io.StringIO(read_text(path, latin_1=True))))
    missing = [c for c in ("ActorID", "Sex") if not rows or c not in rows[0]]
    if missing:
        raise InputError("LP157", f"{path} has no column {missing[0]}. Download it again, or remove it.")
    return {row["ActorID"].strip(): (row["Sex"] or "").strip().lower() for row in rows}
