"""Metrics of how well predictions agree with ratings or classes, in one registry.

Every metric takes two array-likes of one dimension and equal length (arrays, lists, pandas Series, CPU tensors) and
checks them. The policy for missing values is to refuse: a NaN or an infinity raises a ValueError with the number of
them and the position of the first, because leaving rows out silently would compare scores over different utterances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from layerprobe.probe.vectors import class_vectors, is_rounding, precision, rating_vectors, varies_by_rounding

INFINITY = float("inf")
# Standard deviation of predictions relative to that of the ratings up to which it is rounding of the sums that it comes
# from: their variance is off by 2e-16. The strongest penalty leaves 1e-4 of what is predicted.
LEAST_DEVIATION = 1e-7


def ccc(ratings: ArrayLike, prediction: ArrayLike) -> float:
    """Return the concordance correlation coefficient, in [-1, 1]; higher is better (Lin, 1989).

    Formula: ``2 cov(y, ŷ) / (var(y) + var(ŷ) + (mean(y) - mean(ŷ))²)``, with 1/n in all moments.

    Args:
        ratings: ``(n_utterances,)``
        prediction: ``(n_utterances,)``

    Returns:
        0 for a constant prediction or constant ratings, NaN only where both vectors are the same constant; values that
        differ by rounding alone are constant (`probe.vectors.varies_by_rounding`)

    Raises:
        ValueError: if either is not numeric, not of one dimension, empty or not finite, or if their lengths differ

    >>> ccc([0.0, 2.0], [0.0, 1.0])  # 2 * 0.5 / (1 + 0.25 + 0.25)
    0.6666666666666666
    """
    y, predicted = rating_vectors(ratings, prediction)
    kind = precision(prediction)
    if _is_constant(y, ratings) or _is_constant(predicted, prediction):
        both = np.concatenate([y, predicted])
        return float("nan") if is_rounding(both.std(), both.mean(), kind) else 0.0
    # 1/n in all three moments (Lin, 1989). Mixing in 1/(n-1) would score a perfect prediction below 1.
    covariance = np.mean((y - y.mean()) * (predicted - predicted.mean()))
    denominator = y.var() + predicted.var() + (y.mean() - predicted.mean()) ** 2
    return float(2 * covariance / denominator)


def pearson(ratings: ArrayLike, prediction: ArrayLike) -> float:
    """Return Pearson's correlation coefficient, in [-1, 1]; higher is better (Pearson, 1895).

    Formula: ``cov(y, ŷ) / (sd(y) sd(ŷ))``.

    Args:
        ratings: ``(n_utterances,)``
        prediction: ``(n_utterances,)``

    Returns:
        NaN where either vector is constant, up to rounding

    Raises:
        ValueError: as `ccc` does

    >>> pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    1.0
    """
    y, predicted = rating_vectors(ratings, prediction)
    if _is_constant(y, ratings) or _is_constant(predicted, prediction):
        return float("nan")
    a, b = y - y.mean(), predicted - predicted.mean()
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


def rmse(ratings: ArrayLike, prediction: ArrayLike) -> float:
    """Return the root mean squared error in the ratings' unit, 0 or more; lower is better.

    Formula: ``sqrt(mean((y - ŷ)²))``; for its properties see Hyndman and Koehler (2006).

    Args:
        ratings: ``(n_utterances,)``
        prediction: ``(n_utterances,)``

    Raises:
        ValueError: as `ccc` does

    >>> round(rmse([0.0, 0.0], [3.0, 4.0]), 4)  # the root of 25 / 2
    3.5355
    """
    y, predicted = rating_vectors(ratings, prediction)
    return float(np.sqrt(np.mean((y - predicted) ** 2)))


def r2(ratings: ArrayLike, prediction: ArrayLike) -> float:
    """Return the coefficient of determination R², at most 1; higher is better (Wright, 1921).

    Formula: ``1 - Σ(y - ŷ)² / Σ(y - mean(y))²``: the proportion of the ratings' variance that is explained, below 0
    for a prediction worse than their mean.

    Args:
        ratings: ``(n_utterances,)``
        prediction: ``(n_utterances,)``

    Returns:
        NaN where the ratings are constant, up to rounding

    Raises:
        ValueError: as `ccc` does

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])  # 1 - 1 / 2
    0.5
    """
    y, predicted = rating_vectors(ratings, prediction)
    total = float(np.sum((y - y.mean()) ** 2)) if not _is_constant(y, ratings) else float("nan")
    return 1 - float(np.sum((y - predicted) ** 2)) / total


def uar(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return the unweighted average recall, in [0, 1]; higher is better (Schuller et al., 2009).

    Formula: ``mean over c in truth of P(prediction = c | truth = c)``. Guessing gives 1 / n_classes however rare a
    class is, which is why it is the metric of emotion corpora.

    Args:
        truth: ``(n_utterances,)`` classes as whole numbers, or as names
        prediction: ``(n_utterances,)`` classes in the same form

    Raises:
        ValueError: if either is not of one dimension, is empty or has a missing class, if one holds numbers and the
            other names, or if their lengths differ

    >>> uar([0, 0, 0, 1], [0, 0, 2, 1])  # (2/3 + 1) / 2
    0.8333333333333333
    """
    true, predicted = class_vectors(truth, prediction)
    return float(np.mean([np.mean(predicted[true == c] == c) for c in np.unique(true)]))


