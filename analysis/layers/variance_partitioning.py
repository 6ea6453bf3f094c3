"""Variance partitioning (commonality analysis): what layers and covariates explain alone, together and uniquely."""

from __future__ import annotations

import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.probe.results.run_folder import COVARIATES_ONLY

COMPONENTS = ("with_covariates", "unique_layer", "unique_covariates", "shared")  # R² of both, and its three parts
COLUMNS = ("layer_alone", "covariates_only", *COMPONENTS)


def variance_partition(bootstrap: BootstrapScores) -> pd.DataFrame:
    """Partition the explained variance of the ratings, by layer and target, with 95 % intervals over speakers.

    Args:
        bootstrap: R² of a run whose layers were fitted with covariates

    Returns:
        ``encoder, target, layer`` with held-out R²: ``layer_alone``, ``covariates_only``, both together
        (``with_covariates``), ``unique_layer`` (with_covariates - covariates_only), ``unique_covariates``
        (with_covariates - layer_alone) and ``shared`` (with_covariates - unique_layer - unique_covariates); each also
        with ``_ci_low`` and ``_ci_high``. Held-out R² can be below 0. Empty where there were no covariates.

    Raises:
        ValueError: if the scores are of another metric
    """
    if bootstrap.metric != "r2":
        raise ValueError(f"variance partitioning needs scores of r2, not of {bootstrap.metric}")
    keys = bootstrap.keys
    rows = []
    joint = keys[(keys["probe"] == "banded_ridge") & (keys["control"] == "none")]
    for key in joint.to_dict("records"):
        labels = {k: key[k] for k in ("encoder", "target", "control")}
        both, layer = (bootstrap.of([key["layer"]], probe=p, **labels) for p in ("banded_ridge", "ridge"))
        covariates = bootstrap.of([""], **labels | {"encoder": ""}, probe="ridge", baseline=COVARIATES_ONLY)
        if both is None or layer is None or covariates is None:
            continue
        unique_layer, unique_covariates = both - covariates, both - layer
        shared = both - unique_layer - unique_covariates
        row = {k: key[k] for k in ("encoder", "target", "layer")}
        parts = (layer, covariates, both, unique_layer, unique_covariates, shared)
        for name, part in zip(COLUMNS, parts, strict=True):
            found = part.one()
            row |= {name: found.estimate, f"{name}_ci_low": found.ci_low, f"{name}_ci_high": found.ci_high}
        rows.append(row)
    ends = [f"{name}{end}" for name in COLUMNS for end in ("", "_ci_low", "_ci_high")]
    return pd.DataFrame(rows, columns=["encoder", "target", "layer", *ends])
