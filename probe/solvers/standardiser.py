"""Standardisation of features by their means and standard deviations in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.vectors import is_rounding


@dataclass(frozen=True)
class Standardiser:
    """Standardisation of each feature by its mean and standard deviation in training.

    A feature that is constant there, or varies by rounding alone, becomes 0: divided by its standard deviation,
    rounding would count as much as any other feature.
    """

    mean: np.ndarray  # (n_features,) float64
    scale: np.ndarray  # (n_features,) float64

    @classmethod
    def learn(cls, train: np.ndarray) -> Standardiser:
        """Learn from training embeddings ``(n_train, n_features)``."""
        mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
        constant = is_rounding(std, mean, train.dtype)
        return cls(mean, np.where(constant, 0.0, 1 / np.where(constant, 1.0, std)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return standardised embeddings, ``(n, n_features)`` float64."""
        return np.asarray((x - self.mean) * self.scale)
