"""Embeddings in the data type that a cache stores them in."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.exceptions import CodedError


class StorageOverflowError(CodedError):
    """A value exceeds the range of the cache's storage dtype."""


def stored(embeddings: np.ndarray, dtype: str) -> np.ndarray:
    """Return embeddings in a cache's storage dtype.

    Raises:
        StorageOverflowError: if a value exceeds its range
    """
    with np.errstate(over="ignore"):  # the error below names the value
        values = embeddings.astype(dtype)
    if not np.isfinite(values).all():
        raise StorageOverflowError(
            "LP430",
            f"a value of {np.abs(embeddings).max():.3g} can't be held as {dtype}; take float32 (--storage-dtype "
            "float32)",
        )
    return values
