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
class MomentMatching:
    """The line that gives predictions the mean and spread of the ratings, learnt on training speakers.

    For a fixed direction it is the linear head with the best CCC, so no gradient descent on CCC is needed. Learnt
    on held-out predictions of the training speakers: a model's predictions of what it was fitted on have too
    large a spread.
    """

    scale: float
    offset: float

    @classmethod
    def learn(cls, truth: np.ndarray, prediction: np.ndarray) -> MomentMatching:
        """From ratings and inner held-out predictions ``(n_train,)`` of the same training utterances."""
        spread = float(prediction.std())
        scale = float(truth.std()) / spread if np.ptp(prediction) > 0 else 0.0
        return cls(scale, float(truth.mean()) - scale * float(prediction.mean()))

    @classmethod
    def of_moments(cls, truth: np.ndarray, *, mean: float, spread: float) -> MomentMatching:
        """The same where only mean and standard deviation of the inner held-out predictions are known."""
        scale = float(truth.std()) / spread if spread > 0 else 0.0
        return cls(scale, float(truth.mean()) - scale * mean)

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        """Matched predictions, same shape."""
        return self.scale * prediction + self.offset


METRIC_NAMES = {
    "ccc_matched": "CCC, matched",
    "ccc": "CCC",
    "pearson": "Pearson r",
    "rmse": "RMSE",
    "r2": "R²",
    "uar": "unweighted average recall",
    "macro_f1": "macro F1",
}


DEFAULT_CLASS_METRIC = "uar"


DEFAULT_METRIC = "ccc_matched"


LOWER_IS_BETTER = frozenset({"rmse"})


def uar(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Unweighted average recall in [0, 1]: the mean of the recalls of the classes that occur in ``truth``.

    Guessing gives 1 / n_classes however rare a class is, which is why it is the metric of emotion corpora (Schuller et
    al., 2009).

    Args:
        truth: ``(n_utterances,)`` integer codes
        prediction: ``(n_utterances,)`` integer codes

    >>> uar(np.array([0, 0, 0, 1]), np.array([0, 0, 2, 1]))  # (2/3 + 1) / 2
    0.8333333333333333
    """
    return float(np.mean([np.mean(prediction[truth == c] == c) for c in np.unique(truth)]))


def macro_f1(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean F1 in [0, 1] over the classes that occur in ``truth`` or in ``prediction``, 0 for one never hit.

    Args:
        truth: ``(n_utterances,)`` integer codes
        prediction: ``(n_utterances,)`` integer codes

    >>> macro_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 2, 1]))  # (4/5 + 1 + 0) / 3
    0.6
    """
    # 2 hits / (labelled + predicted) is the harmonic mean of recall and precision, and 0 where both are
    f1 = [
        2 * np.sum((truth == c) & (prediction == c)) / (np.sum(truth == c) + np.sum(prediction == c))
        for c in np.union1d(truth, prediction)
    ]
    return float(np.mean(f1))


CLASS_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"uar": uar, "macro_f1": macro_f1}
