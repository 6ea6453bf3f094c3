"""Tables of layer scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.held_out import CONDITION

from layerprobe.analysis.layers.scores import best_layer, layer_scores
from layerprobe.probe.layer_names import n_blocks, relative_depth
from layerprobe.probe.metrics import CLASS_METRICS, METRIC_NAMES, METRICS


def scores(rows):
    base = {"encoder": "e", "control": "none", "probe": "ridge", "target": "t", "metric": "ccc"} | CONDITION
    return pd.DataFrame([base | dict(zip(("layer", "fold", "seed", "value"), row, strict=True)) for row in rows])


def test_pooled_scores_are_averaged_over_seeds_and_folds_give_the_range():
    table = layer_scores(
        scores([("0", "pooled", 0, 0.5), ("0", "pooled", 1, 0.7)]
               + [("0", f, s, v) for f, s, v in (("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.8), ("b", 1, 1.0))]),
        metric="ccc",
    )  # fmt: skip
    (row,) = table.to_dict("records")
    assert row["value"] == pytest.approx(0.6)  # not the mean of folds, which is 0.55
    assert (row["fold_min"], row["fold_max"]) == (pytest.approx(0.2), pytest.approx(0.9))
    assert (row["seed_min"], row["seed_max"]) == (0.5, 0.7)


def test_encoders_stay_in_the_runs_order_also_where_some_have_no_folds():
    row = {"probe": "ridge", "layer": "0", "target": "a", "control": "none", "seed": 0, "metric": "ccc", "value": 0.5}
    row |= CONDITION
    rows = [{**row, "encoder": e, "fold": f} for e in ("b", "a") for f in ("pooled", "0")]
    scores = pd.DataFrame([*rows, {**row, "encoder": "B", "fold": "pooled"}])
    assert layer_scores(scores, metric="ccc")["encoder"].tolist() == ["b", "a", "B"]


def test_an_unknown_metric_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"^no score is called 'uar'; choose one of ccc$"):
        layer_scores(scores([("0", "pooled", 0, 0.5)]), metric="uar")


def test_the_best_layer_of_an_error_is_the_lowest_and_nan_never_wins():
    values = pd.Series({"0": 0.2, "1": 0.5, "2": np.nan})
    assert best_layer(values, metric="ccc") == "1"
    assert best_layer(values, metric="rmse") == "0"


def test_depth_runs_from_the_first_block_to_the_last():
    layers = [*map(str, range(25)), "final"]
    assert n_blocks(layers) == 24
    depth = relative_depth(layers)
    assert (depth[0], depth[12], depth[24], depth[25]) == (0, 0.5, 1, 25 / 24)


def test_every_metric_of_the_sweep_has_a_name():
    assert {*METRICS, *CLASS_METRICS, "ccc_matched"} == set(METRIC_NAMES)
