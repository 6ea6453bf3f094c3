"""What a mix of layers settled on: weights, contributions, their unrest over seeds, and how far from uniform."""

from __future__ import annotations

import numpy as np
import pandas as pd

KEYS = ["encoder", "control", "probe", "target"]


def weight_summary(weights: pd.DataFrame) -> pd.DataFrame:
    """One row per mix, target and layer.

    A weight alone is no relevance: it is a setting of a model that other starts settle otherwise, and it multiplies
    a layer of some size. So it stands beside its contribution and its unrest; the layer's own score is a score.

    Args:
        weights: tidy rows ``encoder, probe, target, control, fold, seed, layer, weight, contribution``

    Returns:
        ``weight`` and ``contribution`` (weight times norm of the layer as it is mixed, a share of all), means over
        folds and seeds, and ``weight_std`` and ``contribution_std``, the standard deviation over seeds of the
        mean over folds (NaN with one seed)
    """
    by_seed = weights.groupby([*KEYS, "layer", "seed"], sort=False)[["weight", "contribution"]].mean()
    by_layer = by_seed.groupby([*KEYS, "layer"], sort=False)
    return by_layer.mean().join(by_layer.std(ddof=1).add_suffix("_std")).reset_index()


def concentration(weights: pd.DataFrame) -> pd.DataFrame:
    """One row per mix and target: how much the weights say, in bits (Tenney et al., 2019).

    Returns:
        ``entropy``, from 0 (one layer) to log2 of the number of layers (uniform), and ``divergence`` from uniform
        (Kullback-Leibler), which adds up with it to that number; means over folds and seeds
    """
    rows = weights.assign(bits=-weights["weight"] * np.log2(weights["weight"].clip(lower=1e-300)))
    fits = rows.groupby([*KEYS, "fold", "seed"], sort=False).agg(entropy=("bits", "sum"), n=("bits", "size"))
    fits["divergence"] = (np.log2(fits["n"]) - fits["entropy"]).clip(lower=0.0)
    return fits.groupby(KEYS, sort=False)[["entropy", "divergence"]].mean().reset_index()
