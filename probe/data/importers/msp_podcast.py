"""MSP-Podcast, releases 1.6 to 2.0 with all their spellings (Lotfian and Busso, 2019; Busso et al., 2025).

The consensus file names its columns; their order is arousal, valence, dominance, unlike other corpora. Ratings of
single raters come from ``labels_detailed.json``, ``labels_detailed.csv`` or ``labels.txt``, whichever exists. As there
were thousands of raters, ``arousal_r1`` of two utterances are in general ratings of different people.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.audio_files import audio_files_below
from layerprobe.probe.data.importers.base import (
    SPLITS,
    Imported,
    check_once,
    compare_with_published,
    find_entry,
    not_the_corpus,
    numbered_rater_columns,
    rating_scale,
    read_text,
    split_named,
    tidy,
)
from layerprobe.probe.data.importers.msp_podcast_raters import COLUMNS, read_csv, read_single_ratings
from layerprobe.probe.data.manifest.schema import Header, Nominal
from layerprobe.probe.data.transcripts import read_transcripts
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import is_unknown, normalise_name
from layerprobe.probe.splits import UNKNOWN_SPEAKER

CONSENSUS = re.compile(r"labels?_con[cs]en[cs]us\.csv$", re.IGNORECASE)
CLASSES = {
    "A": "anger", "S": "sadness", "H": "happiness", "U": "surprise", "F": "fear", "D": "disgust", "C": "contempt",
    "N": "neutral", "O": "other",
}  # fmt: skip
NO_AGREEMENT = "X"
PUBLISHED = {
    "1.10": {"train": 63_076, "development": 10_999, "test1": 16_903, "test2": 13_289},
    "1.11": {"train": 84_030, "development": 19_815, "test1": 30_647, "test2": 14_815},
    "2.0": {"train": 169_190, "development": 34_399, "test1": 46_294, "test2": 14_822},
}


def import_msp_podcast(folder: Path) -> Imported:
    """Read a release of MSP-Podcast.

    Raises:
        InputError: if the folder is another corpus', or the labels or the audio are missing
    """
    labels, consensus = _consensus(folder)
    table = read_csv(consensus)
    missing = [c for c in ("FileName", *COLUMNS) if c not in table]
    if missing:
        text = f"{consensus} has no column {missing[0]}, so it is no consensus file of MSP-Podcast"
        raise InputError("LP157", f"{text}. Download it again.")
    dropped, warnings = Counter[str](), list[str]()
    dropped["labelled twice"] += int(table.duplicated().sum())
    table = table.drop_duplicates(ignore_index=True)
    stems = table["FileName"].map(lambda name: Path(name.strip()).stem)
    check_once(stems, consensus)
    audio = audio_files_below(_audio_folder(folder))
    paths = {name: path for name in stems if (path := audio.find(name)) is not None}
    exists = stems.isin(list(paths))
    if not exists.any():
        raise InputError(
            "LP162", f"{_audio_folder(folder)} has none of the {len(table)} labelled files. Unpack the audio."
        )
    dropped["labelled, but audio is missing"] += int((~exists).sum())
    dropped["audio without labels"] += audio.n_other(set(stems))
    dropped.update(audio.skipped)
    if dropped["audio without labels"]:
        warnings.append("Test3 is released without labels")
    table, stems = table[exists].reset_index(drop=True), stems[exists].reset_index(drop=True)
    ids = stems.tolist()
    ratings = {target: _numbers(table[c], consensus) for c, target in COLUMNS.items()}
    speakers = _speakers(folder, table, stems)
    rows: dict[str, Any] = {
        "utterance_id": ids,
        "path": [str(paths[s].absolute()) for s in ids],
        "speaker_id": speakers,
        "split": _splits(folder, table, stems),
        "gender": table["Gender"].str.lower().replace("unknown", "") if "Gender" in table else "",
        "transcript": _transcripts(folder, ids),
        **ratings,
        "emotion": [_class(c, consensus) for c in table["EmoClass"]] if "EmoClass" in table else "",
    }
    detailed, source, n_unread = read_single_ratings(labels)
    for target in COLUMNS.values():
        rows |= numbered_rater_columns(detailed.get(target, {}), ids, target)
    warnings.append(
        f"ratings of single raters from {source}" if source else "no ratings of single raters in this folder"
    )
    if n_unread:
        warnings.append(f"{n_unread} lines of raters in {source} are not in its format and left out")
    n_transcripts = sum(t != "" for t in rows["transcript"])
    if 0 < n_transcripts < len(ids):
        warnings.append(f"{len(ids) - n_transcripts} utterances have no transcript")
    n_unknown = int((speakers == UNKNOWN_SPEAKER).sum())
    if n_unknown:
        warnings.append(f"{n_unknown} utterances have no known speaker; each counts as a speaker of its own")
    found = tidy(pd.DataFrame(rows))
    version = _version(folder, found)
    counts = {str(k): int(v) for k, v in found["split"].value_counts().items()} if "split" in found else {}
    if version in PUBLISHED:
        warnings.append(compare_with_published(counts, PUBLISHED[version], version))
    overlap = _speaker_overlap(found)
    if overlap:
        warnings.append(overlap)
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
        labels = find_entry(folder, name)
        if labels is not None and labels.is_dir():
            files = [p for p in sorted(labels.iterdir()) if CONSENSUS.search(p.name)]
            if files:
                return labels, files[0]
            text = f"{labels} has no labels_consensus.csv (or labels_concensus.csv, as up to 1.9)"
            raise InputError("LP161", f"{text}. Unpack the labels there.")
    raise not_the_corpus(folder, "MSP-Podcast", "it has no folder Labels with labels_consensus.csv in it")


def _audio_folder(folder: Path) -> Path:
    for name in ("audios", "audio", "wav", "wavs"):
        found = find_entry(folder, name)
        if found is not None and found.is_dir():
            return found
    raise InputError("LP162", f"{folder} has labels, but no folder Audios. Unpack the audio next to them.")


def _numbers(column: pd.Series[str], consensus: Path) -> pd.Series[float]:
    text = column.str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(float)
    wrong = (text != "") & values.isna() & (text.str.lower() != "nan")
    if wrong.any():
        raise InputError(
            "LP166",
            f"{consensus}, row {int(np.flatnonzero(wrong)[0]) + 2}: {column.name} is not a number. Correct the row.",
        )
    return values


def _class(code: str, consensus: Path) -> str:
    code = code.strip()
    if code in ("", NO_AGREEMENT):
        return ""
    if code not in CLASSES:
        raise InputError(
            "LP165", f"{consensus}: EmoClass {code!r} is unknown; known are {', '.join(CLASSES)} and {NO_AGREEMENT}."
        )
    return CLASSES[code]


def _two_columns(path: Path) -> dict[str, str]:
    """Read lines of a file name and another entry, in either order, as entries by name."""
    pairs = {}
    for line in read_text(path, latin_1=True).splitlines():
        parts = [p.strip() for p in re.split(r"[;,\t]", line) if p.strip()]
        name = next((p for p in parts if p.lower().endswith(".wav")), None)
        other = next((p for p in parts if p != name), None)
        if name and other:
            pairs[Path(name).stem] = other
    return pairs


def _read_pairs(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the entries of the first file of these names, or none."""
    for name in names:
        path = find_entry(folder, name)
        if path is not None:
            return _two_columns(path)
    return {}


