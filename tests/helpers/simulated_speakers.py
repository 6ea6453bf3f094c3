"""Corpora whose speakers differ, with the fraction of ratings of new speakers that an interval holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from layerprobe.probe.predictors.conformal import half_width, reachable_level
from layerprobe.probe.predictors.fitting import layer_head
from layerprobe.probe.solvers.leave_group_out import REFIT
from layerprobe.probe.splits import Split, fold_splits

N_NEW = 400  # speakers by which coverage is measured
ALPHAS = (0.001, 0.01, 0.1, 1.0, 10.0)
KINDS = {  # fraction of the errors' variance that is the speaker's, and deviation of the logarithm of its scale
    "bias": (0.5, 0.0),
    "scale": (0.3, 0.6),
    "talkative": (0.1, 0.8),  # speakers with many utterances have a small scale
}


@dataclass(frozen=True)
class SpeakerErrors:
    """Errors of predictions, with a bias and a scale of each speaker, whose coverage is known by arithmetic."""

    kind: str

    def speakers(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bias, scale and number of utterances of each of n speakers."""
        fraction, deviation = KINDS[self.kind]
        size = rng.normal(size=n)
        counts = np.maximum(2, np.rint(np.exp(2.5 + (1.2 if self.kind == "talkative" else 0.5) * size))).astype(int)
        loud = -size if self.kind == "talkative" else rng.normal(size=n)
        return np.sqrt(fraction) * rng.normal(size=n), np.sqrt(1 - fraction) * np.exp(deviation * loud), counts

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Errors of all utterances of n speakers, and the speaker of each."""
        bias, scale, counts = self.speakers(n, rng)
        of_row = np.repeat(np.arange(n), counts)
        return bias[of_row] + scale[of_row] * rng.normal(size=len(of_row)), of_row

    def coverage(self, width: float, rng: np.random.Generator) -> float:
        """Probability that an utterance of a new speaker has an error within a half-width."""
        bias, scale, _ = self.speakers(N_NEW, rng)
        return float(np.mean(norm.cdf((width - bias) / scale) - norm.cdf((-width - bias) / scale)))


def hierarchical_half_width(errors: np.ndarray, speakers: np.ndarray, *, level: float) -> float:
    """The half-width of Lee, Barber and Willett (2023): all errors weighted, and the new speaker's at infinity."""
    _, of_row, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    order = np.argsort(np.abs(errors))
    reached = np.searchsorted(np.cumsum((1 / (counts[of_row] * (len(counts) + 1)))[order]), level - 1e-9)
    return float(np.abs(errors)[order][reached]) if reached < len(errors) else float("inf")


def pooled_half_width(errors: np.ndarray, *, level: float) -> float:
    """The half-width of split conformal prediction that takes utterances for exchangeable (Lei et al., 2018)."""
    rank = min(len(errors), int(np.ceil((len(errors) + 1) * level)))
    return float(np.sort(np.abs(errors))[rank - 1])


def coverage_of_refitted_heads(
    n_speakers: int, rng: np.random.Generator, *, dim: int = 12, level: float = 0.9
) -> float:
    """Fraction of ratings of new speakers held by the head that is refitted on all speakers.

    The interval comes from the predictions of the folds, as in `layerprobe.deployment`.
    """
    direction = rng.normal(size=dim) / np.sqrt(dim)
    x, y, speakers = _corpus(n_speakers, direction, rng)
    n_folds = min(5, n_speakers)
    splits = fold_splits(speakers, n_folds=n_folds, n_inner_folds=max(2, n_folds - 1), rng=rng)
    held_out, inner = np.empty(len(y)), np.empty(len(y), dtype=int)
    choices = {"target": "t", "layer": "0", "alphas": ALPHAS, "inner_selection": REFIT}
    for number, split in enumerate(splits):
        held_out[split.test] = layer_head(x, y, split, **choices)({"0": x[split.test]})
        inner[split.test] = number
    width = half_width(y[:, 0] - held_out, speakers, level=reachable_level(n_speakers), rng=rng)
    whole = layer_head(x, y, Split("all", np.arange(len(y)), np.arange(0), inner), **choices)
    new_x, new_y, new = _corpus(100, direction, rng)
    is_held = np.abs(new_y[:, 0] - whole({"0": new_x})) <= width
    return float(np.mean([is_held[new == speaker].mean() for speaker in range(100)]))


def _corpus(n: int, direction: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, ratings and speakers; 30 % of the variance of both is the speaker's, and scales of errors differ."""
    of_row = np.repeat(np.arange(n), rng.integers(8, 30, size=n))
    x = np.sqrt(0.7) * rng.normal(size=(len(of_row), len(direction)))
    x += np.sqrt(0.3) * rng.normal(size=(n, len(direction)))[of_row]
    noise = np.sqrt(0.7) * np.exp(0.3 * rng.normal(size=n))[of_row] * rng.normal(size=len(of_row))
    noise += np.sqrt(0.3) * rng.normal(size=n)[of_row]
    return x, (4 + 0.8 * x @ direction + 0.6 * noise)[:, None], of_row
