"""A layer chosen inside the training speakers, and what the usual choices of a layer give away against it.

The best of many held-out scores is a little too good. Here each fold's layer is the one with the least error on the
inner folds of its training speakers, and its predictions of the held-out speakers are joined: what a user who has to
choose will get (Cawley and Talbot, 2010).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import Estimate
from layerprobe.probe.layer_names import FINAL, is_stack, relative_depth
from layerprobe.probe.results.run_folder import CHOSEN, CONDITIONS, Predictions

DEFAULTS = ("last layer", "middle layer", "mean of all layers", "weighted sum")


def with_chosen(predictions: Predictions, chosen: pd.DataFrame) -> Predictions:
    """The same with a column for each encoder and target whose layer is ``chosen``.

    Args:
        predictions: held-out predictions of a run
        chosen: as of `probe.results.selection.chosen_layers`
    """
    columns, rows, raw, matched = predictions.columns, [], [], []
    ridge = columns[(columns["probe"] == "ridge") & (columns["control"] == "none") & (columns["train_corpus"] == "")]
    place = {(e, t, k): i for i, e, t, k in ridge[["encoder", "target", "layer"]].itertuples()}
    for (encoder, target), folds in chosen.groupby(["encoder", "target"], sort=False):
        k = np.full(len(predictions.fold), -1)
        for fold, layer in zip(folds["fold"], folds["layer"], strict=True):
            k[predictions.fold == fold] = place[encoder, target, layer]
        if (k < 0).any():
            continue
        every = np.arange(len(k))
        raw.append(predictions.prediction[every, k])
        matched.append(predictions.matched[every, k])
        label = {"encoder": encoder, "target": target, "probe": "ridge", "control": "none"} | dict.fromkeys(
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


def regrets(
    draws: BootstrapScores, *, layers: dict[str, list[str]], targets: list[str], lower_is_better: bool = False
) -> pd.DataFrame:
    """What the usual choices give away against a layer that is chosen inside the training speakers.

    Args:
        draws: of predictions `with_chosen`
        layers: for each encoder its layers in order
        targets: rated ones
        lower_is_better: whether a low score is a good one

    Returns:
        ``encoder, target, choice, layer, estimate, ci_low, ci_high, p_value``, above 0 where the usual choice is worse; where no
        layer was chosen, no rows
    """
    rows = []
    for encoder, names in layers.items():
        if not is_stack(names):
            continue
        for target in targets:
            of = {"encoder": encoder, "control": "none", "target": target}
            chosen = draws.of([CHOSEN], probe="ridge", **of)
            if chosen is None:
                continue
            for choice, probe, layer in zip(DEFAULTS, *_defaults(names), strict=True):
                usual = draws.of([layer], probe=probe, **of)
                if usual is not None:
                    lost = usual - chosen if lower_is_better else chosen - usual
                    found: Estimate = lost.one()
                    rows.append({"encoder": encoder, "target": target, "choice": choice, "layer": layer, **vars(found)})
    return pd.DataFrame(
        rows, columns=["encoder", "target", "choice", "layer", "estimate", "ci_low", "ci_high", "p_value"]
    )


def _defaults(names: list[str]) -> tuple[list[str], list[str]]:
    """Probe and layer of each of `DEFAULTS`."""
    blocks = [name for name in names if name != FINAL]
    middle = blocks[int(np.argmin(np.abs(relative_depth(blocks) - 0.5)))]
    return ["ridge", "ridge", "uniform_mix", "weighted_sum"], [names[-1], middle, "all", "all"]
