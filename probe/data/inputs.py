"""Inputs of encoders read from the rows of a manifest: waveforms, or transcripts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError, read_audio_file
from layerprobe.probe.data.audio_hashes import AudioHashes, Row, span_of
from layerprobe.probe.data.manifest.schema import TRANSCRIPT
from layerprobe.probe.progress import NullProgress

NO_TEXT = "no text"  # the content of a row whose transcript is empty
# Seconds. Audio that is decoded ahead is held in memory; this much is 77 MB per utterance at 16 kHz.
MAX_DURATION = 1200.0


@dataclass(frozen=True)
class ModelInput:
    """Input of an encoder for one utterance, or the reason why there is none."""

    content: str  # hash, which changes with the audio or the transcript
    data: np.ndarray | str  # waveform (n_samples,) float32, or transcript
    seconds: float = 0.0  # duration of the audio
    reason: str = ""  # why the utterance can't be used; "" where it can


class InputReader(Protocol):
    """Reader of an encoder's input for a row of a manifest."""

    def content(self, row: Row) -> str:
        """Return the hash of a row's input.

        Raises:
            FileNotFoundError: if the audio file does not exist
        """

    def read(self, row: Row) -> ModelInput:
        """Return the row's input; one that can't be read has a reason, so that other rows can be processed."""


class AudioReader:
    """Reader of waveforms at an encoder's sampling rate."""

    def __init__(self, hashes: AudioHashes, *, sampling_rate: int, max_duration: float = MAX_DURATION) -> None:
        """Set the sampling rate in Hz, and the duration in seconds above which audio is refused."""
        self._hashes, self._rate, self._max_duration = hashes, sampling_rate, max_duration
        self.remarks: dict[str, str] = {}  # by path: what a header misstates, of files that were read nevertheless

    def content(self, row: Row) -> str:
        """Return the file's hash and the span."""
        return self._hashes.hash_row(row)

    def read(self, row: Row) -> ModelInput:
        """Return the waveform, or the reason why there is none."""
        path, span = str(row["path"]), span_of(row)
        try:
            waveform = read_audio_file(
                path,
                sampling_rate=self._rate,
                max_duration=self._max_duration,
                remark=partial(self.remarks.__setitem__, path),
                **span,
            )
            return ModelInput(self._hashes.hash_row(row), waveform, len(waveform) / self._rate)
        except InvalidAudioError as error:
            return ModelInput("", np.empty(0, dtype=np.float32), reason=str(error))

    def log_remarks(self, progress: NullProgress) -> None:
        """Log a line on the files so far whose headers misstate their length and that were read nevertheless."""
        if summary := remarks_summary(self.remarks):
            progress.log(summary)


def remarks_summary(remarks: dict[str, str]) -> str:
    """Return a sentence on files whose headers misstate their length and that were read; "" where there are none.

    Args:
        remarks: by path
    """
    if not remarks:
        return ""
    path, first = min(remarks.items())
    which = "1 audio file was" if len(remarks) == 1 else f"{len(remarks)} audio files were"
    return f"{which} read although the header misstates the length (first: {Path(path).name}: {first})."


class TextReader:
    """Reader of transcripts from a column of the manifest."""

    def __init__(self, column: str = TRANSCRIPT) -> None:
        """Set the column."""
        self._column = column

    def content(self, row: Row) -> str:
        """Return a hash of the transcript, or `NO_TEXT` where it is empty."""
        text = self._transcript(row)
        return f"text {hashlib.sha256(text.encode()).hexdigest()[:16]}" if text else NO_TEXT

    def read(self, row: Row) -> ModelInput:
        """Return the transcript without surrounding white space."""
        return ModelInput(self.content(row), self._transcript(row))

    def _transcript(self, row: Row) -> str:
        text = row[self._column]
        return "" if pd.isna(text) else str(text).strip()
