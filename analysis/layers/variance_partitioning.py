"""What a layer and a source beside it each explain alone, together, and uniquely (commonality analysis)."""

from __future__ import annotations

import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.probe.results.run_folder import COVARIATES_ONLY

OF_BOTH = (
    "with_covariates",
    "unique_layer",
    "unique_covariates",
    "shared",
)  # what a layer and the source explain together, in parts
SHARES = ("layer_alone", "covariates_only", *OF_BOTH)


def variance_partition(draws: BootstrapScores) -> pd.DataFrame:
    """Shares of the ratings' variance, held-out, by layer and target, with their 95 % intervals over speakers.

    Args:
        draws: R² of a run whose layers were fitted beside another source

    Returns:
        ``encoder, target, layer`` with the R² of the layer (``layer_alone``), of the source (``covariate``) and of both
        (``joint``), and ``unique_layer`` (joint less beside), ``unique_beside`` (joint less layer) and ``shared`` (the
        rest of joint); each also with ``_ci_low`` and ``_ci_high``. Held-out shares can be a little below 0. Empty where
        nothing was fitted beside the layers.

    Raises:
        ValueError: if the draws are of another metric
    """
    if draws.metric != "r2":
        raise ValueError(f"shares of variance are differences of r2, not of {draws.metric}")
    keys = draws.keys
    rows = []
    joined = keys[(keys["probe"] == "banded_ridge") & (keys["control"] == "none")]
    for key in joined.to_dict("records"):
        of = {k: key[k] for k in ("encoder", "target", "control")}
        joint, layer = (draws.of([key["layer"]], probe=p, **of) for p in ("banded_ridge", "ridge"))
        covariate = draws.of([""], **of | {"encoder": ""}, probe="ridge", baseline=COVARIATES_ONLY)
        if joint is None or layer is None or covariate is None:
            continue
        unique_layer, unique_beside = joint - covariate, joint - layer
        shared = joint - unique_layer - unique_beside
        row = {k: key[k] for k in ("encoder", "target", "layer")}
        for name, share in zip(SHARES, (layer, covariate, joint, unique_layer, unique_beside, shared), strict=True):
            found = share.one()
            row |= {name: found.estimate, f"{name}_ci_low": found.ci_low, f"{name}_ci_high": found.ci_high}
        rows.append(row)
    ends = [f"{name}{end}" for name in SHARES for end in ("", "_ci_low", "_ci_high")]
    return pd.DataFrame(rows, columns=["encoder", "target", "layer", *ends])
