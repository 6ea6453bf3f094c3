"""Folds of EmoBox (Ma et al., 2024): JSON lines, one per recording, in a file for training and one for test.

They name no speakers. For corpora whose file names contain the speaker, speakers are read from these; in others every
utterance counts as a speaker of its own, which a warning states.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import AUDIO_MISSING, Imported, not_the_corpus, read_text, tidy
from layerprobe.probe.data.manifest.schema import Header, Nominal
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import UNKNOWN_SPEAKER

SPEAKERS = {  # the speaker in a file's name
    "emodb": re.compile(r"^(\d{2})[ab]\d{2}[A-Z]"),
    "iemocap": re.compile(r"^(Ses\d{2})[FM]_\w+_([FM])\w+$"),  # the one who speaks, not the one who wears the markers
    "cremad": re.compile(r"^(1\d{3})_"),
    "ravdess": re.compile(r"^(?:\d{2}-){6}(\d{2})$"),
    "mspimprov": re.compile(r"^MSP-IMPROV-S\d{2}[AHNS]-([FM]\d{2})-"),
}


def import_emobox(folder: Path, *, fold: int = 1) -> Imported:
    """Read one fold of one corpus, ``data/CORPUS`` of EmoBox.

    Raises:
        InputError: if the folder is none of EmoBox, or has no such fold
    """
    files = {
        split: sorted(folder.glob(f"fold_{fold}/*_{name}_fold_{fold}.jsonl"))
        for split, name in (("train", "train"), ("development", "valid"), ("test", "test"))
    }
    if not files["train"] or not files["test"]:
        folds = sorted(p.name for p in folder.glob("fold_*"))
        if not folds:
            raise not_the_corpus(folder, "corpus of EmoBox", "it has no folder such as fold_1")
        raise InputError("LP153", f"{folder} has no fold {fold}; it has {', '.join(folds)}. Give one with --fold.")
    rows: list[dict[str, str]] = []
    dropped = Counter[str]()
    listed: dict[str, str] = {}  # split and emotion by key
    parts: dict[Path, str] = {}  # split by audio file
    for split, path, entry in ((s, p, e) for s, paths in files.items() for p in paths for e in _lines(p, dropped)):
        name, emotion = str(entry["key"]), str(entry["emo"])
        if name in listed:
            if listed[name] != f"{split} {emotion}":
                text = f"{path}: {name} is listed as {split} {emotion}, and before as {listed[name]}"
                raise InputError("LP169", f"{text}. Keep one line of it.")
            dropped["listed twice"] += 1
            continue
        listed[name] = f"{split} {emotion}"
        audio = _find_audio(Path(str(entry["wav"])), folder)
        if audio is None:
            dropped[AUDIO_MISSING] += 1
            continue
        if parts.setdefault(audio, split) != split:
            text = f"{path}: {audio} is in {split} and in {parts[audio]} of fold {fold}"
            raise InputError("LP169", f"{text}. Keep it in one of them.")
        rows.append(
            {
                "utterance_id": name,
                "path": str(audio.absolute()),
                "speaker_id": _speaker(str(entry.get("dataset", folder.name)), audio.stem),
                "split": split,
                "emotion": emotion,
            }
        )
    if not rows:
        raise InputError(
            "LP162",
            f"{folder}: none of the {len(listed)} listed audio files exists. Put them where EmoBox expects them.",
        )
    table = tidy(pd.DataFrame(rows))
    warnings = ["the target is the emotion; EmoBox has no ratings"]
    n_unknown = int((table["speaker_id"] == UNKNOWN_SPEAKER).sum())
    if n_unknown == len(table):
        warnings.append("speakers are unknown, so each utterance counts as one, and scores may be too optimistic")
    elif n_unknown:
        warnings.append(f"{n_unknown} file names do not contain the speaker; each of them counts as one")
    classes = tuple(sorted(set(table["emotion"])))
    header = Header(
        f"EmoBox {folder.name}",
        f"fold {fold}",
        "that of the corpus itself",
        {},
        notes="Emotions and folds of EmoBox.",
        nominal={"emotion": Nominal(classes, "label of EmoBox")},
    )
    return Imported(table, header, +dropped, warnings)


def _lines(path: Path, dropped: Counter[str]) -> list[dict[str, Any]]:
    """Return the recordings that a file lists with an emotion; the others are counted in ``dropped``.

    Raises:
        InputError: if a line is not in the format of EmoBox
    """
    entries = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
                entry["key"], entry["wav"], entry["emo"]
            except (ValueError, KeyError, TypeError) as error:
                text = f"{path}, line {number} is not in the format of EmoBox: {error}"
                raise InputError("LP157", f"{text}. Download it again.") from error
            if entry["emo"] is None or not str(entry["emo"]).strip():
                dropped["listed without an emotion"] += 1
            else:
                entries.append(entry)
    return entries


def _find_audio(wav: Path, folder: Path) -> Path | None:
    """Return the audio file below the folder or any of its parents, as EmoBox names files from its own root."""
    if wav.is_absolute():
        return wav if wav.is_file() else None
    return next((base / wav for base in (folder, *folder.absolute().parents) if (base / wav).is_file()), None)


def _speaker(corpus: str, stem: str) -> str:
    known = SPEAKERS.get(re.sub(r"[^a-z]", "", corpus.lower()))
    m = None if known is None else known.match(stem)
    return "_".join(m.groups()) if m else UNKNOWN_SPEAKER
