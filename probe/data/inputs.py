"""What an upstream hears or reads of each row of a manifest: its sound, or its words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import UnusableSound, read_sound
from layerprobe.probe.data.audio_hashes import Row, SoundHashes, span_of
from layerprobe.probe.data.schema import TRANSCRIPT

NO_WORDS = "no words"  # the content of a row whose transcript is empty
# What is decoded ahead is held in memory; this much is 77 MB an utterance at 16 kHz.
LONGEST_SECONDS = 1200.0


@dataclass(frozen=True)
class Material:
    """One utterance as it is embedded, or why it can't be."""

    content: str  # changes with whatever was heard or read
    what: np.ndarray | str  # waveform (n_samples,) float32, or words
    seconds: float = 0.0  # of sound
    reason: str = ""  # "" where it can be used


class Source(Protocol):
    """Gives the material of a row."""

    def content(self, row: Row) -> str:
        """What a row's embedding is made from; FileNotFoundError where its sound is gone."""

    def read(self, row: Row) -> Material:
        """The row's material; never an error, for the rest goes on."""


class SoundSource:
    """Decodes sounds at an encoder's rate."""

    def __init__(self, hashes: SoundHashes, *, sampling_rate: int, longest_seconds: float = LONGEST_SECONDS) -> None:
        """Name the rate in Hz, and the length beyond which a sound is refused."""
        self._hashes, self._rate, self._longest = hashes, sampling_rate, longest_seconds

    def content(self, row: Row) -> str:
        """The file's hash and the span."""
        return self._hashes.of_row(row)

    def read(self, row: Row) -> Material:
        """The waveform."""
        path, span = str(row["path"]), span_of(row)
        try:
            waveform = read_sound(path, sampling_rate=self._rate, longest_seconds=self._longest, **span)
            return Material(self._hashes.of_row(row), waveform, len(waveform) / self._rate)
        except UnusableSound as error:
            return Material("", np.empty(0, dtype=np.float32), reason=str(error))


class WordSource:
    """Takes the words from a column of the manifest."""

    def __init__(self, column: str = TRANSCRIPT) -> None:
        """Name the column."""
        self._column = column

    def content(self, row: Row) -> str:
        """A hash of the words, or `NO_WORDS`."""
        words = self._words(row)
        return f"words {hashlib.sha256(words.encode()).hexdigest()[:16]}" if words else NO_WORDS

    def read(self, row: Row) -> Material:
        """The words, without what is white around them."""
        return Material(self.content(row), self._words(row))

    def _words(self, row: Row) -> str:
        words = row[self._column]
        return "" if pd.isna(words) else str(words).strip()
