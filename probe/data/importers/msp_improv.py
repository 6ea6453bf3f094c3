"""MSP-IMPROV (Busso et al., 2017): twelve actors in six pairs, rated on 1 to 5.

Copies disagree on which end of the arousal scale is active. So it is told from the data: where anger and happiness are
rated lower than sadness and neutral, 1 was the active end, and ratings are turned (6 - x).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import (
    GENDERS,
    Imported,
    against_published,
    audio_files_below,
    by_rank,
    inside,
    rating_scale,
    tidy,
)
from layerprobe.probe.data.schema import Header, Nominal
from layerprobe.probe.exceptions import InputError

NUMBER = r"(?:[\d.]+|NaN)"
SCORES = (
    rf"A:(?P<arousal>{NUMBER})\s*;\s*V:(?P<valence>{NUMBER})\s*;\s*D:(?P<dominance>{NUMBER})\s*;"
    rf"\s*N:(?P<naturalness>{NUMBER})\s*;"
)
CLIP = re.compile(rf"^UTD-IMPROV-(?P<name>[A-Z0-9-]+)\.avi;\s*(?P<code>[A-Z]);\s*{SCORES}")
RATER = re.compile(rf"^(?P<who>[^;]+);.*?{SCORES}")
FIELDS = re.compile(
    r"^S(?P<sentence>\d{2})(?P<acted>[AHNS])-(?P<sex>[FM])(?P<pair>\d{2})-(?P<kind>[PRST])-(?P<turn>\w+)$"
)
TARGETS = ("arousal", "valence", "dominance")
CLASSES = {"A": "anger", "H": "happiness", "S": "sadness", "N": "neutral", "O": "other"}
NO_AGREEMENT = "X"
KINDS = {"P": "natural", "R": "read", "S": "improvised towards the sentence", "T": "target improvised"}
ACTIVE, CALM = ("anger", "happiness"), ("sadness", "neutral")
PUBLISHED = {"utterances": 8_438}


def import_msp_improv(folder: Path) -> Imported:
    """Read a release.

    Raises:
        InputError: if it is none, or half of it is missing
    """
    labels = inside(folder, "Evalution.txt") or inside(folder, "Evaluation.txt")
    if labels is None:
        raise InputError(f"{folder} is no MSP-IMPROV: it has no Evalution.txt (nor Evaluation.txt).")
    sounds = audio_files_below(folder)
    clips, ratings = _clips(labels)
    if not clips:
        raise InputError(f"{labels} has no line UTD-IMPROV-….avi; … of MSP-IMPROV's.")
    dropped = Counter[str]()
    kept = [clip for clip in clips if clip["utterance_id"] in sounds]
    dropped["rated, but no sound"] += len(clips) - len(kept)
    if not kept:
        raise InputError(
            f"{folder}: none of the {len(clips)} rated clips has a sound. Unpack the folders session1 to 6."
        )
    named = {clip["utterance_id"] for clip in clips}
    dropped["a sound without ratings"] += sum(
        1 for name in sounds if name.startswith("MSP-IMPROV-") and name not in named
    )
    ids = [clip["utterance_id"] for clip in kept]
    rows: dict[str, Any] = {name: [clip[name] for clip in kept] for name in kept[0]}
    rows["path"] = [str(sounds[name].absolute()) for name in ids]
    for target in TARGETS:
        rows |= by_rank({n: _once(r) for n, r in ratings[target].items()}, ids, target)
    table = tidy(pd.DataFrame(rows))
    note = _turn_arousal(table)
    warnings = [note, against_published({"utterances": len(table)}, PUBLISHED, "the release")]
    warnings.append("no official split; two talk to each other in each pair (column pair)")
    header = Header(
        "MSP-IMPROV",
        "1",
        "academic, by agreement",
        rating_scale(1, 5),
        notes=f"{note[0].upper()}{note[1:]}.",
        nominal={"emotion": Nominal(tuple(CLASSES.values()), "what most listeners chose; empty without agreement")},
    )
    return Imported(table, header, +dropped, warnings)


def _clips(labels: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[tuple[str, float]]]]]:
    clips: list[dict[str, Any]] = []
    ratings: dict[str, dict[str, list[tuple[str, float]]]] = {t: defaultdict(list) for t in TARGETS}
    name = ""
    for line in labels.read_text(encoding="utf-8", errors="replace").splitlines():
        if m := CLIP.match(line.strip()):
            parts = FIELDS.match(m["name"])
            if parts is None:
                raise InputError(f"{labels}: {m['name']} is no name of MSP-IMPROV's.")
            name = f"MSP-IMPROV-{m['name']}"
            code = m["code"]
            if code != NO_AGREEMENT and code not in CLASSES:
                raise InputError(f"{labels}: {name} has the emotion {code!r}; known are {', '.join(CLASSES)} and X.")
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
        elif name and (r := RATER.match(line.strip())):
            for target in TARGETS:
                value = float(r[target])
                if np.isfinite(value):
                    ratings[target][name].append((r["who"].strip(), value))
    return clips, ratings


def _once(given: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """One rating a person, the mean of what he said of a clip that he was shown twice."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for who, value in given:
        by_name[who].append(value)
    return [(who, float(np.mean(values))) for who, values in by_name.items()]


def _turn_arousal(table: pd.DataFrame) -> str:
    """Turn arousal in place where 1 is its active end; the sentence that says so."""
    active, calm = (table["arousal"][table["emotion"].isin(group)].mean() for group in (ACTIVE, CALM))
    means = f"anger and happiness {active:.2f}, sadness and neutral {calm:.2f}"
    if np.isnan(active) or np.isnan(calm):
        return "the direction of arousal could not be checked, for too few emotions are here; it is taken as it is"
    if active > calm:
        return f"arousal is taken as it is, for high is active ({means})"
    columns = [str(c) for c in table if str(c) == "arousal" or re.fullmatch(r"arousal_r\d+", str(c))]
    for column in columns:
        table[column] = 6 - table[column]
    return f"arousal was turned, 6 - x, for in this copy 1 is the active end ({means} before)"
