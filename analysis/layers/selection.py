"""Selection of a layer by cross-validation inside the training speakers, and the loss of default choices.

The maximum of many held-out scores is optimistic. Here the layer of each fold is the one with the lowest error on the
inner folds of its training speakers, and the predictions of the held-out speakers are joined over folds. Their score is
what a user who has to select a layer can expect (Cawley and Talbot, 2010).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import Estimate
from layerprobe.probe.layer_names import FINAL, is_stack, relative_depth
from layerprobe.probe.results.run_folder import CHOSEN, CONDITIONS, Predictions, is_plain

SELECTED_PROBES = ("ridge", "logistic")  # logistic regression is scored on the layer that ridge regression selected
DEFAULTS = ("last layer", "middle layer", "mean of all layers", "weighted sum")


def with_chosen(predictions: Predictions, chosen: pd.DataFrame) -> Predictions:
    """Return the predictions with a column ``cv_selected`` for each encoder and target whose layer was selected.

    A target with classes has one of logistic regression, too, where that was fitted.

    Args:
        predictions: held-out predictions of a run
        chosen: the selected layers, as `probe.results.selection.chosen_layers` returns them
    """
    columns, rows, raw, matched = predictions.columns, [], [], []
    own = columns[columns["probe"].isin(SELECTED_PROBES) & (columns["control"] == "none")]
    own = own[(own["train_corpus"] == "") & is_plain(own)]
    index = {(p, e, t, k): i for i, p, e, t, k in own[["probe", "encoder", "target", "layer"]].itertuples()}
    wanted = [
        (probe, encoder, target, folds)
        for (encoder, target), folds in chosen.groupby(["encoder", "target"], sort=False)
        for probe in SELECTED_PROBES
    ]
    for probe, encoder, target, folds in wanted:
        k, rated = np.full(len(predictions.fold), -1), _rated(predictions, str(target))
        for fold, layer in zip(folds["fold"], folds["layer"], strict=True):
            k[predictions.fold == fold] = index.get((probe, encoder, target, layer), -1)
        if (k[rated] < 0).any():
            continue
        every = np.arange(len(k))
        raw.append(np.where(k < 0, np.nan, predictions.prediction[every, k]))
        matched.append(np.where(k < 0, np.nan, predictions.matched[every, k]))
        label = {"encoder": encoder, "target": target, "probe": probe, "control": "none"} | dict.fromkeys(
            CONDITIONS, ""
        )
        rows.append({**label, "layer": CHOSEN, "seed": 0})
    if not rows:
        return predictions
    return replace(
        predictions,
        columns=pd.concat([columns, pd.DataFrame(rows)[list(columns)]], ignore_index=True),
        prediction=np.column_stack([predictions.prediction, *raw]),
        matched=np.column_stack([predictions.matched, *matched]),
    )


def _rated(predictions: Predictions, target: str) -> np.ndarray:
    """Return which utterances have a rating of a target, ``(n_utterances,)`` bool."""
    (column,) = np.flatnonzero(predictions.targets == target)
    return np.asarray(np.isfinite(predictions.ratings[:, column]))


def regrets(
    bootstrap: BootstrapScores, *, layers: dict[str, list[str]], targets: list[str], lower_is_better: bool = False
) -> pd.DataFrame:
    """Return the loss of default choices of a layer, compared with the layer selected by cross-validation.

    Args:
        bootstrap: scores of predictions `with_chosen`
        layers: for each encoder its layers in order
        targets: rated targets
        lower_is_better: whether the metric is an error

    Returns:
        ``encoder, target, choice, layer, estimate, ci_low, ci_high, p_value``; ``layer`` is that of the default choice,
        and the estimate is above 0 where the default is worse. Targets without a selected layer have no rows
    """
    rows = []
    for encoder, names in layers.items():
        if not is_stack(names):
            continue
        for target in targets:
            labels = {"encoder": encoder, "control": "none", "target": target}
            chosen = bootstrap.of([CHOSEN], probe="ridge", **labels)
            if chosen is None:
                continue
            for choice, probe, layer in zip(DEFAULTS, *_defaults(names), strict=True):
                default = bootstrap.of([layer], probe=probe, **labels)
                if default is not None:
                    loss = default - chosen if lower_is_better else chosen - default
                    found: Estimate = loss.one()
                    rows.append({"encoder": encoder, "target": target, "choice": choice, "layer": layer, **vars(found)})
    return pd.DataFrame(
        rows, columns=["encoder", "target", "choice", "layer", "estimate", "ci_low", "ci_high", "p_value"]
    )


def _defaults(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the probes and the layers of `DEFAULTS`."""
    blocks = [name for name in names if name != FINAL]
    middle = blocks[int(np.argmin(np.abs(relative_depth(blocks) - 0.5)))]
    return ["ridge", "ridge", "uniform_mix", "weighted_sum"], [names[-1], middle, "all", "all"]
