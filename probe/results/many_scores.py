"""Scores of many columns of predictions at once: those of permutations, of which a layer has hundreds.

They are those of `probe.metrics` up to the rounding of sums; columns without variance are left to these.
"""

from __future__ import annotations

import numpy as np

from layerprobe.probe.vectors import is_rounding


def rating_scores(truth: np.ndarray, prediction: np.ndarray, matched: np.ndarray) -> list[dict[str, float] | None]:
    """Return the metrics of each column, in the order of `probe.metrics.RATING_METRICS`, with ``ccc_matched`` last.

    Args:
        truth: ratings, ``(n_columns, n_utterances)``, finite
        prediction: float32, finite, in the same shape
        matched: moment-matched predictions, float32, finite, in the same shape

    Returns:
        the metrics of each column; None for one whose ratings or predictions are constant up to rounding
    """
    y, raw, linear = (np.ascontiguousarray(a, dtype=np.float64) for a in (truth, prediction, matched))
    constant = is_rounding(y.std(axis=1), y.mean(axis=1), truth.dtype)
    for values, given in ((raw, prediction), (linear, matched)):
        constant = constant | is_rounding(values.std(axis=1), values.mean(axis=1), given.dtype)
    centred = y - y.mean(axis=1, keepdims=True)
    squares = ((y - raw) ** 2).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "ccc": _ccc(y, centred, raw),
            "pearson": _pearson(centred, raw),
            "rmse": np.sqrt(squares),
            "r2": 1 - ((y - raw) ** 2).sum(axis=1) / (centred**2).sum(axis=1),
            "ccc_matched": _ccc(y, centred, linear),
        }
    return [
        None if constant[k] else {name: float(values[k]) for name, values in columns.items()} for k in range(len(y))
    ]


def _ccc(y: np.ndarray, centred: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    mean = predicted.mean(axis=1)
    covariance = (centred * (predicted - mean[:, None])).mean(axis=1)
    return np.asarray(2 * covariance / (y.var(axis=1) + predicted.var(axis=1) + (y.mean(axis=1) - mean) ** 2))


def _pearson(centred: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    other = predicted - predicted.mean(axis=1, keepdims=True)
    return np.asarray((centred * other).sum(axis=1) / np.sqrt((centred**2).sum(axis=1) * (other**2).sum(axis=1)))
