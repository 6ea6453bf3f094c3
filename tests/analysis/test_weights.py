"""Weights with contributions and variability over seeds; entropy and divergence by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from layerprobe.analysis.layers.weights import concentration, single_layers, weight_summary


def table(by_seed):
    """Rows of one fold; ``by_seed`` holds the weights of each seed."""
    label = {"encoder": "e", "control": "none", "probe": "weighted_sum", "target": "arousal", "fold": "0"}
    return pd.DataFrame(
        [
            {
                **label,
                "seed": seed,
                "layer": str(k),
                "weight": w,
                "contribution": w * (k + 1),
                "low": w / 2,
                "high": 1.0,
            }
            for seed, weights in enumerate(by_seed)
            for k, w in enumerate(weights)
        ]
    )


def test_entropy_and_divergence_are_those_by_hand():
    (row,) = concentration(table([[0.5, 0.25, 0.25, 0.0]])).to_dict("records")
    assert row["entropy"] == pytest.approx(1.5)
    assert row["divergence"] == pytest.approx(0.5)
    (row,) = concentration(table([[0.25] * 4, [1.0, 0, 0, 0]])).to_dict("records")
    assert (row["entropy"], row["divergence"]) == pytest.approx((1.0, 1.0))


def test_a_weight_has_its_contribution_and_its_variability_over_seeds():
    summary = weight_summary(table([[0.2, 0.8], [0.4, 0.6]])).set_index("layer")
    assert summary["weight"].to_dict() == pytest.approx({"0": 0.3, "1": 0.7})
    assert summary["contribution"].to_dict() == pytest.approx({"0": 0.3, "1": 1.4})
    assert summary["weight_std"].to_dict() == pytest.approx({"0": np.sqrt(0.02), "1": np.sqrt(0.02)})
    assert summary.loc["1", "contribution_std"] == pytest.approx(2 * np.sqrt(0.02))


def test_folds_are_averaged_before_seeds_are_compared():
    rows = pd.concat([table([[0.2, 0.8], [0.2, 0.8]]), table([[0.4, 0.6], [0.4, 0.6]]).assign(fold="1")])
    assert weight_summary(rows)["weight_std"].max() == pytest.approx(0, abs=1e-12)


def test_folds_have_a_standard_deviation_and_intervals_are_means_over_fits():
    rows = pd.concat([table([[0.2, 0.8]]), table([[0.4, 0.6]]).assign(fold="1")])
    summary = weight_summary(rows).set_index("layer")
    assert summary["weight_fold_std"].to_dict() == pytest.approx({"0": np.sqrt(0.02), "1": np.sqrt(0.02)})
    assert summary["weight_low"].to_dict() == pytest.approx({"0": 0.15, "1": 0.35})
    assert summary["weight_high"].to_dict() == pytest.approx({"0": 1.0, "1": 1.0})
    assert weight_summary(table([[0.2, 0.8]]).assign(low=np.nan, high=np.nan))["weight_low"].isna().all()


def test_a_mix_is_named_where_one_layer_has_over_nine_tenths_of_the_weight():
    assert single_layers(table([[0.1, 0.9]])).empty
    (row,) = single_layers(table([[0.1, 0.9], [0.02, 0.98]])).to_dict("records")
    assert (row["layer"], row["target"], row["weight"]) == ("1", "arousal", pytest.approx(0.94))
