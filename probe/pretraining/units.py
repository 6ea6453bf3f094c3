"""Units of speech without labels: k-means over frames, the targets of masked prediction (Hsu et al., 2021, HuBERT)."""

from __future__ import annotations

import numpy as np
import torch
import torchaudio

RATE = 16_000  # Hz
HOP, WINDOW = 320, 400  # samples: the stride and the reach of HuBERT's convolutions
N_MFCC = 13
MOST_FRAMES = 100_000  # on which k-means is fitted
ITERATIONS = 25


class MfccFrames:
    """39 coefficients, MFCC with their deltas and the deltas of those, of frames that are HuBERT's own."""

    def __init__(self, *, level: bool = True) -> None:
        """25 ms every 20 ms, 40 mel bands; ``level`` brings a sound to unit variance first, as the encoder hears it."""
        self._level = level
        self._mfcc = torchaudio.transforms.MFCC(
            sample_rate=RATE,
            n_mfcc=N_MFCC,
            melkwargs={"n_fft": 512, "win_length": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False},
        )

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """``(n_samples,)`` at 16 kHz -> ``(n_frames, 39)`` float32, a frame for each of HuBERT's."""
        n_frames = (len(waveform) - WINDOW) // HOP + 1
        if self._level:
            waveform = (waveform - waveform.mean()) / max(float(waveform.std()), 1e-7)
        # a window lies in the middle of torch's longer frame
        padded = torch.nn.functional.pad(torch.from_numpy(waveform), (56, 512))
        told = self._mfcc(padded)[:, :n_frames]
        deltas = torchaudio.functional.compute_deltas(told)
        stacked = torch.cat([told, deltas, torchaudio.functional.compute_deltas(deltas)])
        return np.ascontiguousarray(stacked.T.numpy(), dtype=np.float32)


class UnitClusters:
    """Centres of clusters, and which of them a frame is nearest to."""

    def __init__(self, mean: np.ndarray, spread: np.ndarray, centres: np.ndarray) -> None:
        """Frames are standardised by ``mean`` and ``spread`` before they are held against ``centres``."""
        self.mean, self.spread, self.centres = mean, spread, centres

    @classmethod
    def fit(cls, frames: np.ndarray, *, n_units: int, rng: np.random.Generator, tied: int = 0) -> UnitClusters:
        """Cluster ``(n_frames, n_features)``, at most `MOST_FRAMES` of them, by chance chosen.

        Args:
            frames: each feature is standardised first
            n_units: clusters
            rng: chooses
            tied: features k + tied, k + 2 tied … are brought to the spread of feature k, not their own: deltas keep
                the small share that they have in a distance, and units change with sounds, not with every frame

        Raises:
            ValueError: if there are fewer frames than units
        """
        if len(frames) < n_units:
            raise ValueError(f"{len(frames)} frames can't be {n_units} units")
        chosen = frames[rng.permutation(len(frames))[:MOST_FRAMES]].astype(np.float64)
        mean, spread = chosen.mean(axis=0), chosen.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        if tied:
            spread = np.resize(spread[:tied], len(spread))
        return cls(mean, spread, _k_means((chosen - mean) / spread, n_units, rng))

    def of(self, frames: np.ndarray) -> np.ndarray:
        """The unit of each frame, ``(n_frames,)`` int16."""
        found, _ = _nearest((frames.astype(np.float64) - self.mean) / self.spread, self.centres)
        return found.astype(np.int16)


def _nearest(z: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each row, and its squared distance."""
    distances = z @ (-2 * centres.T)
    distances += (centres**2).sum(axis=1)  # |z|² is the same for every centre
    found = distances.argmin(axis=1)
    return found, distances[np.arange(len(z)), found] + (z**2).sum(axis=1)


def _k_means(z: np.ndarray, n_centres: int, rng: np.random.Generator) -> np.ndarray:
    """Lloyd's iterations from k-means++ (Arthur and Vassilvitskii, 2007), as matrix products.

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
        moved = z[far.argsort()[-n_centres:]]  # a centre that is nobody's begins anew at a frame far from all
        moved[filled] = np.add.reduceat(z[order], begins) / sizes[:, None]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def span_mask(n: int, n_frames: int, *, share: float, span: int, rng: np.random.Generator) -> np.ndarray:
    """Frames that are hidden, in spans, bool ``(n, n_frames)``: each frame begins one by chance, as often as it needs.

    Args:
        n: utterances
        n_frames: of each
        share: of frames that begin a span (.08 in HuBERT); spans may overlap
        span: frames (10 in HuBERT)
        rng: chooses; every utterance has one span at least
    """
    mask = np.zeros((n, n_frames), dtype=bool)
    for row in mask:
        begins = rng.choice(n_frames, size=max(1, round(share * n_frames)), replace=False)
        for begin in begins:
            row[begin : begin + span] = True
    return mask
