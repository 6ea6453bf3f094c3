"""MSP-Conversation (Martinez-Lucas et al., 2020): ratings in time, imported as means over turns of MSP-Podcast."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import (
    AUDIO_MISSING,
    SAM,
    Imported,
    find_entry,
    not_the_corpus,
    numbered_rater_columns,
    read_text,
    split_named,
    tidy,
)
from layerprobe.probe.data.importers.traces import NO_TRACES, Traces, read_traces
from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.exceptions import InputError

CORPUS = "MSP-Conversation"
LOW, HIGH = -100.0, 100.0  # ends of the joystick's range
PART = re.compile(r"^(?P<conversation>.+_\d+)_(?P<part>\d+)$")
SEPARATOR = ","  # of a time and a rating in annotations
SLACK = 1.0  # seconds by which a turn may end after its part
CONVERSATION_AS_SPEAKER = (
    "speakers of turns are not named: speaker_id is the conversation, so that no voice of it is in training and test"
)


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation, in seconds from the beginning of its part."""

    name: str
    part: str
    start: float
    end: float


def import_msp_conversation(folder: Path) -> Imported:
    """Read the turns of ``Time_Labels/segments.json``.

    Raises:
        InputError: if the folder is another corpus', or times of turns fit neither parts nor conversations
    """
    places = {name: find_entry(folder, name) for name in ("Annotations", "Audio", "Time_Labels")}
    lacking = [name for name, place in places.items() if place is None]
    if lacking:
        raise not_the_corpus(folder, CORPUS, f"it has no folder {lacking[0]}")
    annotations, audio, labels = (place for place in places.values() if place is not None)
    parts = conversation_parts(labels, folder)
    turns, described = conversation_turns(labels, parts, folder)
    splits = _splits(folder)
    files = {path.stem.lower(): path for path in sorted(audio.glob("*.wav"))}
    traces = Annotations(annotations)
    dropped = Counter[str]()
    rows: list[dict[str, object]] = []
    rated: dict[str, dict[str, list[tuple[str, float]]]] = {name: {} for name in SAM}
    for turn in turns:
        conversation = conversation_of(turn.part)
        path = files.get(conversation.lower())
        if path is None:
            dropped[AUDIO_MISSING] += 1
            continue
        ratings = {name: traces.means(name, turn) for name in SAM}
        if not any(ratings.values()):
            dropped["turn without ratings"] += 1
            continue
        for name, means in ratings.items():
            rated[name][turn.name] = means
        shift = parts[turn.part][0]
        row: dict[str, object] = {"utterance_id": turn.name, "path": str(path.absolute()), "speaker_id": conversation}
        row |= {"start": round(shift + turn.start, 4), "end": round(shift + turn.end, 4)}
        row |= {"split": splits[conversation]} if splits.get(conversation) else {}
        row |= {name: round(float(np.mean([m for _, m in means])), 6) for name, means in ratings.items() if means}
        rows.append(row | {"conversation": conversation, "part": turn.part})
    if not rows:
        raise not_the_corpus(folder, CORPUS, "no turn in it has audio and ratings")
    table = pd.DataFrame(rows)
    order = list(table["utterance_id"])
    columns = {c: v for name in SAM for c, v in numbered_rater_columns(rated[name], order, name).items()}
    table = pd.concat([table, pd.DataFrame(columns)], axis=1)
    warnings = [NO_TRACES, CONVERSATION_AS_SPEAKER, described]
    if "split" in table and table["split"].isna().any():
        table = table.drop(columns="split")
        warnings.append("partitions.txt lacks some conversations, so there is no column split")
    header = Header(
        CORPUS,
        "",
        "by licence agreement",
        {name: Target(LOW, HIGH, meaning) for name, meaning in SAM.items()},
        notes=f"Each turn that MSP-Podcast has; {NO_TRACES}. {described[0].upper()}{described[1:]}.",
    )
    return Imported(tidy(table), header, +dropped, warnings)


def conversation_of(part: str) -> str:
    """Return the conversation that a part is of.

    >>> conversation_of("MSP-Conversation_0021_2")
    'MSP-Conversation_0021'
    """
    found = PART.match(part)
    return found["conversation"] if found else part


