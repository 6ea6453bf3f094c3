"""What a ridge fit of one split returns, and which penalty it chooses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RidgeFit:
    """Held-out predictions of one split for every target, with the chosen penalties."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    inner_mean: np.ndarray  # (n_targets,), of predictions of training speakers held out in inner folds
    inner_std: np.ndarray  # (n_targets,), their standard deviation
    inner_error: np.ndarray  # (n_targets,), their mean squared error at the chosen candidate
    alpha: np.ndarray  # (n_targets,), relative, as in the grid
    ratio: np.ndarray  # (n_targets,), the chosen row of `Bands.ratios`; 0 without bands
    inner_errors: np.ndarray  # (n_candidates, n_targets), of every candidate; the smallest is chosen
    inner_prediction: np.ndarray | None = None  # (n_train, n_targets), these predictions, if requested


def least(errors: np.ndarray, shared: np.ndarray | None) -> np.ndarray:
    """Return the candidate with the smallest error for each target, or group of targets, ``(n_targets,)``."""
    if shared is None or not len(shared):
        return np.asarray(errors.argmin(axis=0))
    group = np.unique(shared, return_inverse=True)[1]
    if group.max() + 1 == len(group):  # none is shared
        return np.asarray(errors.argmin(axis=0))
    summed = np.stack([errors[:, group == g].sum(axis=1) for g in range(group.max() + 1)], axis=1)
    return np.asarray(summed.argmin(axis=0)[group])
