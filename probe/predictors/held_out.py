"""What the probe of a head predicted for speakers that it was not fitted on, as the sweep saved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.predictors.fitting import MIXES
from layerprobe.probe.predictors.swept import SweptData
from layerprobe.probe.results.run_folder import CONDITIONS, Predictions
from layerprobe.probe.splits import speaker_groups

ALL_LAYERS = "all"  # the layer of mixes in a run


def held_out_column(swept: SweptData, predictions: Predictions, *, encoder: str, target: str, layer: str) -> int:
    """Return the column of the held-out predictions of the probe that `probe.predictors.fitting.fit_head` refits.

    Args:
        swept: of `probe.predictors.swept.read_swept`
        predictions: of the same run
        encoder: its name in the run
        target: a rating
        layer: of the encoder, or one of `MIXES`, of which the first seed counts

    Raises:
        InputError: if the sweep did not fit it
    """
    of_mix = layer in MIXES
    labels = {"encoder": encoder, "target": target, "control": "none", "probe": layer if of_mix else "ridge"}
    labels |= {"layer": ALL_LAYERS if of_mix else layer, **dict.fromkeys(CONDITIONS, "")}
    rows = predictions.columns
    for name, value in labels.items():
        rows = rows[rows[name] == value]
    if rows.empty:
        how = f"Sweep with --layer-mixes {layer}, and deploy the new run" if of_mix else "Choose a layer that has"
        raise InputError(
            "LP922",
            f"{swept.run.path} has no held-out predictions of {target} by {layer if of_mix else f'layer {layer}'} of "
            f"{encoder}, by which intervals are calibrated. {how}.",
        )
    first = int(rows["seed"].to_numpy().argmin())
    return int(rows.index.to_numpy()[first])


def held_out_errors(predictions: Predictions, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rating minus moment-matched prediction, and the number of the speaker or larger unit, of one column.

    Both are ``(n_rated,)``, of the held-out utterances that have a rating. Each utterance of an unknown speaker is a
    unit by itself.
    """
    target = predictions.columns["target"].iloc[column]
    ratings = predictions.ratings[:, list(map(str, predictions.targets)).index(target)]
    by_speaker = (predictions.unit == "").all()
    units = speaker_groups(predictions.speaker_id) if by_speaker else predictions.unit
    rated = np.isfinite(ratings)
    return (ratings - predictions.matched[:, column])[rated], np.unique(units[rated], return_inverse=True)[1]


def only_columns(predictions: Predictions, columns: Sequence[int]) -> Predictions:
    """Return the predictions of some columns, in that order."""
    return replace(
        predictions,
        columns=predictions.columns.iloc[list(columns)].reset_index(drop=True),
        prediction=predictions.prediction[:, list(columns)],
        matched=predictions.matched[:, list(columns)],
    )
