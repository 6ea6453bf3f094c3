"""Heads of a predictor: from the pooled embeddings of one layer, or of several, to a rating with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from layerprobe.probe.metrics import MomentMatching


class Rating(NamedTuple):
    """A predicted rating in the target's own unit, with the bounds of its prediction interval."""

    value: float
    low: float  # -inf where no interval was calibrated
    high: float


@dataclass(frozen=True)
class Head:
    """A linear function of pooled embeddings that returns the ratings of one target; moment matching is part of it."""

    target: str
    layers: tuple[str, ...]  # one for the probe of a layer, all that are mixed for a weighted sum
    coefficients: np.ndarray  # (n_layers, n_poolings * dim) float64, of embeddings as they are
    intercept: float  # in the target's unit
    half_width: float = float("inf")  # of the prediction interval, in the target's unit

    def __post_init__(self) -> None:
        if self.coefficients.ndim != 2 or len(self.coefficients) != len(self.layers):
            raise ValueError(
                f"coefficients {self.coefficients.shape} are not (n_layers, n_features) of {len(self.layers)} layers"
            )

    def __call__(self, embeddings: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return ratings ``(n_utterances,)`` of the embeddings of each layer, ``(n_utterances, n_features)``."""
        parts = [embeddings[layer] @ row for layer, row in zip(self.layers, self.coefficients, strict=True)]
        return np.asarray(np.sum(parts, axis=0) + self.intercept)

    def interval(self, value: float) -> Rating:
        """Return a rating with its interval."""
        return Rating(value, value - self.half_width, value + self.half_width)


def matched_head(
    target: str, layers: Sequence[str], coefficients: np.ndarray, intercept: float, match: MomentMatching
) -> Head:
    """Return a head with moment matching in its coefficients, so that it is one linear function.

    Args:
        target: name of the rating
        layers: that the embeddings are of
        coefficients: ``(n_layers, n_features)``
        intercept: of the prediction before moment matching
        match: learnt on held-out predictions of the training speakers
    """
    return Head(target, tuple(layers), match.scale * coefficients, match.scale * intercept + match.offset)


def used_layers(heads: Sequence[Head], layers: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that any head reads, in the order of an encoder's ``layers``."""
    used = {layer for head in heads for layer in head.layers}
    return tuple(layer for layer in layers if layer in used)
