"""Weights and contributions of mixes of layers: their standard deviation over seeds, and their entropy."""

from __future__ import annotations

import numpy as np
import pandas as pd

KEYS = ["encoder", "control", "probe", "target"]


def weight_summary(weights: pd.DataFrame) -> pd.DataFrame:
    """Return one row per mix, target and layer.

    A weight alone does not measure the importance of a layer: it differs between random seeds, and it is multiplied
    with a layer of a certain norm. It is therefore given with the contribution and the standard deviations over seeds.

    Args:
        weights: tidy rows ``encoder, probe, target, control, fold, seed, layer, weight, contribution``

    Returns:
        ``weight`` and ``contribution`` (weight times the norm of the layer in the mix, as a fraction of the sum over
        layers), means over folds and seeds, and ``weight_std`` and ``contribution_std``, the standard deviations over
        seeds of the means over folds (NaN with one seed)
    """
    by_seed = weights.groupby([*KEYS, "layer", "seed"], sort=False)[["weight", "contribution"]].mean()
    by_layer = by_seed.groupby([*KEYS, "layer"], sort=False)
    return by_layer.mean().join(by_layer.std(ddof=1).add_suffix("_std")).reset_index()


def concentration(weights: pd.DataFrame) -> pd.DataFrame:
    """Return the entropy of the weights of each mix and target, in bits (Tenney et al., 2019).

    Returns:
        ``entropy``, from 0 (a single layer) to the binary logarithm of the number of layers (uniform weights), and
        ``divergence`` from uniform weights (Kullback-Leibler); the two add up to that logarithm. Means over folds and
        seeds
    """
    rows = weights.assign(bits=-weights["weight"] * np.log2(weights["weight"].clip(lower=1e-300)))
    fits = rows.groupby([*KEYS, "fold", "seed"], sort=False).agg(entropy=("bits", "sum"), n=("bits", "size"))
    fits["divergence"] = (np.log2(fits["n"]) - fits["entropy"]).clip(lower=0.0)
    return fits.groupby(KEYS, sort=False)[["entropy", "divergence"]].mean().reset_index()
