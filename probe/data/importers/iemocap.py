"""IEMOCAP (Busso et al., 2008): sessions of two actors, rated for valence, activation and dominance, in that order.

``Ses01F_impro01_M003`` is spoken by the man of session 1: the letter after the session is the actor who wore the
markers, the letter of the last part the one who speaks. Raters are listeners only; self-reports of the actors are left
out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import (
    GENDERS,
    Imported,
    audio_files_below,
    compare_with_published,
    numbered_rater_columns,
    rating_scale,
    tidy,
)
from layerprobe.probe.data.manifest.schema import Header, Nominal
from layerprobe.probe.data.transcripts import read_transcripts
from layerprobe.probe.exceptions import InputError

TURN = re.compile(
    r"^\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<name>\w+)\t(?P<code>\w+)\t"
    r"\[(?P<valence>[\d.]+), (?P<arousal>[\d.]+), (?P<dominance>[\d.]+)\]"
)
RATER = re.compile(
    r"^A-(?P<rater>E\d+):\s*(?:val\s+(?P<valence>[\d.]+);)?\s*(?:act\s+(?P<arousal>[\d.]+);)?"
    r"\s*(?:dom\s+(?P<dominance>[\d.]+);)?"
)
TARGETS = ("arousal", "valence", "dominance")
CLASSES = {
    "neu": "neutral", "ang": "anger", "hap": "happiness", "sad": "sadness", "exc": "excitement", "fru": "frustration",
    "fea": "fear", "sur": "surprise", "dis": "disgust", "oth": "other",
}  # fmt: skip
NO_AGREEMENT = "xxx"
PUBLISHED = {"utterances": 10_039}


def import_iemocap(folder: Path) -> Imported:
    """Read IEMOCAP from its folder ``IEMOCAP_full_release``.

    Raises:
        InputError: if the folder is another corpus', or the evaluations or the audio are missing
    """
    sessions = sorted(p for p in folder.glob("Session*") if p.is_dir())
    if not sessions:
        raise InputError(f"{folder} is no IEMOCAP: it has no folders Session1 to Session5.")
    turns: list[dict[str, Any]] = []
    ratings: dict[str, dict[str, list[tuple[str, float]]]] = {t: defaultdict(list) for t in TARGETS}
    transcripts: dict[str, str] = {}
    audio: dict[str, Path] = {}
    for session in sessions:
        files = sorted(p for p in (session / "dialog" / "EmoEvaluation").glob("Ses*.txt"))  # not those below it
        if not files:
            raise InputError(f"{session} has no evaluations in dialog/EmoEvaluation. Unpack the whole release.")
        for file in files:
            turns += _turns(file, ratings)
        transcriptions = session / "dialog" / "transcriptions"
        if transcriptions.is_dir():
            transcripts |= read_transcripts(transcriptions).texts
        audio |= audio_files_below(session / "sentences")
    dropped = Counter[str]()
    kept = [turn for turn in turns if turn["utterance_id"] in audio]
    dropped["rated, but audio is missing"] += len(turns) - len(kept)
    dropped["audio without ratings"] += len(set(audio) - {t["utterance_id"] for t in turns})
    if not kept:
        raise InputError(
            f"{folder}: none of the {len(turns)} rated turns has audio in sentences/wav. Unpack the audio."
        )
    ids = [turn["utterance_id"] for turn in kept]
    rows: dict[str, Any] = {name: [turn[name] for turn in kept] for name in kept[0]}
    rows["path"] = [str(audio[name].absolute()) for name in ids]
    rows["transcript"] = [transcripts.get(name, "") for name in ids]
    for target in TARGETS:
        rows |= numbered_rater_columns(ratings[target], ids, target)
    table = tidy(pd.DataFrame(rows))
    warnings = [
        "the speaker is the one who speaks, not the one who wears the markers; each session is a dialogue of two, "
        "so folds that hold out whole sessions (column session) are stricter than speaker-disjoint ones",
    ]
    if len(sessions) == 5:
        warnings.append(compare_with_published({"utterances": len(table)}, PUBLISHED, "the full release"))
    else:
        warnings.append(f"{len(sessions)} of 5 sessions are present")
    header = Header(
        "IEMOCAP",
        "full release",
        "academic, by agreement",
        rating_scale(1, 5),
        notes="Evaluations list valence, activation, dominance; raters are listeners (E), not the actors.",
        nominal={"emotion": Nominal(tuple(CLASSES.values()), "what most listeners chose; empty without agreement")},
    )
    return Imported(table, header, +dropped, warnings)


def _turns(file: Path, ratings: dict[str, dict[str, list[tuple[str, float]]]]) -> list[dict[str, Any]]:
    """Return the turns of an evaluation file, and add the ratings of its listeners to ``ratings``."""
    turns, name = [], ""
    for line in file.read_text(encoding="latin-1").splitlines():
        if m := TURN.match(line):
            name = m["name"]
            code = m["code"]
            if code != NO_AGREEMENT and code not in CLASSES:
                raise InputError(f"{file}: {name} has the emotion {code!r}; known are {', '.join(CLASSES)}.")
            gender = name.rsplit("_", 1)[1][0]
            turns.append(
                {
                    "utterance_id": name,
                    "path": "",
                    "speaker_id": f"{name[:5]}_{gender}",
                    "session": int(name[3:5]),
                    "gender": GENDERS[gender],
                    "scripted": "scripted" if "script" in name else "improvised",
                    "emotion": CLASSES.get(code, ""),
                    **{target: float(m[target]) for target in TARGETS},
                }
            )
        elif name and (r := RATER.match(line)):
            for target in TARGETS:
                if r[target]:
                    ratings[target][name].append((r["rater"], float(r[target])))
    return turns
