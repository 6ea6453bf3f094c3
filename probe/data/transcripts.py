"""Transcripts as corpora ship them: a file for each sound, or lines with the utterance's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.schema import TRANSCRIPT
from layerprobe.probe.exceptions import InputError

SOURCE = "_source"  # the ending of the column that says where a transcript is from
HUMAN = "manifest"  # the source of words that were there before
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
IEMOCAP_LINE = re.compile(r"^(Ses\d{2}[FM]\w*_[FM]\w*)\s+\[[\d.]+-[\d.]+\]:\s*(.*)$")


@dataclass(frozen=True)
class FoundTranscripts:
    """Words by name, and in what they lay."""

    words: dict[str, str]  # of an utterance, or of a sound's file without its ending
    kind: str


def read_transcripts(folder: Path | str) -> FoundTranscripts:
    """Words of a folder: IEMOCAP's transcription files, or a text file for each sound, as MSP-Podcast has them.

    Files that begin with ``._`` are another system's notes and left out.

    Raises:
        InputError: if there is no text file, or two files say different words of one name
    """
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*.txt") if not p.name.startswith("._"))
    if not files:
        raise InputError(f"{folder} has no .txt files. Name the folder of the transcripts.")
    lines: dict[str, str] = {}
    whole: dict[str, str] = {}
    for path in files:
        text = _text(path)
        matched = [m for line in text.splitlines() if (m := IEMOCAP_LINE.match(line.strip()))]
        for m in matched:
            _add(lines, m[1], m[2].strip(), path)
        if not matched:
            _add(whole, path.stem, " ".join(text.split()), path)
    if lines:  # beside them lie files that hold no turn, which are no transcripts
        return FoundTranscripts(lines, "IEMOCAP transcriptions")
    return FoundTranscripts(whole, "a text file for each sound")


def with_transcripts(table: pd.DataFrame, found: FoundTranscripts, *, column: str = TRANSCRIPT) -> pd.DataFrame:
    """The table with words where there were none; words that are there are never overwritten.

    Args:
        table: of a manifest
        found: as of `read_transcripts`
        column: to be filled

    Raises:
        InputError: if no name of the table is among those found
    """
    keys = [
        u if u in found.words else Path(str(p)).stem for u, p in zip(table["utterance_id"], table["path"], strict=True)
    ]
    words = [found.words.get(key) for key in keys]
    if not any(w is not None for w in words):
        example = next(iter(found.words))
        raise InputError(
            f"None of the {len(found.words)} transcripts ({example!r}, …) has the name of an utterance or of its sound."
        )
    return filled(table, words, source=found.kind, column=column)


def filled(table: pd.DataFrame, words: list[str | None], *, source: str, column: str) -> pd.DataFrame:
    """Fill what is empty in ``column`` and say in ``column_source`` where each came from; None leaves it as it is."""
    before = table[column].astype(str) if column in table else pd.Series("", index=table.index)
    sources = (
        table[column + SOURCE].astype(str)
        if column + SOURCE in table
        else before.str.strip().ne("").map({True: HUMAN, False: ""})
    )
    texts, origins = before.tolist(), sources.tolist()
    for k, word in enumerate(words):
        if word is not None and not texts[k].strip():
            texts[k], origins[k] = word, source
    return table.assign(**{column: texts, column + SOURCE: origins})


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # as some of IEMOCAP's files are


def _add(words: dict[str, str], name: str, text: str, path: Path) -> None:
    if words.setdefault(name, text) != text:
        raise InputError(f"{path} says {text!r} of {name}, and another file {words[name]!r}. Remove one of them.")
