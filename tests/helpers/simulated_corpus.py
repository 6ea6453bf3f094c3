"""Corpora whose truth is known: speakers who differ, layers that predict a rating more or less well."""

from __future__ import annotations

import numpy as np
import pandas as pd
from helpers.held_out import CONDITION

from layerprobe.probe.results.run_folder import Predictions


def simulated(
    rng: np.random.Generator,
    noise: dict[str, list[float]],
    *,
    n_speakers: int = 40,
    each: int = 12,
    control: str = "none",
    probe: str = "ridge",
) -> Predictions:
    """Predictions of layers that are ratings with more or less noise, part of which is the speaker's own.

    Args:
        rng: of ratings and errors
        noise: for each target the standard deviation of each layer's noise; ratings have 1.4
        n_speakers: number of speakers
        each: utterances of each speaker
        control: the columns' control
        probe: the columns' probe
    """
    groups = np.repeat(np.arange(n_speakers), each)
    n = len(groups)
    level = rng.normal(size=(n_speakers, len(noise)))[groups]
    ratings = 4 + level + rng.normal(size=(n, len(noise)))
    columns, values = [], []
    for t, (target, of_layers) in enumerate(noise.items()):
        shared = 0.5 * rng.normal(size=n_speakers)[groups] + 0.3 * rng.normal(size=n)  # layers have errors in common
        for layer, size in enumerate(of_layers):
            own = 0.7 * rng.normal(size=n_speakers)[groups] + 0.7 * rng.normal(size=n)
            values.append(ratings[:, t] + shared + size * own)
            key = {"encoder": "e", "probe": probe, "layer": str(layer), "target": target, "control": control, "seed": 0}
            columns.append(key | CONDITION)
    prediction = np.stack(values, axis=1).astype(np.float32)
    return Predictions(
        utterance_id=np.array([f"u{i}" for i in range(n)]),
        speaker_id=np.array([f"s{g:03d}" for g in groups]),
        fold=np.array([str(g % 5) for g in groups]),
        targets=np.array(list(noise)),
        ratings=ratings,
        columns=pd.DataFrame(columns),
        prediction=prediction,
        matched=prediction,
        gender=np.array(["f" if g % 2 else "m" for g in groups]),
        corpus=np.full(n, ""),
    )
