"""Weights and contributions of mixes of layers: how much they vary, and their entropy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.probe.layer_names import FINAL

KEYS = ["encoder", "control", "probe", "target"]
WEIGHT_DEVIATIONS = ("weight_std", "contribution_std", "weight_fold_std", "weight_low", "weight_high")  # of a summary
SINGLE = 0.9  # weight of one layer from which a mix is little else than that layer


def weight_summary(weights: pd.DataFrame) -> pd.DataFrame:
    """Return one row per mix, target and layer.

    A weight alone does not measure the importance of a layer: what several layers carry can be taken from any of them,
    and a weight is multiplied with something of a certain size. It is therefore given with the contribution, and with
    how much it varies.

    Args:
        weights: tidy rows ``encoder, probe, target, control, fold, seed, layer, weight, contribution, low, high``

    Returns:
        ``weight`` and ``contribution`` (weight times the size of what it is multiplied with, as a fraction of the sum
        over layers), means over folds and seeds; ``weight_std`` and ``contribution_std``, the standard deviations over
        seeds of the means over folds (NaN with one seed); ``weight_fold_std``, the standard deviation over folds of the
        means over seeds (NaN with one fold); and ``weight_low`` and ``weight_high``, the means over folds and seeds of
        the 95 % interval over the training speakers (NaN for mixes without)
    """
    by_seed = weights.groupby([*KEYS, "layer", "seed"], sort=False)[["weight", "contribution"]].mean()
    by_layer = by_seed.groupby([*KEYS, "layer"], sort=False)
    by_fold = weights.groupby([*KEYS, "layer", "fold"], sort=False)["weight"].mean()
    between = by_fold.groupby([*KEYS, "layer"], sort=False).std(ddof=1).rename("weight_fold_std")
    interval = weights.groupby([*KEYS, "layer"], sort=False)[["low", "high"]].mean().add_prefix("weight_")
    parts = [by_layer.mean(), by_layer.std(ddof=1).add_suffix("_std"), between, interval]
    return pd.concat(parts, axis=1).reset_index()


def weights_with_scores(weights: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of the weighted sum with each layer's own score; ``final`` has a score alone.

    Args:
        weights: as of `weight_summary`; may be empty
        table: of the study, with the ridge score of each layer as ``value``
    """
    summary = weight_summary(weights) if len(weights) else weights.assign(**dict.fromkeys(WEIGHT_DEVIATIONS, 0.0))
    summary = summary[(summary["control"] == "none") & (summary["probe"] == "weighted_sum")]
    ridge = table[(table["probe"] == "ridge") & (table["control"] == "none")]
    scores = ridge[["encoder", "target", "layer", "value"]].rename(columns={"value": "score"})
    merged: pd.DataFrame = summary.merge(scores, how="left", on=["encoder", "target", "layer"])
    final = scores[scores["layer"] == FINAL]
    if summary.empty or final.empty:
        return merged
    final = final.merge(summary[KEYS].drop_duplicates(), on=["encoder", "target"])
    return pd.concat([merged, final], ignore_index=True)


def single_layers(weights: pd.DataFrame) -> pd.DataFrame:
    """Return the mixes in which one layer has a weight above `SINGLE`, mean over folds and seeds.

    Args:
        weights: as of `weight_summary`

    Returns:
        ``encoder, control, probe, target, layer, weight`` of that layer
    """
    means = weights.groupby([*KEYS, "layer"], sort=False)["weight"].mean().reset_index()
    return means[means["weight"] > SINGLE].reset_index(drop=True)


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
