"""What a layer and a source beside it each explain alone, together, and uniquely."""

from __future__ import annotations

import pandas as pd

from analysis.relevance import POOLED


def variance_partition(scores: pd.DataFrame) -> pd.DataFrame:
    """Shares of the ratings' variance, held-out, by layer and target.

    Args:
        scores: tidy rows of a run whose layers were fitted beside another source

    Returns:
        ``encoder, target, layer`` with the R² of the ``layer``, of the source ``beside`` and of both (``joint``), and
        ``unique_layer`` (joint less beside), ``unique_beside`` (joint less layer) and ``shared`` (the rest of joint).
        Held-out shares can be a little below 0. Empty where nothing was fitted beside the layers.
    """
    rows = scores[(scores["metric"] == "r2") & (scores["fold"] == POOLED)]
    keys = ["encoder", "target", "layer"]
    joint = rows[(rows["probe"] == "banded_ridge") & (rows["control"] == "none")].set_index(keys)["value"]
    alone = rows[(rows["probe"] == "ridge") & (rows["control"] == "none")].set_index(keys)["value"]
    beside = rows[rows["control"] == "beside_alone"].set_index("target")["value"]
    table = pd.DataFrame({"layer_alone": alone.reindex(joint.index), "joint": joint}).reset_index()
    table["beside"] = table["target"].map(beside).astype(float)
    table["unique_layer"] = table["joint"] - table["beside"]
    table["unique_beside"] = table["joint"] - table["layer_alone"]
    table["shared"] = table["joint"] - table["unique_layer"] - table["unique_beside"]
    return table
