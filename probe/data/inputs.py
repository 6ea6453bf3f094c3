"""Inputs of encoders read from the rows of a manifest: waveforms, or transcripts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError, read_recording
from layerprobe.probe.data.audio_hashes import AudioHashes, Row, span_of
from layerprobe.probe.data.manifest.schema import TRANSCRIPT
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.data.remarks import Remark, remark_sentences
from layerprobe.probe.problem import Problem, StoredAudioError
from layerprobe.probe.progress import NullProgress

NO_TEXT = "no text"  # the content of a row whose transcript is empty
# Seconds. Audio that is decoded ahead is held in memory; this much is 77 MB per utterance at 16 kHz.
MAX_DURATION = 1200.0


@dataclass(frozen=True)
class ModelInput:
    """Input of an encoder for one utterance, or the reason why there is none."""

    # hash, which changes with the file, the span or the transcript; what a plan states of reading them is not in it
    content: str
    data: np.ndarray | str  # waveform (n_samples,) float32, or transcript
    seconds: float = 0.0  # duration of the audio, without silence that was trimmed
    problem: Problem | None = None  # why the utterance can't be used; None where it can
    remarks: tuple[Remark, ...] = ()  # on audio that can be used

    @property
    def reason(self) -> str:
        """Why the utterance can't be used, with its code, as the quarantine shows it; "" where it can."""
        return "" if self.problem is None else str(self.problem)


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

    def __init__(
        self,
        hashes: AudioHashes,
        *,
        sampling_rate: int,
        max_duration: float = MAX_DURATION,
        reading: ReadingOptions = DEFAULT_READING,
    ) -> None:
        """Set the sampling rate in Hz, the duration in seconds above which audio is refused, and what is read of it."""
        self._hashes, self._rate, self._max_duration, self._reading = hashes, sampling_rate, max_duration, reading
        self._remarks: dict[tuple[str, str], Remark] = {}  # by utterance and name

    def content(self, row: Row) -> str:
        """Return the file's hash and the span."""
        return self._hashes.hash_row(row)

    def read(self, row: Row) -> ModelInput:
        """Return the waveform, or the reason why there is none."""
        path, span = str(row["path"]), span_of(row)
        try:
            recording = read_recording(
                path, sampling_rate=self._rate, max_duration=self._max_duration, reading=self._reading, **span
            )
            self._remarks.update({(str(row.get("utterance_id", path)), one.name): one for one in recording.remarks})
            seconds = len(recording.waveform) / self._rate
            return ModelInput(self._hashes.hash_row(row), recording.waveform, seconds, remarks=recording.remarks)
        except InvalidAudioError as error:
            return ModelInput("", np.empty(0, dtype=np.float32), problem=Problem(error.code, error.message))
        except StoredAudioError as error:  # a store stopped answering between the decoding and the hashing
            return ModelInput("", np.empty(0, dtype=np.float32), problem=error.problem)

    def log_remarks(self, progress: NullProgress) -> None:
        """Log a sentence for each kind of remark on the audio that was read so far."""
        for sentence in remark_sentences((name, remark) for (name, _), remark in sorted(self._remarks.items())):
            progress.log(sentence)


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
