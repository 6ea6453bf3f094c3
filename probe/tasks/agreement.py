"""Agreement of raters by an analysis of variance, and the noise ceiling that it sets to predictions of their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class IntraclassCorrelation:
    """ICC(1) and ICC(1, k) of Shrout and Fleiss (1979); NaN where ratings do not vary."""

    single: float  # reliability of one rater
    mean: float  # reliability of the mean of k raters

    @property
    def ceiling(self) -> float:
        """Highest correlation that a prediction can have with the mean of k raters, the root of its reliability.

        The mean is a true score with an error; a prediction can correlate with the true score alone (Spearman, 1904).
        NaN where the reliability is not above 0.
        """
        return math.sqrt(self.mean) if self.mean > 0 else float("nan")


def intraclass_correlation(values: np.ndarray) -> IntraclassCorrelation | None:
    """Return the reliability of raters who differ from utterance to utterance.

    k is the mean number of ratings, weighted for groups of unequal size (Searle, 1971).

    Args:
        values: ``(n_utterances, n_raters)``, NaN where not rated; utterances with one rating are left out

    Returns:
        the correlations, or None where fewer than two utterances have two ratings

    >>> intraclass_correlation(np.array([[1.0, 2.0], [3.0, 3.0], [6.0, 5.0]])).mean.__round__(3)
    0.959
    """
    n = np.isfinite(values).sum(axis=1)
    values, n = values[n >= 2], n[n >= 2]
    if len(n) < 2:
        return None
    means = np.nanmean(values, axis=1)
    grand = np.nansum(values) / n.sum()
    between = float((n * (means - grand) ** 2).sum() / (len(n) - 1))
    within = float(np.nansum((values - means[:, None]) ** 2) / (n.sum() - len(n)))
    k = float((n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1))
    total = between + (k - 1) * within
    single = (between - within) / total if total > 0 else float("nan")
    mean = (between - within) / between if between > 0 else float("nan")
    return IntraclassCorrelation(single, mean)
