"""Covariates: features that each layer is fitted with, for joint scores and the variance that is unique to a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.schema import TRANSCRIPT
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.sweep.data.inputs import SweepDataset, row_indices, transcripts
from layerprobe.probe.sweep.data.provenance import describe_cache
from layerprobe.probe.tasks.bag_of_words import WORD_FEATURES, word_counts


@dataclass(frozen=True)
class LayerCovariate:
    """One layer of a cache as a covariate of every layer under study."""

    cache: Cache
    layer: str

    @property
    def name(self) -> str:
        """The encoder and the layer."""
        return f"{self.cache.plan.upstream.rsplit('/', 1)[-1]} {self.layer}"

    @property
    def caches(self) -> list[Cache]:
        """The caches that must hold an utterance."""
        return [self.cache]

    def features(self, dataset: SweepDataset) -> np.ndarray:
        """Return the layer's embeddings, ``(n_utterances, n_features)``."""
        return self.cache.read_layer(self.layer, row_indices(self.cache, dataset))

    def to_toml(self) -> dict[str, Any]:
        """Return the covariate's table in plan.toml."""
        return {**describe_cache(self.cache, self.name), "layer": self.layer}


@dataclass(frozen=True)
class TranscriptCovariate:
    """The bag of words of the manifest's transcripts (`probe.tasks.bag_of_words`) as a covariate of every layer."""

    @property
    def name(self) -> str:
        """The name on the command line."""
        return TRANSCRIPT

    @property
    def caches(self) -> list[Cache]:
        """None: the transcripts are in the manifest."""
        return []

    def features(self, dataset: SweepDataset) -> np.ndarray:
        """Return counts, ``(n_utterances, n_features)``; zeros where an utterance has no transcript.

        Raises:
            InputError: if no utterance has one
        """
        texts = transcripts(dataset)
        if texts is None:
            raise InputError(
                "LP540", f"No utterance has a {TRANSCRIPT} to be a covariate of the layers. Leave --covariate out."
            )
        return word_counts(texts)

    def to_toml(self) -> dict[str, Any]:
        """Return the covariate's table in plan.toml."""
        return {"name": self.name, "features": f"bag of words and word pairs, counted into {WORD_FEATURES} by CRC-32"}


Covariate = LayerCovariate | TranscriptCovariate


def parse_covariate(name: str) -> Covariate:
    """Return the covariate that ``CACHE@LAYER`` or ``transcript`` names.

    Raises:
        InputError: if there is no such cache or layer
    """
    if name == TRANSCRIPT:
        return TranscriptCovariate()
    path, _, layer = name.rpartition("@")
    if not path:
        raise InputError("LP541", f"{name!r} names no layer. Write CACHE.zarr@LAYER, or {TRANSCRIPT}.")
    cache = open_cache(path)
    if layer not in cache.plan.layers:
        raise InputError("LP541", f"{path} has no layer {layer!r}; it has {', '.join(cache.plan.layers)}.")
    return LayerCovariate(cache, layer)
