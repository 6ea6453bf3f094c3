"""Vectors and features of numbers: checks of what metrics are given, and whether values differ by rounding alone."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

NOT_NUMBERS = (str, bytes, bool, complex)
SHORT_FLOATS = ("float32", "float16", "bfloat16")
# Standard deviation relative to the mean up to which numbers count as equal. A number in float32 is off by up to half a
# unit in the last place, 6e-8 of itself, and four units allow for the steps that made it. In float64 numbers were read
# from text or are means of ratings, which no rater gives to nine digits.
ROUNDING, FLOAT32_ROUNDING = 1e-9, 4 * 2.0**-23
# Variance of a residual relative to that of its target up to which nothing is left: ratings of a thousand steps have a
# rounding error of 1e-6 of their variance, and the sums that residuals are computed from one of 1e-14.
RESIDUAL_ROUNDING = 1e-6


def is_rounding(std: Any, mean: Any, dtype: Any) -> Any:
    """Return whether a standard deviation is rounding of a mean, elementwise, as a bool or an array of them.

    Args:
        std: of numbers, 0 or more
        mean: of the same numbers
        dtype: what they were stored in, which sets the tolerance: `FLOAT32_ROUNDING` or `ROUNDING`
    """
    is_short = np.dtype(dtype) in (np.dtype(np.float32), np.dtype(np.float16))
    return std <= (FLOAT32_ROUNDING if is_short else ROUNDING) * np.abs(mean)


def varies_by_rounding(values: np.ndarray) -> Any:
    """Return whether the values along the first axis are constant, or differ by rounding alone.

    Such values are treated as constant everywhere: they are not standardised, predicted or scored.

    >>> varies_by_rounding(np.array([4.0, 4.000000000001])), varies_by_rounding(np.array([4.0, 4.01]))
    (True, False)
    """
    found = is_rounding(values.std(axis=0, dtype=np.float64), values.mean(axis=0, dtype=np.float64), values.dtype)
    return bool(found) if values.ndim == 1 else found


def residual_is_rounding(residual: np.ndarray, target: np.ndarray) -> bool:
    """Return whether nothing of a target is left in a residual: its variance is at most `RESIDUAL_ROUNDING` of it.

    Args:
        residual: ``(n_utterances,)``
        target: the ratings that it is the residual of, ``(n_utterances,)``
    """
    return bool(residual.var() <= RESIDUAL_ROUNDING * target.var()) or bool(varies_by_rounding(target))


def precision(values: ArrayLike) -> np.dtype:
    """Return the type whose rounding array-likes of one dimension have: float32 for it and shorter ones, else float64.

    >>> precision(np.ones(2, dtype=np.float32)), precision([1, 2])
    (dtype('float32'), dtype('float64'))
    """
    name = str(getattr(values, "dtype", ""))  # numpy's, pandas' or torch's
    return np.dtype(np.float32 if name.lower().removeprefix("torch.") in SHORT_FLOATS else np.float64)


def rating_vectors(ratings: ArrayLike, prediction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return ratings and predictions as float64, ``(n_utterances,)`` each; float64 arrays are not copied.

    Raises:
        ValueError: if either is not numeric, not of one dimension, empty or not finite, or if their lengths differ
    """
    y, predicted = _finite_vector(ratings, "ratings"), _finite_vector(prediction, "prediction")
    _check_lengths(y, predicted, "ratings")
    return y, predicted


def class_vectors(truth: ArrayLike, prediction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted classes ``(n_utterances,)``, both as integers or both as strings.

    Raises:
        ValueError: if either is not of one dimension, is empty or lacks a class, if one holds numbers and the other
            names, or if their lengths differ
    """
    true, predicted = _class_vector(truth, "truth"), _class_vector(prediction, "prediction")
    _check_lengths(true, predicted, "truth")
    if true.dtype.kind != predicted.dtype.kind:
        names, numbers = ("truth", "prediction") if true.dtype.kind == "U" else ("prediction", "truth")
        raise ValueError(f"{names} holds names of classes and {numbers} holds numbers; give both in the same form.")
    return true, predicted


def _check_lengths(a: np.ndarray, b: np.ndarray, name: str) -> None:
    if len(a) != len(b):
        raise ValueError(f"{name} has {len(a)} values and prediction has {len(b)}; give one of each per utterance.")


def _finite_vector(values: ArrayLike, name: str) -> np.ndarray:
    array = _vector(values, name)
    if array.dtype.kind == "O" and not any(isinstance(v, NOT_NUMBERS) for v in array):
        with suppress(TypeError, ValueError):  # what is no number is refused below
            array = np.array([np.nan if _is_missing(v) else float(v) for v in array])
    if array.dtype.kind not in "iuf":
        example = next((v for v in array.tolist() if isinstance(v, NOT_NUMBERS)), array[0])
        raise ValueError(f"{name} holds values that are not numbers, e.g. {example!r}; give numbers.")
    array = array.astype(np.float64, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        _raise_missing(np.flatnonzero(~finite), len(array), name)
    return array


def _class_vector(values: ArrayLike, name: str) -> np.ndarray:
    array = _vector(values, name)
    if array.dtype.kind in "OUT":
        missing = np.flatnonzero([_is_missing(v) for v in array])
        if len(missing):
            _raise_missing(missing, len(array), name)
        if all(isinstance(v, str) for v in array):
            return array.astype(str)
    if array.dtype.kind in "biu":
        return array.astype(np.int64, copy=False)
    numbers = _finite_vector(array, name)
    fractions = np.flatnonzero(numbers != np.round(numbers))
    if len(fractions):
        raise ValueError(
            f"{name} holds {numbers[fractions[0]]:g} at position {fractions[0]}; "
            "give classes as whole numbers or names."
        )
    return numbers.astype(np.int64)


def _vector(values: Any, name: str) -> np.ndarray:
    """Return an array of one dimension with at least one value."""
    if hasattr(values, "detach"):  # a tensor: numpy takes none that has a gradient or is bfloat16
        if values.device.type != "cpu":
            raise ValueError(f"{name} is a tensor on {values.device}; give {name}.cpu().")
        values = values.detach().double() if values.is_floating_point() else values.detach()
    if np.ma.is_masked(values):
        values = np.where(np.ma.getmaskarray(values), None, values.data.astype(object))
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} holds sequences of unequal lengths; give one value per utterance.") from error
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; give one dimension, e.g. frame['arousal'] or .ravel().")
    if len(array) == 0:
        raise ValueError(f"{name} is empty; a metric takes at least one utterance.")
    return array


def _raise_missing(positions: np.ndarray, n: int, name: str) -> None:
    raise ValueError(
        f"{name} holds {len(positions)} of {n} values that are missing or not finite, the first at position "
        f"{positions[0]} (counted from 0); leave these utterances out of both vectors."
    )


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or pandas' NA, whose comparisons have no truth value."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )
