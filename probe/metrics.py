"""How well predictions agree with ratings, over arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def ccc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Concordance correlation coefficient in [-1, 1] (Lin, 1989).

    Args:
        truth: ``(n_utterances,)``
        prediction: ``(n_utterances,)``

    Returns:
        0 for a constant prediction, NaN only where both vectors are the same constant

    >>> ccc(np.array([0.0, 2.0]), np.array([0.0, 1.0]))  # 2 * 0.5 / (1 + 0.25 + 0.25)
    0.6666666666666666
    """
    # ptp == 0, not var() == 0: the variance of a constant can be 1e-34, and its covariance 1e-32
    if np.ptp(prediction) == 0:
        return float("nan") if np.ptp([truth, prediction]) == 0 else 0.0
    # 1/n in all three moments (Lin, 1989). Mixing in 1/(n-1) would score a perfect prediction below 1.
    covariance = np.mean((truth - truth.mean()) * (prediction - prediction.mean()))
    spread = truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2
    return float(2 * covariance / spread)


def pearson(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Pearson's correlation in [-1, 1]; NaN where either vector ``(n_utterances,)`` is constant."""
    if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        return float("nan")
    a, b = truth - truth.mean(), prediction - prediction.mean()
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


def rmse(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Root mean squared error, in the ratings' unit; both vectors ``(n_utterances,)``."""
    return float(np.sqrt(np.mean((truth - prediction) ** 2)))


def r2(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The share of the ratings' variance that is predicted, below 0 for a prediction worse than their mean.

    NaN where the ratings ``(n_utterances,)`` are constant.
    """
    spread = float(np.sum((truth - truth.mean()) ** 2)) if np.ptp(truth) > 0 else float("nan")
    return 1 - float(np.sum((truth - prediction) ** 2)) / spread


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "ccc": ccc,
    "pearson": pearson,
    "rmse": rmse,
    "r2": r2,
}


@dataclass(frozen=True)
class MomentMatch:
    """The line that gives predictions the mean and spread of the ratings, learnt on training speakers.

    For a fixed direction it is the linear head with the best CCC, so no gradient descent on CCC is needed. Learnt
    on held-out predictions of the training speakers: a model's predictions of what it was fitted on have too
    large a spread.
    """

    scale: float
    offset: float

    @classmethod
    def learn(cls, truth: np.ndarray, prediction: np.ndarray) -> MomentMatch:
        """From ratings and inner held-out predictions ``(n_train,)`` of the same training utterances."""
        spread = float(prediction.std())
        scale = float(truth.std()) / spread if np.ptp(prediction) > 0 else 0.0
        return cls(scale, float(truth.mean()) - scale * float(prediction.mean()))

    @classmethod
    def of_moments(cls, truth: np.ndarray, *, mean: float, spread: float) -> MomentMatch:
        """The same where only mean and standard deviation of the inner held-out predictions are known."""
        scale = float(truth.std()) / spread if spread > 0 else 0.0
        return cls(scale, float(truth.mean()) - scale * mean)

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        """Matched predictions, same shape."""
        return self.scale * prediction + self.offset
