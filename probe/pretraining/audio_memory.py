"""All audio of a corpus in memory as 16-bit samples, 115 MB per hour, for trainings of many epochs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import AudioHashes, Row
from layerprobe.probe.data.audio_reader import Quarantine, decode_waveform, read_audio
from layerprobe.probe.data.inputs import AudioReader
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.pretraining.units import RATE
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import cores

MAX_DURATION = 30.0
FULL_SCALE = 32_767


@dataclass(frozen=True)
class InMemoryAudio:
    """The usable recordings of a corpus at 16 kHz."""

    rows: list[Row]  # rows of the manifest
    waveforms: list[np.ndarray]  # each (n_samples,) int16
    levels: np.ndarray  # (n_utterances, 2) float32: mean and standard deviation of `level`
    quarantine: pd.DataFrame  # utterance_id, path, reason

    def samples(self, index: int) -> np.ndarray:
        """Return one recording, ``(n_samples,)`` float32 within ±1."""
        return _floats(self.waveforms[index])

    def column(self, name: str) -> list[str]:
        """Return a column of the manifest for all recordings, "" where it is empty or missing."""
        return [str(row.get(name, "")) for row in self.rows]

    def content_hash(self) -> str:
        """Return a SHA-256 of samples, utterance ids and speakers, independent of paths."""
        digest = hashlib.sha256()
        for row, waveform in zip(self.rows, self.waveforms, strict=True):
            digest.update(f"{row['utterance_id']} {row['speaker_id']} {len(waveform)}\n".encode())
            digest.update(waveform.tobytes())
        return digest.hexdigest()


def read_into_memory(
    table: pd.DataFrame, extractor: Any, *, reading: ReadingOptions = DEFAULT_READING, progress: NullProgress
) -> InMemoryAudio:
    """Decode every recording of a manifest; unusable ones and those under half a second are quarantined.

    Args:
        table: the manifest's table
        extractor: feature extractor of transformers, whose ``do_normalize`` decides whether recordings are normalised
        reading: what is read of recordings
        progress: receives the progress

    Raises:
        InputError: if no recording can be used
    """
    reader = AudioReader(AudioHashes(), sampling_rate=RATE, max_duration=MAX_DURATION, reading=reading)

    def read(row: Row) -> np.ndarray:
        waveform = decode_waveform(reader.read(row))
        if len(waveform) < RATE // 2:
            raise InvalidAudioError("LP720", "shorter than half a second")
        # a mild overshoot of full scale is clipped; as 16 bits it would change its sign
        return np.clip(np.round(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE).astype(np.int16)

    candidates: list[Row] = table.to_dict("records")
    quarantine, rows, waveforms = Quarantine(), [], []
    for k, waveform in read_audio(
        candidates,
        read,
        quarantine=quarantine,
        threads=cores(),
        task="read all audio",
        unit="recordings",
        progress=progress,
    ):
        rows.append(candidates[k])
        waveforms.append(waveform)
    reader.log_remarks(progress)
    if not rows:
        raise InputError("LP860", "No recording can be used. Check the manifest with layerprobe manifest validate.")
    levels = np.array([level(_floats(w), extractor) for w in waveforms], dtype=np.float32)
    return InMemoryAudio(rows, waveforms, levels, quarantine.table())


def level(waveform: np.ndarray, extractor: Any) -> tuple[float, float]:
    """Return the mean and standard deviation by which transformers' extractors normalise a recording, or 0 and 1."""
    return (float(waveform.mean()), float(np.sqrt(waveform.var() + 1e-7))) if extractor.do_normalize else (0.0, 1.0)


def _floats(waveform: np.ndarray) -> np.ndarray:
    return waveform.astype(np.float32) / FULL_SCALE
