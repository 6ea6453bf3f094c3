"""MSP-Podcast, 1.6 to 2.0 with all their spellings (Lotfian and Busso, 2019; Busso et al., 2025).

The consensus file names its columns, whose order is arousal, valence, dominance, not that of other corpora. Ratings of
each person come from ``labels_detailed.json``, ``labels_detailed.csv`` or ``labels.txt``, whichever is there. The place
of a person among an utterance's raters says nothing of who it is: thousands rated.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import (
    Imported,
    against_published,
    audio_files_below,
    by_rank,
    inside,
    rating_scale,
    tidy,
)
from layerprobe.probe.data.schema import Header, Nominal
from layerprobe.probe.data.transcripts import read_transcripts
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import UNKNOWN_SPEAKER

CONSENSUS = re.compile(r"labels?_con[cs]en[cs]us\.csv$", re.IGNORECASE)
COLUMNS = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
KEYS = {"A": "arousal", "V": "valence", "D": "dominance"}
CLASSES = {
    "A": "anger", "S": "sadness", "H": "happiness", "U": "surprise", "F": "fear", "D": "disgust", "C": "contempt",
    "N": "neutral", "O": "other",
}  # fmt: skip
NO_AGREEMENT = "X"
SPLITS = {
    "train": "train", "development": "development", "validation": "development", "dev": "development",
    "test1": "test1", "test2": "test2", "test3": "test3",
}  # fmt: skip
PUBLISHED = {
    "1.10": {"train": 63_076, "development": 10_999, "test1": 16_903, "test2": 13_289},
    "1.11": {"train": 84_030, "development": 19_815, "test1": 30_647, "test2": 14_815},
    "2.0": {"train": 169_190, "development": 34_399, "test1": 46_294, "test2": 14_822},
}
RATER = re.compile(
    r"(?P<who>[^;]+);.*?A:\s*(?P<A>[\d.]+|nan);\s*V:\s*(?P<V>[\d.]+|nan);\s*D:\s*(?P<D>[\d.]+|nan)", re.IGNORECASE
)

_Ratings = dict[str, dict[str, list[tuple[str, float]]]]  # target -> utterance -> rater and rating


def import_msp_podcast(folder: Path) -> Imported:
    """Read a release.

    Raises:
        InputError: if it is none, or half of it is missing
    """
    labels, consensus = _consensus(folder)
    table = pd.read_csv(consensus, dtype=str, keep_default_na=False)
    missing = [c for c in ("FileName", *COLUMNS) if c not in table]
    if missing:
        raise InputError(f"{consensus} has no column {missing[0]}, so it is no consensus file of MSP-Podcast.")
    dropped, warnings = Counter[str](), list[str]()
    stems = table["FileName"].map(lambda name: Path(name).stem)
    sounds = audio_files_below(_audio(folder))
    there = stems.isin(list(sounds))
    if not there.any():
        raise InputError(f"{_audio(folder)} has none of the {len(table)} labelled sounds. Unpack the audio.")
    dropped["labelled, but no sound"] += int((~there).sum())
    dropped["a sound without labels, as Test3 is released"] += len(set(sounds) - set(stems))
    table, stems = table[there].reset_index(drop=True), stems[there].reset_index(drop=True)
    ids = stems.tolist()
    ratings = {target: _numbers(table[c], consensus) for c, target in COLUMNS.items()}
    speakers = _speakers(folder, table, stems)
    rows: dict[str, Any] = {
        "utterance_id": ids,
        "path": [str(sounds[s].absolute()) for s in ids],
        "speaker_id": speakers,
        "split": _splits(folder, table, stems),
        "gender": table["Gender"].str.lower().replace("unknown", "") if "Gender" in table else "",
        "transcript": _transcripts(folder, ids),
        **ratings,
        "emotion": [_class(c, consensus) for c in table["EmoClass"]] if "EmoClass" in table else "",
    }
    detailed, source = _detailed(labels)
    for target in COLUMNS.values():
        rows |= by_rank(detailed.get(target, {}), ids, target)
    warnings.append(
        f"ratings of each person from {source}" if source else "no ratings of single persons in this folder"
    )
    unknown = int((speakers == UNKNOWN_SPEAKER).sum())
    if unknown:
        warnings.append(f"{unknown} utterances have no known speaker; each counts as one, and may be anybody's")
    found = tidy(pd.DataFrame(rows))
    version = _version(folder, found)
    counts = {str(k): int(v) for k, v in found["split"].value_counts().items()} if "split" in found else {}
    if version in PUBLISHED:
        warnings.append(against_published(counts, PUBLISHED[version], version))
    both = _overlap(found)
    if both:
        warnings.append(both)
    header = Header(
        "MSP-Podcast",
        version,
        "academic, by agreement",
        rating_scale(1, 7),
        notes=f"Imported from {consensus.name}; arousal, valence and dominance by the columns' names.",
        nominal={"emotion": Nominal(tuple(CLASSES.values()), "what most listeners chose; empty without agreement")}
        if "emotion" in found
        else {},
    )
    return Imported(found, header, +dropped, warnings)


def _consensus(folder: Path) -> tuple[Path, Path]:
    for name in ("labels", "label"):
        labels = inside(folder, name)
        if labels is not None and labels.is_dir():
            files = [p for p in sorted(labels.iterdir()) if CONSENSUS.search(p.name)]
            if files:
                return labels, files[0]
            raise InputError(f"{labels} has no labels_consensus.csv (or labels_concensus.csv, as up to 1.9).")
    raise InputError(f"{folder} is no MSP-Podcast: it has no folder Labels with labels_consensus.csv in it.")


def _audio(folder: Path) -> Path:
    for name in ("audios", "audio", "wav", "wavs"):
        found = inside(folder, name)
        if found is not None and found.is_dir():
            return found
    raise InputError(f"{folder} has labels, but no folder Audios. Unpack the audio beside them.")


def _numbers(column: pd.Series[str], consensus: Path) -> pd.Series[float]:
    text = column.str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(float)
    wrong = (text != "") & values.isna() & (text.str.lower() != "nan")
    if wrong.any():
        raise InputError(f"{consensus}, row {int(np.flatnonzero(wrong)[0]) + 2}: {column.name} is no number.")
    return values


def _class(code: str, consensus: Path) -> str:
    code = code.strip()
    if code in ("", NO_AGREEMENT):
        return ""
    if code not in CLASSES:
        raise InputError(
            f"{consensus}: EmoClass {code!r} is unknown; classes are {', '.join(CLASSES)} and {NO_AGREEMENT}."
        )
    return CLASSES[code]


def _two_columns(path: Path) -> dict[str, str]:
    """Lines of a sound's name and something else, in either order."""
    pairs = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        parts = [p.strip() for p in re.split(r"[;,\t]", line) if p.strip()]
        name = next((p for p in parts if p.lower().endswith(".wav")), None)
        other = next((p for p in parts if p != name), None)
        if name and other:
            pairs[Path(name).stem] = other
    return pairs


