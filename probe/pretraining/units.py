"""Cluster units of speech: k-means over frames, the targets of masked prediction (Hsu et al., 2021, HuBERT)."""

from __future__ import annotations

import numpy as np
import torch
import torchaudio

RATE = 16_000  # Hz
HOP, WINDOW = 320, 400  # samples: stride and receptive field of HuBERT's convolutions
N_MFCC = 13
MAX_FRAMES = 100_000  # maximum number of frames on which k-means is fitted
ITERATIONS = 25


class MfccFrames:
    """MFCC with deltas and double deltas, 39 features, at HuBERT's frames."""

    def __init__(self, *, level: bool = True) -> None:
        """Create the transform: 25 ms windows every 20 ms, 40 mel bands; ``level`` standardises a recording first."""
        self._level = level
        self._mfcc = torchaudio.transforms.MFCC(
            sample_rate=RATE,
            n_mfcc=N_MFCC,
            melkwargs={"n_fft": 512, "win_length": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False},
        )

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Return the features ``(n_frames, 39)`` float32 of a waveform ``(n_samples,)`` at 16 kHz."""
        n_frames = (len(waveform) - WINDOW) // HOP + 1
        if self._level:
            waveform = (waveform - waveform.mean()) / max(float(waveform.std()), 1e-7)
        # torch centres a window in its longer frame
        padded = torch.nn.functional.pad(torch.from_numpy(waveform), (56, 512))
        mfcc = self._mfcc(padded)[:, :n_frames]
        deltas = torchaudio.functional.compute_deltas(mfcc)
        stacked = torch.cat([mfcc, deltas, torchaudio.functional.compute_deltas(deltas)])
        return np.ascontiguousarray(stacked.T.numpy(), dtype=np.float32)


class UnitClusters:
    """Cluster centres of standardised frames; a unit is the index of the nearest one."""

    def __init__(self, mean: np.ndarray, std: np.ndarray, centres: np.ndarray) -> None:
        """Hold mean and standard deviation of frames, ``(n_features,)``, and centres ``(n_units, n_features)``."""
        self.mean, self.std, self.centres = mean, std, centres

    @classmethod
    def fit(cls, frames: np.ndarray, *, n_units: int, rng: np.random.Generator, tied: int = 0) -> UnitClusters:
        """Fit k-means to a random sample of at most `MAX_FRAMES` frames.

        Args:
            frames: ``(n_frames, n_features)``; each feature is standardised first
            n_units: number of clusters
            rng: random generator
            tied: features k + tied, k + 2 tied … are divided by the standard deviation of feature k: deltas keep their
                small weight in a distance, so that units follow phones and do not change with every frame

        Raises:
            ValueError: if there are fewer frames than units
        """
        if len(frames) < n_units:
            raise ValueError(f"{len(frames)} frames can't be {n_units} units")
        chosen = frames[rng.permutation(len(frames))[:MAX_FRAMES]].astype(np.float64)
        mean, std = chosen.mean(axis=0), chosen.std(axis=0)
        std = np.where(std > 0, std, 1.0)
        if tied:
            std = np.resize(std[:tied], len(std))
        return cls(mean, std, _k_means((chosen - mean) / std, n_units, rng))

    def predict(self, frames: np.ndarray) -> np.ndarray:
        """Return the unit of each frame, ``(n_frames,)`` int16."""
        found, _ = _nearest((frames.astype(np.float64) - self.mean) / self.std, self.centres)
        return found.astype(np.int16)


def _nearest(z: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the nearest centre of each row, and its squared distance."""
    distances = z @ (-2 * centres.T)
    distances += (centres**2).sum(axis=1)  # |z|² is the same for every centre
    found = distances.argmin(axis=1)
    return found, distances[np.arange(len(z)), found] + (z**2).sum(axis=1)


def _k_means(z: np.ndarray, n_centres: int, rng: np.random.Generator) -> np.ndarray:
    """Return k-means centres: k-means++ (Arthur and Vassilvitskii, 2007), then Lloyd's iterations.

    scipy's kmeans2 takes 25 times as long on 100,000 frames of 256 features.
    """
    squares = (z**2).sum(axis=1)
    centres = z[[rng.integers(len(z))]]
    far = np.full(len(z), np.inf)
    while len(centres) < n_centres:
        far = np.minimum(far, np.maximum(squares - 2 * z @ centres[-1] + centres[-1] @ centres[-1], 0))
        at = np.searchsorted(np.cumsum(far), rng.random() * far.sum(), side="right")
        centres = np.vstack([centres, z[min(at, len(z) - 1)]])
    for _ in range(ITERATIONS):
        found, far = _nearest(z, centres)
        order = found.argsort(kind="stable")
        filled, begins, sizes = np.unique(found[order], return_index=True, return_counts=True)
        moved = z[far.argsort()[-n_centres:]]  # an empty cluster restarts at a frame far from all centres
        moved[filled] = np.add.reduceat(z[order], begins) / sizes[:, None]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def span_mask(n: int, n_frames: int, *, fraction: float, span: int, rng: np.random.Generator) -> np.ndarray:
    """Return the mask of randomly placed spans, bool ``(n, n_frames)``, True for masked frames.

    Args:
        n: number of utterances
        n_frames: frames of each
        fraction: fraction of frames that start a span (.08 in HuBERT); spans may overlap
        span: frames of a span (10 in HuBERT)
        rng: random generator; every utterance has one span at least
    """
    mask = np.zeros((n, n_frames), dtype=bool)
    for row in mask:
        begins = rng.choice(n_frames, size=max(1, round(fraction * n_frames)), replace=False)
        for begin in begins:
            row[begin : begin + span] = True
    return mask
