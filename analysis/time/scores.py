"""Scores of layers in bins of time, all in the same bootstrap resamples of the speakers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.probe.results.run_folder import Predictions
from layerprobe.probe.splits import speaker_groups


def bin_bootstrap(predictions: Predictions, *, metric: str) -> BootstrapScores | None:
    """Score every layer in every bin in resamples of all speakers, whichever bins they reach; None without a column.

    An utterance without a span in a bin, whose prediction there is NaN, is left out of the bin's columns. Speakers
    without any utterance in a bin do not count for its intervals.

    Args:
        predictions: columns of bins, with ``bin`` among their keys
        metric: as of `bootstrap_scores`
    """
    columns, parts = predictions.columns, []
    own = columns[(columns["probe"] == "ridge") & (columns["control"] == "none")]
    for _, rows in own.groupby(["encoder", "bin"], sort=False):
        chosen = rows.index.to_numpy()
        has_span = np.isfinite(predictions.prediction[:, chosen]).any(axis=1)
        part = replace(
            predictions,
            columns=rows.reset_index(drop=True),
            prediction=predictions.prediction[:, chosen],
            matched=predictions.matched[:, chosen],
            ratings=np.where(has_span[:, None], predictions.ratings, np.nan),
        )
        found = bootstrap_scores(part, metric=metric)
        if len(found.keys):
            parts.append(found)
    if not parts:
        return None
    names = ("estimate", "resamples", "left_out", "counted")
    joined = BootstrapSample(*(np.concatenate([getattr(p.scores, name) for p in parts], axis=-1) for name in names))
    return replace(parts[0], keys=pd.concat([p.keys for p in parts], ignore_index=True), scores=joined)


def bin_counts(predictions: Predictions) -> pd.DataFrame:
    """Return how many rated utterances and speakers each bin has.

    Returns:
        ``encoder, target, bin, n_utterances, n_speakers``
    """
    columns, ratings = predictions.columns, np.isfinite(predictions.ratings)
    column_of = {str(name): k for k, name in enumerate(predictions.targets)}
    own = columns[(columns["probe"] == "ridge") & (columns["control"] == "none")]
    groups, rows = speaker_groups(predictions.speaker_id), []
    for (encoder, target, name), part in own.groupby(["encoder", "target", "bin"], sort=False):
        counted = np.isfinite(predictions.prediction[:, part.index[0]]) & ratings[:, column_of[str(target)]]
        sizes = {"n_utterances": int(counted.sum()), "n_speakers": len(np.unique(groups[counted]))}
        rows.append({"encoder": encoder, "target": target, "bin": name, **sizes})
    return pd.DataFrame(rows, columns=["encoder", "target", "bin", "n_utterances", "n_speakers"])
