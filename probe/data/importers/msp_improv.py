"""MSP-IMPROV (Busso et al., 2017): twelve actors in six pairs, rated on 1 to 5.

Copies disagree on which end of the arousal scale is active. So the data decide: where anger and happiness are rated
lower than sadness and neutral, 1 was the active end, and ratings are reversed (6 - x).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.audio_files import audio_files_below, check_folder_number
from layerprobe.probe.data.importers.base import (
    GENDERS,
    Imported,
    check_once,
    compare_with_published,
    find_entry,
    not_the_corpus,
    numbered_rater_columns,
    rating_scale,
    read_text,
    tidy,
)
from layerprobe.probe.data.manifest.schema import Header, Nominal
from layerprobe.probe.exceptions import InputError

NUMBER = r"(?:\d+(?:\.\d*)?|NaN)"
SCORES = (
    rf"A:(?P<arousal>{NUMBER})\s*;\s*V:(?P<valence>{NUMBER})\s*;\s*D:(?P<dominance>{NUMBER})\s*;"
    rf"(?:\s*N:(?P<naturalness>{NUMBER})\s*;)?"
)
CLIP = re.compile(rf"^UTD-IMPROV-(?P<name>[A-Z0-9-]+)\.avi;\s*(?P<code>[A-Z]);\s*{SCORES}")
RATER = re.compile(rf"^(?P<rater>[^;]+);.*?{SCORES}")
FIELDS = re.compile(
    r"^S(?P<sentence>\d{2})(?P<acted>[AHNS])-(?P<sex>[FM])(?P<pair>\d{2})-(?P<kind>[PRST])-(?P<turn>\w+)$"
)
SESSION = re.compile(r"^session(\d+)$", re.IGNORECASE)
TARGETS = ("arousal", "valence", "dominance")
CLASSES = {"A": "anger", "H": "happiness", "S": "sadness", "N": "neutral", "O": "other"}
NO_AGREEMENT = "X"
KINDS = {"P": "natural", "R": "read", "S": "improvised towards the sentence", "T": "target improvised"}
ACTIVE, CALM = ("anger", "happiness"), ("sadness", "neutral")
PUBLISHED = {"utterances": 8_438}


def import_msp_improv(folder: Path) -> Imported:
    """Read a release of MSP-IMPROV.

    Raises:
        InputError: if the folder is another corpus', or the labels or the audio are missing
    """
    labels = find_entry(folder, "Evalution.txt") or find_entry(folder, "Evaluation.txt")
    if labels is None:
        raise not_the_corpus(folder, "MSP-IMPROV", "it has no Evalution.txt (nor Evaluation.txt)")
    audio = audio_files_below(folder)
    dropped = Counter[str]()
    clips, ratings, n_unread = _clips(labels, dropped)
    if not clips:
        raise InputError(
            "LP157",
            f"{labels} has no line UTD-IMPROV-….avi; …, so it is not the label file of MSP-IMPROV. Unpack it again.",
        )
    check_once((clip["utterance_id"] for clip in clips), labels)
    names = [clip["utterance_id"] for clip in clips]
    found = {name: path for name in names if (path := audio.find(name)) is not None}
    kept = [clip for clip in clips if clip["utterance_id"] in found]
    if not kept:
        raise InputError(
            "LP162",
            f"{folder}: none of the {len(clips)} rated clips has audio. Unpack the folders session1 to session6.",
        )
    dropped["rated, but audio is missing"] += len(clips) - len(kept)
    dropped["audio without ratings"] += audio.n_other(set(names))
    dropped.update(audio.skipped)
    ids = [clip["utterance_id"] for clip in kept]
    rows: dict[str, Any] = {name: [clip[name] for clip in kept] for name in kept[0]}
    for clip in kept:
        check_folder_number(found[clip["utterance_id"]], folder, SESSION, clip["pair"], "pair")
    rows["path"] = [str(found[name].absolute()) for name in ids]
    for target in TARGETS:
        rows |= numbered_rater_columns({n: _average_repeats(r) for n, r in ratings[target].items()}, ids, target)
    table = tidy(pd.DataFrame(rows))
    note = _align_arousal(table)
    warnings = [note, compare_with_published({"utterances": len(table)}, PUBLISHED, "the release")]
    if n_unread:
        warnings.append(f"{n_unread} lines of raters in {labels.name} are not in its format and left out")
    warnings.append("no official split; each pair of actors (column pair) is a dialogue")
    header = Header(
        "MSP-IMPROV",
        "1",
        "academic, by agreement",
        rating_scale(1, 5),
        notes=f"{note[0].upper()}{note[1:]}.",
        nominal={"emotion": Nominal(tuple(CLASSES.values()), "what most listeners chose; empty without agreement")},
    )
    return Imported(table, header, +dropped, warnings)


def _clips(
    labels: Path, dropped: Counter[str]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[tuple[str, float]]]], int]:
    """Return the clips, the ratings of their raters, and how many lines of raters can't be read.

    Raises:
        InputError: if a clip has no name or no emotion of the corpus
    """
    n_unread = 0
    clips: list[dict[str, Any]] = []
    ratings: dict[str, dict[str, list[tuple[str, float]]]] = {t: defaultdict(list) for t in TARGETS}
    name = ""
    for line in read_text(labels, latin_1=True).splitlines():
        if m := CLIP.match(line.strip()):
            parts = FIELDS.match(m["name"])
            if parts is None:
                text = f"{labels}: {m['name']} is not a clip name of MSP-IMPROV"
                raise InputError("LP167", f"{text}. Correct the line, or unpack the file again.")
            name = f"MSP-IMPROV-{m['name']}"
            code = m["code"]
            if code != NO_AGREEMENT and code not in CLASSES:
                raise InputError(
                    "LP165", f"{labels}: {name} has the emotion {code!r}; known are {', '.join(CLASSES)} and X."
                )
            clips.append(
                {
                    "utterance_id": name,
                    "path": "",
                    "speaker_id": parts["sex"] + parts["pair"],
                    "gender": GENDERS[parts["sex"]],
                    "pair": int(parts["pair"]),
                    "sentence": int(parts["sentence"]),
                    "recording": KINDS[parts["kind"]],
                    "emotion": CLASSES.get(code, ""),
                    **{target: float(m[target]) for target in TARGETS},
                }
            )
        elif line.strip().upper().startswith("UTD-IMPROV-"):
            name = ""  # its raters are not those of the clip above
            dropped["clip without an emotion and three ratings"] += 1
        elif name and (r := RATER.match(line.strip())):
            for target in TARGETS:
                value = float(r[target])
                if np.isfinite(value):
                    ratings[target][name].append((r["rater"].strip(), value))
        elif line.strip() and name:
            n_unread += 1
    return clips, ratings, n_unread


def _average_repeats(ratings: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return one rating per rater: the mean where a rater rated a clip twice."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for rater, value in ratings:
        by_name[rater].append(value)
    return [(rater, float(np.mean(values))) for rater, values in by_name.items()]


def _align_arousal(table: pd.DataFrame) -> str:
    """Reverse arousal in place where 1 is its active end, and return a clause on what was done."""
    active, calm = (table["arousal"][table["emotion"].isin(group)].mean() for group in (ACTIVE, CALM))
    means = f"anger and happiness {active:.2f}, sadness and neutral {calm:.2f}"
    if np.isnan(active) or np.isnan(calm):
        return "the direction of arousal could not be checked, because emotions are missing; it is left as it is"
    if active > calm:
        return f"arousal is left as it is, because high is active ({means})"
    columns = [str(c) for c in table if str(c) == "arousal" or re.fullmatch(r"arousal_r\d+", str(c))]
    for column in columns:
        table[column] = 6 - table[column]
    return f"arousal was reversed, 6 - x, because 1 is the active end in this copy ({means} before)"
