"""Recall and F1 of classes from counts per speaker, so that bootstrap resamples are matrix products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassSums:
    """Counts of utterances, one row per speaker or resample, ``(n_rows, n_columns, n_classes)`` each."""

    hits: np.ndarray  # labelled with the class and predicted as it
    labelled: np.ndarray
    predicted: np.ndarray

    def resampled(self, counts: np.ndarray) -> ClassSums:
        """Return the counts of resamples from counts of the speakers, ``(n_resamples, n_speakers)``."""
        return ClassSums(*(np.tensordot(counts, a, axes=1) for a in (self.hits, self.labelled, self.predicted)))

    def without_each(self) -> ClassSums:
        """Return the counts of all speakers but one, one row for each speaker left out."""
        return ClassSums(*(a.sum(axis=0) - a for a in (self.hits, self.labelled, self.predicted)))


def class_sums(truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray) -> ClassSums:
    """Return the counts of each speaker.

    Args:
        truth: codes of the labelled classes, ``(n_utterances, n_columns)``; NaN where an utterance has none, which is
            left out of the column
        prediction: codes, ``(n_utterances, n_columns)``
        groups: ``(n_utterances,)``, the number of the speaker
    """
    rated = np.isfinite(truth)
    truth, prediction = (np.where(rated, codes, -1).astype(int) for codes in (truth, prediction))
    n_classes = 1 + int(max(truth.max(), prediction.max()))
    order = np.argsort(groups, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    classes = np.arange(n_classes)
    labelled, predicted = truth[order, :, None] == classes, prediction[order, :, None] == classes
    counted = (labelled & predicted, labelled, predicted)
    return ClassSums(*(np.add.reduceat(c.astype(np.float64), begins, axis=0) for c in counted))


def uar(sums: ClassSums) -> np.ndarray:
    """Return unweighted average recall ``(n_rows, n_columns)`` over the classes that are labelled."""
    return _mean(sums.hits, sums.labelled)


def macro_f1(sums: ClassSums) -> np.ndarray:
    """Return the mean F1 ``(n_rows, n_columns)`` over the classes that are labelled or predicted."""
    return _mean(2 * sums.hits, sums.labelled + sums.predicted)


COUNTED_METRICS: dict[str, Callable[[ClassSums], np.ndarray]] = {"uar": uar, "macro_f1": macro_f1}


def _mean(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    present = whole > 0
    ratio = np.where(present, part, 0.0) / np.where(present, whole, 1.0)
    n = present.sum(axis=-1)
    return np.asarray(ratio.sum(axis=-1) / np.where(n > 0, n, np.nan))