def _beside(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    for name in names:
        path = inside(folder, name)
        if path is not None:
            return _two_columns(path)
    return {}


def _speakers(folder: Path, table: pd.DataFrame, stems: pd.Series[str]) -> pd.Series[str]:
    if "SpkrID" in table:
        known = table["SpkrID"].str.strip()
    else:  # up to 1.7 in a file of its own
        pairs = _beside(folder, ("Speaker_ids.txt", "Speaker_id.txt"))
        known = stems.map(lambda s: pairs.get(s, ""))
    known = known.where(known.str.lower() != "unknown", "")
    numbers = known.str.replace(r"\.0$", "", regex=True)  # as a table program writes whole numbers beside gaps
    return numbers.where(numbers != "", UNKNOWN_SPEAKER)


def _splits(folder: Path, table: pd.DataFrame, stems: pd.Series[str]) -> list[str]:
    if "Split_Set" in table:
        named = table["Split_Set"].tolist()
    else:
        pairs = _beside(folder, ("Partitions.txt", "Partition.txt"))
        if not pairs:
            return [""] * len(table)
        named = [pairs.get(s, "") for s in stems]
    splits = []
    for name in named:
        key = re.sub(r"[\s_-]", "", name.lower())
        if key not in SPLITS:
            raise InputError(f"{folder}: the split {name!r} is unknown; known are {', '.join(sorted(set(SPLITS)))}.")
        splits.append(SPLITS[key])
    return splits


def _transcripts(folder: Path, ids: list[str]) -> list[str]:
    found = inside(folder, "transcripts")
    if found is None or not any(found.rglob("*.txt")):
        return [""] * len(ids)
    words = read_transcripts(found).words
    return [words.get(name, "") for name in ids]


def _detailed(labels: Path) -> tuple[_Ratings, str]:
    for name, read in (
        ("labels_detailed.json", _from_json), ("labels_detailed.csv", _from_csv), ("labels.txt", _from_text),
    ):  # fmt: skip
        path = inside(labels, name)
        if path is not None:
            return read(path), path.name
    return {}, ""


def _from_json(path: Path) -> _Ratings:
    ratings = _none()
    for name, raters in json.loads(path.read_text(encoding="utf-8")).items():
        for who, given in raters.items():
            for column, target in COLUMNS.items():
                _add(ratings, target, Path(name).stem, who, given.get(column))
    return ratings


def _from_csv(path: Path) -> _Ratings:
    """1.6 and 2.0 have columns, the versions between them one raw line a person."""
    ratings, table = _none(), pd.read_csv(path, dtype=str, keep_default_na=False)
    names = [Path(name).stem for name in table["FileName"]]
    if "EmoDetail" in table:
        for name, line in zip(names, table["EmoDetail"], strict=True):
            _add_line(ratings, name, line)
        return ratings
    who = (
        table["Workers"]
        if "Workers" in table
        else table["WorkerID"]
        if "WorkerID" in table
        else table.index.astype(str)
    )
    for column, target in COLUMNS.items():
        if column in table:
            for name, rater, value in zip(names, who, table[column], strict=True):
                _add(ratings, target, name, str(rater), value)
    return ratings


def _from_text(path: Path) -> _Ratings:
    ratings, name = _none(), ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        first = line.split(";", 1)[0].strip()
        if first.lower().endswith(".wav"):
            name = Path(first).stem
        elif line.strip() and name:
            _add_line(ratings, name, line)
    return ratings


def _none() -> _Ratings:
    return {target: defaultdict(list) for target in COLUMNS.values()}


def _add_line(ratings: _Ratings, name: str, line: str) -> None:
    if m := RATER.match(line.strip()):
        for key, target in KEYS.items():
            _add(ratings, target, name, m["who"].strip(), m[key])


def _add(ratings: _Ratings, target: str, name: str, who: str, value: Any) -> None:
    number = float(value) if value not in (None, "") else math.nan  # of half a million, pandas would take a minute
    if math.isfinite(number):
        ratings[target][name].append((sys.intern(who), number))


def _version(folder: Path, table: pd.DataFrame) -> str:
    named = re.search(r"(?<!\d)(1[._]\d{1,2}|2[._]0)(?!\d)", folder.absolute().name)
    if named:
        return named[1].replace("_", ".")
    counts = table["split"].value_counts().to_dict() if "split" in table else {}
    return next((v for v, published in PUBLISHED.items() if published.items() <= counts.items()), "unknown")


def _overlap(table: pd.DataFrame) -> str:
    if "split" not in table:
        return ""
    known = table[table["speaker_id"] != UNKNOWN_SPEAKER]
    train = set(known["speaker_id"][known["split"] == "train"])
    shared = {
        s: len(train & set(known["speaker_id"][known["split"] == s]))
        for s in sorted(set(known["split"]))
        if s != "train"
    }
    apart = [f"{n} with {s}" for s, n in shared.items() if n]
    return f"the training part shares speakers: {', '.join(apart)}" if apart else ""