def macro_f1(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean F1 over classes, in [0, 1]; higher is better (Opitz and Burst, 2019, the mean of F1 scores).

    Formula: ``mean over c of 2 hits / (labelled + predicted)``, over the classes that occur in ``truth`` or in
    ``prediction``; a class without a hit counts as 0.

    Args:
        truth: ``(n_utterances,)`` classes as whole numbers, or as names
        prediction: ``(n_utterances,)`` classes in the same form

    Raises:
        ValueError: as `uar` does

    >>> macro_f1([0, 0, 0, 1], [0, 0, 2, 1])  # (4/5 + 1 + 0) / 3
    0.6
    """
    true, predicted = class_vectors(truth, prediction)
    # 2 hits / (labelled + predicted) is the harmonic mean of recall and precision, and 0 where both are
    f1 = [
        2 * np.sum((true == c) & (predicted == c)) / (np.sum(true == c) + np.sum(predicted == c))
        for c in np.union1d(true, predicted)
    ]
    return float(np.mean(f1))


def _is_constant(vector: np.ndarray, given: ArrayLike) -> bool:
    """Return whether a vector is constant, up to the rounding of the numbers that were given."""
    return bool(is_rounding(vector.std(), vector.mean(), precision(given)))


@dataclass(frozen=True)
class Metric:
    """One metric of the registry: how it is named, computed, cited and read."""

    name: str  # as in the column ``metric`` of a run's scores
    label: str  # as in figures and reports
    function: Callable[[ArrayLike, ArrayLike], float]  # of ratings or classes, and predictions
    formula: str
    source: str  # paper and year
    range: tuple[float, float]  # minimum and maximum
    higher_is_better: bool
    kind: Literal["ratings", "classes"]  # what it is a metric of

    def __call__(self, truth: ArrayLike, prediction: ArrayLike) -> float:
        """Return the metric of two vectors ``(n_utterances,)``; errors as those of its function.

        >>> METRICS["rmse"]([1.0, 2.0], [1.0, 2.0])
        0.0
        """
        return self.function(truth, prediction)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "ccc_matched", "moment-matched CCC", ccc,
            "CCC of s·ŷ + b; s and b give the held-out predictions of the training speakers the ratings' mean and "
            "standard deviation (MomentMatching)",
            "Lin (1989); centring and scaling as in Trigeorgis et al. (2016)", (-1.0, 1.0), True, "ratings",
        ),
        Metric(
            "ccc", "CCC", ccc, "2 cov(y, ŷ) / (var(y) + var(ŷ) + (mean(y) - mean(ŷ))²)",
            "Lin (1989)", (-1.0, 1.0), True, "ratings",
        ),
        Metric(
            "pearson", "Pearson r", pearson, "cov(y, ŷ) / (sd(y) sd(ŷ))", "Pearson (1895)", (-1.0, 1.0), True, "ratings"
        ),
        Metric(
            "rmse", "RMSE", rmse, "sqrt(mean((y - ŷ)²))",
            "Hyndman and Koehler (2006)", (0.0, INFINITY), False, "ratings",
        ),
        Metric("r2", "R²", r2, "1 - Σ(y - ŷ)² / Σ(y - mean(y))²", "Wright (1921)", (-INFINITY, 1.0), True, "ratings"),
        Metric(
            "uar", "unweighted average recall", uar, "mean over labelled classes c of hits(c) / labelled(c)",
            "Schuller et al. (2009)", (0.0, 1.0), True, "classes",
        ),
        Metric(
            "macro_f1", "macro F1", macro_f1,
            "mean over labelled or predicted classes c of 2 hits(c) / (labelled(c) + predicted(c))",
            "Opitz and Burst (2019)", (0.0, 1.0), True, "classes",
        ),
    )
}  # fmt: skip

DEFAULT_METRIC = "ccc_matched"  # of ratings
DEFAULT_CLASS_METRIC = "uar"
METRIC_NAMES = {name: metric.label for name, metric in METRICS.items()}
LOWER_IS_BETTER = frozenset(name for name, metric in METRICS.items() if not metric.higher_is_better)
CLASS_METRICS = {name: metric for name, metric in METRICS.items() if metric.kind == "classes"}
# of predictions as they are; the moment-matched CCC is of others
RATING_METRICS = {name: m for name, m in METRICS.items() if m.kind == "ratings" and name != "ccc_matched"}


class RatingMoments(NamedTuple):
    """Mean and standard deviation of the ratings of one target."""

    mean: float
    std: float

    @classmethod
    def of_columns(cls, ratings: np.ndarray) -> list[RatingMoments]:
        """Return those of each column of ``(n_utterances, n_targets)``."""
        columns = np.ascontiguousarray(ratings.T)  # summed as a column alone is
        return [cls(*pair) for pair in zip(columns.mean(axis=1).tolist(), columns.std(axis=1).tolist(), strict=True)]


@dataclass(frozen=True)
class MomentMatching:
    """Linear map that gives predictions the mean and standard deviation of the ratings, learnt on training speakers.

    For a fixed direction it is the linear head with the best CCC, so no gradient descent on CCC is needed. It is learnt
    on held-out predictions of the training speakers, because the predictions for utterances that a model was fitted on
    vary too much.
    """

    scale: float
    offset: float

    @classmethod
    def learn(cls, ratings: np.ndarray, prediction: np.ndarray) -> MomentMatching:
        """Learn from ratings and inner held-out predictions, both ``(n_train,)``, of the same training utterances."""
        scale = 0.0 if varies_by_rounding(prediction) else float(ratings.std()) / float(prediction.std())
        return cls(scale, float(ratings.mean()) - scale * float(prediction.mean()))

    @classmethod
    def from_moments(cls, ratings: RatingMoments, *, mean: float, std: float) -> MomentMatching:
        """Learn from the moments of the ratings and of the inner held-out predictions, of the same utterances."""
        scale = ratings.std / std if std > LEAST_DEVIATION * ratings.std else 0.0
        return cls(scale, ratings.mean - scale * mean)

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        """Return the moment-matched predictions, in the shape of ``prediction``."""
        return self.scale * prediction + self.offset