def _speakers(folder: Path, table: pd.DataFrame, stems: pd.Series[str]) -> pd.Series[str]:
    if "SpkrID" in table:
        known = table["SpkrID"]
    else:  # up to 1.7 in a file of its own
        pairs = _read_pairs(folder, ("Speaker_ids.txt", "Speaker_id.txt"))
        known = stems.map(lambda s: pairs.get(s, ""))
    names = known.map(normalise_name).str.replace(r"\.0$", "", regex=True)  # of numbers in a column with gaps
    return names.where(~names.map(is_unknown), UNKNOWN_SPEAKER)


def _splits(folder: Path, table: pd.DataFrame, stems: pd.Series[str]) -> list[str]:
    if "Split_Set" in table:
        named = table["Split_Set"].tolist()
    else:
        pairs = _read_pairs(folder, ("Partitions.txt", "Partition.txt"))
        if not pairs:
            return [""] * len(table)
        named = [pairs.get(s, "") for s in stems]
    splits = []
    without = [stem for stem, name in zip(stems, named, strict=True) if not name.strip()]
    if without:
        raise InputError(
            "LP168", f"{folder}: {len(without)} labelled files are in no split, {without[0]} first. Complete it."
        )
    for name in named:
        split = split_named(name)
        if not split:
            raise InputError("LP168", f"{folder}: the split {name!r} is unknown; known are {', '.join(SPLITS)}.")
        splits.append(split)
    return splits


def _transcripts(folder: Path, ids: list[str]) -> list[str]:
    found = find_entry(folder, "transcripts")
    if found is None or not any(found.rglob("*.txt")):
        return [""] * len(ids)
    texts = read_transcripts(found).texts
    return [texts.get(name, "") for name in ids]


def _version(folder: Path, table: pd.DataFrame) -> str:
    named = re.search(r"(?<!\d)(1[._]\d{1,2}|2[._]0)(?!\d)", folder.absolute().name)
    if named:
        return named[1].replace("_", ".")
    counts = table["split"].value_counts().to_dict() if "split" in table else {}
    return next((v for v, published in PUBLISHED.items() if published.items() <= counts.items()), "unknown")


def _speaker_overlap(table: pd.DataFrame) -> str:
    if "split" not in table:
        return ""
    known = table[table["speaker_id"] != UNKNOWN_SPEAKER]
    train = set(known["speaker_id"][known["split"] == "train"])
    common = {
        s: len(train & set(known["speaker_id"][known["split"] == s]))
        for s in sorted(set(known["split"]))
        if s != "train"
    }
    counts = [f"{n} with {s}" for s, n in common.items() if n]
    return f"training has speakers in common: {', '.join(counts)}" if counts else ""
