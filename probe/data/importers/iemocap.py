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
from layerprobe.probe.data.transcripts import read_transcripts
from layerprobe.probe.exceptions import InputError

NUMBER = r"\d+(?:\.\d*)?"
TURN = re.compile(
    rf"^\[{NUMBER} - {NUMBER}\]\s+(?P<name>\w+)\s+(?P<code>\w+)\s+"
    rf"\[(?P<valence>{NUMBER}), (?P<arousal>{NUMBER}), (?P<dominance>{NUMBER})\]"
)
RATER = re.compile(
    rf"^A-(?P<rater>E\d+):\s*(?:val\s+(?P<valence>{NUMBER})?\s*;)?\s*(?:act\s+(?P<arousal>{NUMBER})?\s*;)?"
    rf"\s*(?:dom\s+(?P<dominance>{NUMBER})?\s*;)?"
)
SESSION = re.compile(r"^session(\d+)$", re.IGNORECASE)
TARGETS = ("arousal", "valence", "dominance")
CLASSES = {
    "neu": "neutral", "ang": "anger", "hap": "happiness", "sad": "sadness", "exc": "excitement", "fru": "frustration",
    "fea": "fear", "sur": "surprise", "dis": "disgust", "oth": "other",
}  # fmt: skip
NO_AGREEMENT = "xxx"
NAME = re.compile(r"^Ses(?P<session>\d{2})[FM]_(?P<kind>impro|script)\w*_(?P<speaker>[FM])[A-Za-z0-9]+$")
PUBLISHED = {"utterances": 10_039}


def import_iemocap(folder: Path) -> Imported:
    """Read IEMOCAP from its folder ``IEMOCAP_full_release``.

    Raises:
        InputError: if the folder is another corpus', or the evaluations or the audio are missing
    """
    sessions = sorted(p for p in folder.iterdir() if SESSION.match(p.name) and p.is_dir())
    if not sessions:
        raise not_the_corpus(folder, "IEMOCAP", "it has no folders Session1 to Session5")
    turns: list[dict[str, Any]] = []
    ratings: dict[str, dict[str, list[tuple[str, float]]]] = {t: defaultdict(list) for t in TARGETS}
    transcripts: dict[str, str] = {}
    dropped = Counter[str]()
    for session in sessions:
        evaluations = find_entry(session, "dialog", "EmoEvaluation")
        entries = sorted(evaluations.iterdir()) if evaluations is not None else []  # not those below it
        files = [p for p in entries if re.match(r"ses.*\.txt$", p.name, re.IGNORECASE)]
        if not files:
            raise InputError(
                "LP161", f"{session} has no evaluations in dialog/EmoEvaluation. Unpack the whole release."
            )
        for file in files:
            turns += _turns(file, ratings, dropped)
        transcriptions = find_entry(session, "dialog", "transcriptions")
        if transcriptions is not None:
            transcripts |= read_transcripts(transcriptions).texts
    check_once((turn["utterance_id"] for turn in turns), folder)
    audio = audio_files_below(*filter(None, (find_entry(session, "sentences") for session in sessions)))
    names = [turn["utterance_id"] for turn in turns]
    found = {name: path for name in names if (path := audio.find(name)) is not None}
    kept = [turn for turn in turns if turn["utterance_id"] in found]
    dropped["rated, but audio is missing"] += len(turns) - len(kept)
    dropped["audio without ratings"] += audio.n_other(set(names))
    dropped.update(audio.skipped)
    if not kept:
        raise InputError(
            "LP162", f"{folder}: none of the {len(turns)} rated turns has audio in sentences/wav. Unpack the audio."
        )
    ids = [turn["utterance_id"] for turn in kept]
    rows: dict[str, Any] = {name: [turn[name] for turn in kept] for name in kept[0]}
    for turn in kept:
        check_folder_number(found[turn["utterance_id"]], folder, SESSION, turn["session"], "session")
    rows["path"] = [str(found[name].absolute()) for name in ids]
    rows["transcript"] = [transcripts.get(name, "") for name in ids]
    for target in TARGETS:
        rows |= numbered_rater_columns(ratings[target], ids, target)
    table = tidy(pd.DataFrame(rows))
    warnings = [
        "the speaker is the one who speaks, not the one who wears the markers; each session is a dialogue of two, "
        "so folds that hold out whole sessions (column session) are stricter than speaker-disjoint ones",
    ]
    n_without = rows["transcript"].count("")
    if n_without:
        warnings.append(f"{n_without} utterances have no transcript")
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


def _turns(
    file: Path, ratings: dict[str, dict[str, list[tuple[str, float]]]], dropped: Counter[str]
) -> list[dict[str, Any]]:
    """Return the turns of an evaluation file, and add the ratings of its listeners to ``ratings``.

    Raises:
        InputError: if a turn is another session's, or has an unknown emotion
    """
    turns, name = [], ""
    for number, line in enumerate(read_text(file, latin_1=True).splitlines(), start=1):
        if m := TURN.match(line):
            name, code = m["name"], m["code"]
            parts = NAME.match(name)
            session = file.stem[:5].capitalize()
            if parts is None or name[:5] != session:
                text = f"{file}, line {number}: {name} is no turn of a dialogue of {session}"
                raise InputError("LP167", f"{text}. Correct the line, or unpack the file again.")
            if code != NO_AGREEMENT and code not in CLASSES:
                raise InputError("LP165", f"{file}: {name} has the emotion {code!r}; known are {', '.join(CLASSES)}.")
            turns.append(
                {
                    "utterance_id": name,
                    "path": "",
                    "speaker_id": f"{name[:5]}_{parts['speaker']}",
                    "session": int(parts["session"]),
                    "gender": GENDERS[parts["speaker"]],
                    "scripted": "scripted" if parts["kind"] == "script" else "improvised",
                    "emotion": CLASSES.get(code, ""),
                    **{target: float(m[target]) for target in TARGETS},
                }
            )
        elif line.startswith("["):
            name = ""  # its raters are not those of the turn above
            dropped["turn without an emotion and three ratings"] += 1
        elif name and (r := RATER.match(line)):
            for target in TARGETS:
                if r[target]:
                    ratings[target][name].append((r["rater"], float(r[target])))
    return turns
