"""Concepts that can be erased from embeddings: numbers or classes of each utterance.

A concept of numbers has few columns, so that few directions are erased: whatever is erased takes some of everything
with it, and random directions show how much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layerprobe.probe.splits import Split

MOST_DIRECTIONS = 32  # that are erased of one concept; those with the largest covariance are taken
ROWS_PER_COMPONENT = 5  # training utterances for each principal component at least: erasing more leaves few directions


@dataclass(frozen=True)
class Concept:
    """A concept and its values, of numbers or of classes."""

    name: str
    columns: tuple[str, ...]  # of the numbers, or the names of the classes
    source: str  # where the values are from, for people
    values: (
        np.ndarray
    )  # (n_utterances, n_columns) float64, NaN where not known; codes of classes (n_utterances,), or -1
    path: str = ""  # of the cache that the values are from
    components: int = 0  # principal components on training rows that take the place of the columns; 0 for none
    of_speakers: bool = False  # whether unseen speakers are new classes, of which no probe can be scored

    @property
    def is_nominal(self) -> bool:
        """Whether the values are codes of classes."""
        return self.values.ndim == 1

    @property
    def known(self) -> np.ndarray:
        """Which utterances have all values, ``(n_utterances,)`` bool."""
        return np.asarray(self.values >= 0 if self.is_nominal else np.isfinite(self.values).all(axis=1))

    @property
    def n_columns(self) -> int:
        """Number of directions that are erased at most."""
        n = self.components or len(self.columns) - self.is_nominal
        return min(n, MOST_DIRECTIONS)

    def content(self) -> str:
        """Return sixteen hex digits over the values."""
        return hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest()[:16]

    def of_split(self, split: Split) -> np.ndarray:
        """Return numbers as one split erases them, or an indicator for each class, NaN where not known.

        Args:
            split: principal components and their number are those of its training rows

        Returns:
            ``(n_utterances, n_columns)`` float64
        """
        known = self.known
        if self.is_nominal:
            return np.where(known[:, None], self.values[:, None] == np.arange(len(self.columns)), np.nan)
        if not self.components:
            return self.values
        train = split.train[known[split.train]]
        return principal_components(self.values, train, min(self.components, max(1, len(train) // ROWS_PER_COMPONENT)))


def principal_components(x: np.ndarray, train: np.ndarray, n_components: int) -> np.ndarray:
    """Return the leading principal components of the training rows, of all rows ``(n, n_kept)``.

    Args:
        x: ``(n, n_features)``
        train: ``(n_train,)`` row numbers
        n_components: at most so many; fewer where the training rows vary in fewer directions
    """
    mean = x[train].mean(axis=0, dtype=np.float64)
    rows = x[train] - mean
    is_dual = len(rows) < rows.shape[1]
    eigenvalues, vectors = np.linalg.eigh(rows @ rows.T if is_dual else rows.T @ rows)
    kept = np.flatnonzero(eigenvalues > max(rows.shape) * np.finfo(np.float64).eps * eigenvalues[-1])[-n_components:]
    basis = rows.T @ vectors[:, kept] / np.sqrt(eigenvalues[kept]) if is_dual else vectors[:, kept]
    return np.asarray((x - mean) @ basis[:, ::-1])


def speech_rate(transcripts: Sequence[str], log_seconds: np.ndarray) -> np.ndarray:
    """Return the natural log of letters and digits of the transcript per second, ``(n_utterances, 1)``.

    Syllables, the usual unit, would take a pronunciation of each language. NaN where there is no letter.

    >>> speech_rate(["ab c!", ""], np.log([1.5, 1.0])).round(3).tolist()
    [[0.693], [nan]]
    """
    counts = np.array([sum(character.isalnum() for character in text) for text in transcripts], dtype=np.float64)
    return np.asarray(np.log(np.where(counts > 0, counts, np.nan)) - log_seconds)[:, None]
