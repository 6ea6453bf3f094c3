"""Where the segments of a recording lie in what it was recorded from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import correlate

LEAST_ENERGY = 0.1  # of the mean energy of a segment; others are pauses, in which any place is as good


@dataclass(frozen=True)
class FoundSegment:
    """A segment, at its place of the highest correlation."""

    first: int  # sample in the recording
    place: int  # sample in the original
    correlation: float  # -1 to 1

    @property
    def lag(self) -> int:
        """Samples by which it is later in the recording than in the original."""
        return self.first - self.place


def find_segments(recording: np.ndarray, original: np.ndarray, *, length: int) -> list[FoundSegment]:
    """Cut a recording into segments of ``length`` samples and find each that has energy in the original by itself."""
    firsts = range(0, len(recording) - length + 1, length)
    energies = {first: float(np.sum(recording[first : first + length] ** 2)) for first in firsts}
    least = LEAST_ENERGY * np.mean(list(energies.values()))
    return [_find(recording, original, first, length) for first in firsts if energies[first] > least]


def _find(recording: np.ndarray, original: np.ndarray, first: int, length: int) -> FoundSegment:
    segment = recording[first : first + length] - recording[first : first + length].mean()
    sums, squares = (np.cumsum(np.concatenate([[0.0], x])) for x in (original, original**2))
    mean = (sums[length:] - sums[:-length]) / length
    variance = np.maximum((squares[length:] - squares[:-length]) / length - mean**2, 1e-12)
    products = correlate(original, segment, mode="valid") / length
    correlations = products / np.sqrt(variance * np.mean(segment**2))
    place = int(np.argmax(correlations))
    return FoundSegment(first, place, float(correlations[place]))
