"""What an upstream hears or reads of each row of a manifest: its sound, or its words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError, read_audio_file
from layerprobe.probe.data.audio_hashes import AudioHashes, Row, span_of
from layerprobe.probe.data.schema import TRANSCRIPT

NO_TEXT = "no words"  # the content of a row whose transcript is empty
# What is decoded ahead is held in memory; this much is 77 MB an utterance at 16 kHz.
MAX_DURATION = 1200.0


@dataclass(frozen=True)
class ModelInput:
    """One utterance as it is embedded, or why it can't be."""

    content: str  # changes with whatever was heard or read
    what: np.ndarray | str  # waveform (n_samples,) float32, or words
    seconds: float = 0.0  # of sound
    reason: str = ""  # "" where it can be used


class InputReader(Protocol):
    """Gives the material of a row."""

    def content(self, row: Row) -> str:
        """What a row's embedding is made from; FileNotFoundError where its sound is gone."""

    def read(self, row: Row) -> ModelInput:
        """The row's material; never an error, for the rest goes on."""


class AudioReader:
    """Decodes sounds at an encoder's rate."""

    def __init__(self, hashes: AudioHashes, *, sampling_rate: int, max_duration: float = MAX_DURATION) -> None:
        """Name the rate in Hz, and the length beyond which a sound is refused."""
        self._hashes, self._rate, self._longest = hashes, sampling_rate, max_duration

    def content(self, row: Row) -> str:
        """The file's hash and the span."""
        return self._hashes.of_row(row)

    def read(self, row: Row) -> ModelInput:
        """The waveform."""
        path, span = str(row["path"]), span_of(row)
        try:
            waveform = read_audio_file(path, sampling_rate=self._rate, max_duration=self._longest, **span)
            return ModelInput(self._hashes.of_row(row), waveform, len(waveform) / self._rate)
        except InvalidAudioError as error:
            return ModelInput("", np.empty(0, dtype=np.float32), reason=str(error))


class TextReader:
    """Takes the words from a column of the manifest."""

    def __init__(self, column: str = TRANSCRIPT) -> None:
        """Name the column."""
        self._column = column

    def content(self, row: Row) -> str:
        """A hash of the words, or `NO_TEXT`."""
        words = self._words(row)
        return f"words {hashlib.sha256(words.encode()).hexdigest()[:16]}" if words else NO_TEXT

    def read(self, row: Row) -> ModelInput:
        """The words, without what is white around them."""
        return ModelInput(self.content(row), self._words(row))

    def _words(self, row: Row) -> str:
        words = row[self._column]
        return "" if pd.isna(words) else str(words).strip()
