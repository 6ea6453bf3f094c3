"""Checks of the held-out utterances: a dominant speaker, classes of one speaker, folds of one value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.checks.records import Outcome, issue, not_applicable, passed
from layerprobe.analysis.formatting import shown_name
from layerprobe.probe.results.run_folder import Predictions
from layerprobe.probe.splits import UNKNOWN_SPEAKER

MAJORITY = 0.5  # of the held-out utterances
SHOWN = 5  # folds that a sentence names
FEW_ROWS = 2  # ratings below which a fold has no correlation


def check_dominant_speaker(speaker_id: np.ndarray, *, speakers: bool) -> Iterator[Outcome]:
    """Check whether one speaker spoke most of the held-out utterances.

    Args:
        speaker_id: of each held-out utterance, ``(n_utterances,)``
        speakers: whether the corpus names speakers
    """
    known = pd.Series(speaker_id)[speaker_id != UNKNOWN_SPEAKER].value_counts()
    if not speakers or len(known) < 2:
        yield not_applicable("The held-out utterances are not of two or more known speakers.")
    elif known.iloc[0] > MAJORITY * len(speaker_id):
        yield issue(
            f"Speaker {known.index[0]} spoke {known.iloc[0]} of the {len(speaker_id)} held-out utterances: scores and "
            "the ranking of layers are mostly those of one voice, and intervals over speakers are unreliable."
        )
    else:
        yield passed(f"No speaker spoke more than {known.iloc[0]} of the {len(speaker_id)} held-out utterances.")


def check_classes(predictions: Predictions, sweep: dict[str, Any]) -> Iterator[Outcome]:
    """Check whether a class has utterances of one speaker alone.

    Args:
        predictions: of a run
        sweep: its table ``sweep`` in plan.toml
    """
    names = list(map(str, predictions.targets))
    classes = dict(zip(sweep.get("nominal", ()), sweep.get("classes", ()), strict=True))
    shown = {target: labels for target, labels in classes.items() if target in names}
    if not shown or not sweep["speakers"]:
        yield not_applicable("The run has no target with classes and known speakers.")
        return
    found = []
    for target, labels in shown.items():
        codes = predictions.ratings[:, names.index(target)]
        found += _classes_of_one_speaker(target, labels, codes, predictions.speaker_id)
    yield from found or [passed("Every class that was held out is of several speakers.")]


def check_values(predictions: Predictions) -> Iterator[Outcome]:
    """Check whether a target has one value alone in the held-out utterances of a fold."""
    found = []
    for k, target in enumerate(map(str, predictions.targets)):
        found += _folds_of_one_value(target, predictions.ratings[:, k], predictions.fold)
    yield from found or [passed("Ratings of every target vary in the held-out utterances of every fold.")]


def _classes_of_one_speaker(
    target: str, labels: Sequence[str], codes: np.ndarray, speaker_id: np.ndarray
) -> list[Outcome]:
    found = []
    for code, label in enumerate(labels):
        speakers = np.unique(speaker_id[codes == code])
        if len(speakers) == 1 and speakers[0] != UNKNOWN_SPEAKER:
            n = int((codes == code).sum())
            found.append(
                issue(
                    f"Class {label!r} of {shown_name(target)} has {n} held-out utterance{'s' * (n > 1)}, all of "
                    f"speaker {speakers[0]}: a probe of that class can't be distinguished from one of that speaker."
                )
            )
    return found


def _folds_of_one_value(target: str, ratings: np.ndarray, fold: np.ndarray) -> list[Outcome]:
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
        issue(
            f"{shown_name(target).capitalize()} has fewer than two different values in the held-out utterances of "
            f"{named}, where a score of that fold alone means nothing. The pooled score is over all folds."
        )
    ]
