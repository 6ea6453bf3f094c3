"""How well predicted classes agree with labelled ones, every class counting alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


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
