"""Held-out predictions and bootstrap scores made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import KEYS, BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.probe.results.run_folder import CONDITIONS, PREDICTION_KEYS, Predictions

CONDITION = dict.fromkeys(CONDITIONS, "")
DEFAULTS = {
    "encoder": "e",
    "probe": "ridge",
    "layer": "0",
    "target": "arousal",
    "control": "none",
    "seed": 0,
} | CONDITION


def predictions_of(
    ratings: dict[str, np.ndarray],
    columns: Sequence[tuple[dict[str, object], np.ndarray]],
    speakers: np.ndarray,
    *,
    fold: np.ndarray | None = None,
    matched: Sequence[np.ndarray] | None = None,
    gender: np.ndarray | None = None,
    corpus: np.ndarray | None = None,
) -> Predictions:
    """Return predictions with a column for each pair of keys and values; by default they are their own matched ones.

    Args:
        ratings: of each target
        columns: what differs from `DEFAULTS`, and the predictions ``(n_utterances,)``
        speakers: ``(n_utterances,)`` names
        fold: ``(n_utterances,)``, "0" for all if None
        matched: of each column
        gender: ``(n_utterances,)``, unknown if None
        corpus: ``(n_utterances,)``, unknown if None
    """
    n = len(speakers)
    known = {"gender": gender, "corpus": corpus}
    raw = np.stack([values for _, values in columns], axis=1).astype(np.float32)
    return Predictions(
        utterance_id=np.array([f"u{i}" for i in range(n)]),
        speaker_id=np.asarray(speakers).astype(str),
        fold=np.repeat("0", n) if fold is None else fold,
        targets=np.array(list(ratings)),
        ratings=np.stack(list(ratings.values()), axis=1),
        columns=pd.DataFrame([DEFAULTS | keys for keys, _ in columns])[list(PREDICTION_KEYS)],
        prediction=raw,
        matched=raw if matched is None else np.stack(list(matched), axis=1).astype(np.float32),
        **{name: values for name, values in known.items() if values is not None},
    )


def bootstrap_scores_by_hand(
    columns: Sequence[tuple[dict[str, object], Sequence[float]]], *, metric: str = "ccc_matched", n_speakers: int = 5
) -> BootstrapScores:
    """Return scores by hand: for each column its estimate, its resamples, and its scores without each speaker."""
    keys = pd.DataFrame([DEFAULTS | keys for keys, _ in columns])[KEYS]
    values = np.array([scores for _, scores in columns], dtype=float).T
    return BootstrapScores(
        metric, keys, BootstrapSample(values[0], values[1:-n_speakers], values[-n_speakers:]), n_speakers
    )