def conversation_parts(labels: Path, folder: Path) -> dict[str, tuple[float, float]]:
    """Return start and end of each part, in seconds from the beginning of its conversation's audio.

    The files state seconds of the podcast; a conversation's audio begins with its first part.
    """
    found: dict[str, tuple[float, float]] = {}
    for path in sorted(labels.glob("*conversation_parts.txt")):
        for line in filter(str.strip, read_text(path).splitlines()):
            cells = line.split(";")
            try:
                found[cells[0].strip()] = float(cells[1]), float(cells[2])
            except (IndexError, ValueError) as error:
                raise InputError(
                    "LP157", f"{path}: {line!r} is no name with start and end. Download it again."
                ) from error
    if not found:
        raise not_the_corpus(folder, CORPUS, "Time_Labels has no conversation_parts.txt")
    first: dict[str, float] = {}
    for part, (start, _) in found.items():
        name = conversation_of(part)
        first[name] = min(start, first.get(name, start))
    return {
        part: (start - first[conversation_of(part)], end - first[conversation_of(part)])
        for part, (start, end) in found.items()
    }


def conversation_turns(labels: Path, parts: dict[str, tuple[float, float]], folder: Path) -> tuple[list[Turn], str]:
    """Return the turns, and a clause on where their times start, which the data decide.

    Raises:
        InputError: if the times fit neither the parts nor the conversations
    """
    path = find_entry(labels, "segments.json")
    if path is None:
        raise not_the_corpus(folder, CORPUS, "Time_Labels has no segments.json")
    try:
        listed = json.loads(read_text(path))
        turns = [
            Turn(name, str(t["Conversation_Part"]), float(t["Start_Time"]), float(t["End_Time"]))
            for name, t in listed.items()
            if str(t["Conversation_Part"]) in parts
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("LP157", f"{path} is not in the format of {CORPUS}: {error}. Download it again.") from error
    if all(t.end <= parts[t.part][1] - parts[t.part][0] + SLACK for t in turns):
        return turns, "times of turns start with their part"
    if all(parts[t.part][0] - SLACK <= t.start and t.end <= parts[t.part][1] + SLACK for t in turns):
        shifted = [Turn(t.name, t.part, t.start - parts[t.part][0], t.end - parts[t.part][0]) for t in turns]
        return shifted, "times of turns start with their conversation"
    raise InputError(
        "LP157", f"{path}: times of turns fit neither their parts nor their conversations. Download it again."
    )


def _splits(folder: Path) -> dict[str, str]:
    """Return the split of each conversation; {} where ``partitions.txt`` is missing."""
    path = find_entry(folder, "partitions.txt")
    if path is None:
        return {}
    cells = [line.split(";") for line in read_text(path).splitlines() if ";" in line]
    return {row[0].strip(): split_named(row[1].strip()) for row in cells}


class Annotations:
    """Traces of raters, ``Annotations/Arousal/PART_RATER.csv``, each read once."""

    def __init__(self, folder: Path) -> None:
        """List the files by target and part."""
        self._files: dict[tuple[str, str], list[tuple[str, Path]]] = defaultdict(list)
        self._read: dict[Path, Traces] = {}
        for name in SAM:
            place = find_entry(folder, name)
            for path in sorted(place.glob("*.csv")) if place is not None else ():
                part, _, rater = path.stem.rpartition("_")
                self._files[name, part].append((rater, path))

    def of_part(self, target: str, part: str) -> list[tuple[str, Path]]:
        """Return the raters of a part with their files, whose times start with the part."""
        return self._files.get((target, part), [])

    def means(self, target: str, turn: Turn) -> list[tuple[str, float]]:
        """Return the raters of a turn with their means; those who gave no rating within it are left out."""
        found = []
        for rater, path in self.of_part(target, turn.part):
            if path not in self._read:
                self._read[path] = read_traces(path, separator=SEPARATOR)
            # the first cell after the time: one file of the corpus has another one in each line
            mean = float(self._read[path].means(turn.start, turn.end)[0])
            if np.isfinite(mean):
                found.append((rater, round(mean, 6)))
        return found
