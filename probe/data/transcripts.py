"""Transcripts as corpora distribute them: a text file per recording, or lines with the utterance's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.manifest.dialect import decode_text
from layerprobe.probe.data.manifest.file_kind import no_table
from layerprobe.probe.data.manifest.schema import TRANSCRIPT
from layerprobe.probe.data.stored.locations import stem_of
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import normalise_name

SOURCE = "_source"  # suffix of the column with the source of each transcript
HUMAN = "manifest"  # source of transcripts that the manifest had before
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
IEMOCAP_LINE = re.compile(r"^(Ses\d{2}[FM]\w*_[FM]\w*)\s+\[[\d.]+-[\d.]+\]:\s*(.*)$")


@dataclass(frozen=True)
class FoundTranscripts:
    """Transcripts by name, and the kind of files that they were read from."""

    texts: dict[str, str]  # by utterance, or by the audio file's name without its ending
    kind: str


def read_transcripts(folder: Path | str) -> FoundTranscripts:
    """Read the transcripts of a folder: IEMOCAP's files, or a text file per recording as in MSP-Podcast.

    Files that begin with ``._`` are metadata of macOS and left out.

    Raises:
        InputError: if there is no text file, or two files have different transcripts for one name
    """
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*.txt") if not p.name.startswith("._"))
    if not files:
        raise InputError("LP240", f"{folder} has no .txt files. Name the folder of the transcripts.")
    lines: dict[str, str] = {}
    files_texts: dict[str, str] = {}
    for path in files:
        text = _read_text(path)
        matched = [m for line in text.splitlines() if (m := IEMOCAP_LINE.match(line.strip()))]
        for m in matched:
            _add(lines, m[1], m[2].strip(), path)
        if not matched:
            _add(files_texts, path.stem, " ".join(text.split()), path)
    if lines:  # other files in such a folder hold no turn and are no transcripts
        return FoundTranscripts(lines, "IEMOCAP transcriptions")
    return FoundTranscripts(files_texts, "a text file per recording")


def add_transcripts(table: pd.DataFrame, found: FoundTranscripts, *, column: str = TRANSCRIPT) -> pd.DataFrame:
    """Return the table with transcripts where there were none; existing ones are never overwritten.

    Args:
        table: of a manifest
        found: as `read_transcripts` returns them
        column: to fill

    Raises:
        InputError: if no transcript has the name of an utterance or of its audio file
    """
    keys = [
        u if u in found.texts else normalise_name(stem_of(str(p)))
        for u, p in zip(table["utterance_id"], table["path"], strict=True)
    ]
    texts = [found.texts.get(key) for key in keys]
    if not any(t is not None for t in texts):
        example = next(iter(found.texts))
        raise InputError(
            "LP241",
            f"None of the {len(found.texts)} transcripts ({example!r}, …) has the name of an utterance or of its audio "
            "file. Rename the files, or name another folder.",
        )
    return fill_column(table, texts, source=found.kind, column=column)


def fill_column(table: pd.DataFrame, transcripts: list[str | None], *, source: str, column: str) -> pd.DataFrame:
    """Fill empty cells of ``column``, and ``COLUMN_source`` with the source of each.

    Args:
        table: of a manifest
        transcripts: one for each row; None leaves the cell as it is
        source: of the new transcripts
        column: to fill; it is added where the table has none
    """
    before = table[column].astype(str) if column in table else pd.Series("", index=table.index)
    sources = (
        table[column + SOURCE].astype(str)
        if column + SOURCE in table
        else before.str.strip().ne("").map({True: HUMAN, False: ""})
    )
    texts, origins = before.tolist(), sources.tolist()
    for k, transcript in enumerate(transcripts):
        if transcript is not None and not texts[k].strip():
            texts[k], origins[k] = transcript, source
    return table.assign(**{column: texts, column + SOURCE: origins})


def _read_text(path: Path) -> str:
    fault = no_table(path) if path.stat().st_size else ""  # the transcript of an utterance can be empty
    if fault:
        raise InputError("LP242", f"{path} is no transcript: {fault}.")
    return decode_text(path, path.read_bytes(), latin_1=True)[0]  # as some of IEMOCAP's files are


def _add(texts: dict[str, str], name: str, text: str, path: Path) -> None:
    name = normalise_name(name)
    if texts.setdefault(name, text) != text:
        raise InputError(
            "LP243", f"{path} has {text!r} for {name}, and another file {texts[name]!r}. Remove one of them."
        )
