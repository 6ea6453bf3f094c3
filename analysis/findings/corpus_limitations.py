"""Limitations of the held-out utterances: one dominant speaker, classes of one speaker, folds of one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.formatting import shown_name
from layerprobe.probe.results.run_folder import Predictions
from layerprobe.probe.splits import UNKNOWN_SPEAKER

MAJORITY = 0.5  # of the held-out utterances
SHOWN = 5  # folds that a sentence names
FEW_ROWS = 2  # ratings below which a fold has no correlation


def corpus_limitations(predictions: Predictions, sweep: dict[str, Any]) -> list[str]:
    """Return what the held-out utterances can't show, as sentences.

    Args:
        predictions: of a run
        sweep: its table ``sweep`` in plan.toml
    """
    names = list(map(str, predictions.targets))
    classes = dict(zip(sweep.get("nominal", ()), sweep.get("classes", ()), strict=True))
    found = _dominant_speaker(predictions.speaker_id) if sweep["speakers"] else []
    for target, labels in classes.items():
        if target in names and sweep["speakers"]:
            codes = predictions.ratings[:, names.index(target)]
            found += _classes_of_one_speaker(target, labels, codes, predictions.speaker_id)
    for k, target in enumerate(names):
        found += _folds_of_one_value(target, predictions.ratings[:, k], predictions.fold)
    return found


def _dominant_speaker(speaker_id: np.ndarray) -> list[str]:
    known = pd.Series(speaker_id)[speaker_id != UNKNOWN_SPEAKER].value_counts()
    if known.empty or len(known) == 1 or known.iloc[0] <= MAJORITY * len(speaker_id):
        return []
    return [
        f"Speaker {known.index[0]} spoke {known.iloc[0]} of the {len(speaker_id)} held-out utterances: scores and the "
        "ranking of layers are mostly those of one voice, and intervals over speakers are unreliable."
    ]


def _classes_of_one_speaker(target: str, labels: Sequence[str], codes: np.ndarray, speaker_id: np.ndarray) -> list[str]:
    found = []
    for code, label in enumerate(labels):
        speakers = np.unique(speaker_id[codes == code])
        if len(speakers) == 1 and speakers[0] != UNKNOWN_SPEAKER:
            n = int((codes == code).sum())
            found.append(
                f"Class {label!r} of {shown_name(target)} has {n} held-out utterance{'s' * (n > 1)}, all of speaker "
                f"{speakers[0]}: a probe of that class can't be distinguished from one of that speaker."
            )
    return found


def _folds_of_one_value(target: str, ratings: np.ndarray, fold: np.ndarray) -> list[str]:
    folds = []
    for name in dict.fromkeys(fold.tolist()):
        rated = ratings[fold == name]
        rated = rated[np.isfinite(rated)]
        if len(rated) < FEW_ROWS or np.ptp(rated) == 0:
            folds.append(str(name))
    if not folds:
        return []
    more = f" and {len(folds) - SHOWN} more" if len(folds) > SHOWN else ""
    named = f"fold{'s' * (len(folds) > 1)} {', '.join(folds[:SHOWN])}{more}"
    return [
        f"{shown_name(target).capitalize()} has fewer than two different values in the held-out utterances of {named}, "
        "where a score of that fold alone means nothing. The pooled score is over all folds."
    ]
