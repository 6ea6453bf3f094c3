"""All sounds of a corpus in memory as 16-bit samples, 115 MB an hour, for trainings that hear them again and again."""

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
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.pretraining.units import RATE
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import cores

MAX_DURATION = 30.0
FULL_SCALE = 32_767


@dataclass(frozen=True)
class InMemoryAudio:
    """The sounds that can be used, at 16 kHz."""

    rows: list[Row]  # of the manifest
    waveforms: list[np.ndarray]  # each (n_samples,) int16
    levels: (
        np.ndarray
    )  # (n_audio_files, 2) float32: what a sound less the first is divided by, as the extractor does it
    quarantine: pd.DataFrame  # utterance_id, path, reason

    def samples(self, place: int) -> np.ndarray:
        """One sound ``(n_samples,)`` float32 within ±1."""
        return _floats(self.waveforms[place])

    def column(self, name: str) -> list[str]:
        """What the manifest says of each, "" where it says nothing."""
        return [str(row.get(name, "")) for row in self.rows]

    def content_hash(self) -> str:
        """Of the sounds and who speaks, not of where they lie."""
        digest = hashlib.sha256()
        for row, waveform in zip(self.rows, self.waveforms, strict=True):
            digest.update(f"{row['utterance_id']} {row['speaker_id']} {len(waveform)}\n".encode())
            digest.update(waveform.tobytes())
        return digest.hexdigest()


def read_into_memory(table: pd.DataFrame, extractor: Any, *, progress: NullProgress) -> InMemoryAudio:
    """Decode every sound of a manifest; those that can't be used, or are under half a second, are quarantined.

    Args:
        table: of the manifest
        extractor: transformers' feature extractor, which normalises each sound as a whole if it says so
        progress: receives the progress

    Raises:
        InputError: if no sound can be used
    """
    source = AudioReader(AudioHashes(), sampling_rate=RATE, max_duration=MAX_DURATION)

    def read(row: Row) -> np.ndarray:
        waveform = decode_waveform(source.read(row))
        if len(waveform) < RATE // 2:
            raise InvalidAudioError("shorter than half a second")
        return np.round(waveform * FULL_SCALE).astype(np.int16)

    candidates: list[Row] = table.to_dict("records")
    quarantine, rows, waveforms = Quarantine(), [], []
    for k, waveform in read_audio(
        candidates,
        read,
        quarantine=quarantine,
        threads=cores(),
        task="look at every sound",
        unit="sounds",
        progress=progress,
    ):
        rows.append(candidates[k])
        waveforms.append(waveform)
    if not rows:
        raise InputError("No sound can be used. Look at the manifest with layerprobe manifest validate.")
    levels = np.array([level(_floats(w), extractor) for w in waveforms], dtype=np.float32)
    return InMemoryAudio(rows, waveforms, levels, quarantine.table())


def level(waveform: np.ndarray, extractor: Any) -> tuple[float, float]:
    """What is subtracted from the whole of a sound, and what it is divided by, as transformers' extractors do it."""
    return (float(waveform.mean()), float(np.sqrt(waveform.var() + 1e-7))) if extractor.do_normalize else (0.0, 1.0)


def _floats(waveform: np.ndarray) -> np.ndarray:
    return waveform.astype(np.float32) / FULL_SCALE
