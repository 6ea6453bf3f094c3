"""Targets measured from the audio of librispeech_mini, for tests and measurements on real speech."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import butter, find_peaks, sosfiltfilt

from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.encoders.acoustic import AcousticEncoder

RATE = 16_000
REAL_DATA = Path(os.environ.get("LAYERPROBE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
LIBRISPEECH = REAL_DATA / "librispeech_mini"
WHISPER = REAL_DATA / "whisper-tiny-en-encoder"
HEADER = Header(
    corpus="librispeech_mini",
    version="1",
    licence="CC BY 4.0",
    notes="Targets measured from the audio, not rated.",
    targets={
        "pitch": Target(50, 500, "mean F0 of voiced frames, Hz"),
        "loudness": Target(-80, 0, "mean level of the louder half of frames, dB of full scale"),
        "rate": Target(0, 15, "peaks of the syllable-band envelope per second"),
    },
)


def measure(waveform: np.ndarray) -> dict[str, float]:
    """Mean F0 (Hz), loudness (dB) and speech rate (peaks/s) of a waveform at 16 kHz."""
    frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    loud = level > np.median(level)
    log_pitch = AcousticEncoder().hidden_states(waveform)[2][:, 0].numpy()  # of voiced frames; octaves above 1 Hz
    band = sosfiltfilt(butter(2, (300, 3000), "band", fs=RATE, output="sos"), waveform)
    envelope = sosfiltfilt(butter(2, 8, "low", fs=RATE, output="sos"), np.abs(band))[::160]
    peaks, _ = find_peaks(envelope, prominence=0.1 * np.percentile(envelope, 95), distance=8)
    return {
        "pitch": float(np.median(2**log_pitch)),
        "loudness": float(level[loud].mean()),
        "rate": len(peaks) / (len(waveform) / RATE),
    }


def write_measured_manifest(out: Path, *, n_utterances: int | None = None) -> Path:
    """A manifest of the first utterances, or of every one, with their measured targets."""
    table = pd.read_csv(LIBRISPEECH / "utterances.csv", dtype=str)
    if n_utterances is not None:
        table = table.iloc[np.linspace(0, len(table) - 1, n_utterances).astype(int)].reset_index(drop=True)
    table["path"] = [str(LIBRISPEECH / p) for p in table["path"]]
    measured = pd.DataFrame([measure(read_audio_file(p, sampling_rate=RATE)) for p in table["path"]])
    write_manifest(out, pd.concat([table, measured.round(4)], axis=1), HEADER)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a manifest of librispeech_mini with measured targets.")
    parser.add_argument("out", type=Path)
    write_measured_manifest(parser.parse_args().out)
