"""The layer of each fold, chosen without the speakers that the fold holds out."""

from __future__ import annotations

import pandas as pd

from layerprobe.probe.results.score_table import is_plain

INNER_ERROR = "inner_cv_rmse"  # the metric of a fit's error on the inner folds of its training speakers


def chosen_layers(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the layer of each fold with the least inner error, ``encoder, target, fold, layer``; may be empty."""
    rows = scores[(scores["metric"] == INNER_ERROR) & (scores["probe"] == "ridge") & (scores["control"] == "none")]
    rows = rows[(rows["train_corpus"] == "") & (rows["baseline"] == "") & is_plain(rows)]
    if rows.empty:
        return pd.DataFrame(columns=["encoder", "target", "fold", "layer"])
    least = rows.loc[rows.groupby(["encoder", "target", "fold"], sort=False)["value"].idxmin()]
    return least[["encoder", "target", "fold", "layer"]].reset_index(drop=True)
