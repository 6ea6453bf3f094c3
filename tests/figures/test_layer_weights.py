"""Weights, contributions and scores of layers: their points, error bars and scales."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable, encoder_layers, layer_names
from matplotlib.figure import Figure

from layerprobe.figures.layout.style import Look
from layerprobe.figures.plots.layer_weights import layer_weights_figure, plot_layer_weights


def table(layers, targets, *, std=0.02):
    rng = np.random.default_rng(0)
    rows = []
    for encoder, names in layers.items():
        for target in targets:
            weight, contribution = rng.dirichlet(np.ones(len(names)), size=2)
            rows += [
                {"encoder": encoder, "probe": "weighted_sum", "target": target, "layer": name, "weight": w,
                 "weight_low": w - std, "weight_high": w + 2 * std, "contribution": c, "score": s}
                for name, w, c, s in zip(names, weight, contribution, rng.uniform(-0.1, 0.6, len(names)), strict=True)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def plotted(rows, layers, quantity):
    looks = dict.fromkeys(layers, Look("blue", "o"))
    return plot_layer_weights(rows, Figure().add_subplot(), layers=layers, looks=looks, quantity=quantity)


@pytest.mark.parametrize("quantity", ["weight", "contribution", "score"])
def test_points_lie_at_the_values_and_final_is_not_joined(quantity):
    layers = {"e": layer_names(3, final=True)}
    rows = table(layers, ["arousal"])
    ax = plotted(rows, layers, quantity)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), rows[quantity][:3])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), rows[quantity][3:])
    assert ax.lines[1].get_xdata()[0] > 1.5
    bars = [path.vertices[:, 1] for c in ax.collections for path in c.get_paths()]
    if quantity == "weight":
        np.testing.assert_allclose(bars, rows[["weight_low", "weight_high"]])
    else:
        assert bars == []


def test_only_weights_have_the_uniform_line_and_it_is_at_one_over_n():
    layers = {"e": layer_names(4)}
    rows = table(layers, ["arousal"], std=np.nan)
    assert plotted(rows, layers, "weight").lines[-1].get_ydata()[0] == pytest.approx(1 / 4)
    assert len(plotted(rows, layers, "contribution").lines) == 2
    assert not [path for c in plotted(rows, layers, "weight").collections for path in c.get_paths()]


def test_final_has_no_weight_and_does_not_count_in_the_uniform_one():
    layers = {"e": layer_names(5, final=True)}
    assert layers["e"][-1] == "final"
    rows = table(layers, ["arousal"])
    ax = plotted(rows, layers, "weight")
    assert [v.get_ydata()[0] for v in ax.lines if v.get_linestyle() == "--"] == [1 / (len(layers["e"]) - 1)]


def test_encoders_of_several_sizes_are_compared_with_uniform():
    layers = {"a": layer_names(3), "b": layer_names(13)}
    rows = table(layers, ["arousal"])
    ax = plotted(rows, layers, "weight")
    values = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) in (3, 13)]
    np.testing.assert_allclose(np.concatenate(values), rows["weight"] * np.repeat([3, 13], [3, 13]))
    assert {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"} == {1.0}


def test_every_target_has_three_plots_whose_scales_are_shared():
    layers = {"e": layer_names(5)}
    targets = ["arousal", "valence"]
    rows = table(layers, targets)
    rows.loc[rows["target"] == "valence", "score"] += 1
    figure = layer_weights_figure(rows, layers=layers, targets=targets, metric="ccc")
    assert len(figure.axes) == 6
    fractions = {ax.get_ylim() for k, ax in enumerate(figure.axes) if k % 3 < 2}
    scores = {ax.get_ylim() for k, ax in enumerate(figure.axes) if k % 3 == 2}
    assert len(fractions) == len(scores) == 1
    assert [ax.get_ylabel() for ax in figure.axes[:3]] == ["weight", "contribution", "CCC"]


def test_a_note_names_the_targets_for_which_one_layer_has_over_nine_tenths():
    layers = {"e": layer_names(4)}
    rows = table(layers, ["arousal", "valence"])
    rows.loc[rows["target"] == "valence", "weight"] = [0.02, 0.02, 0.02, 0.94]
    (legend,) = layer_weights_figure(rows, layers=layers, targets=["arousal", "valence"], metric="ccc").legends
    texts = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert "one layer has over 0.9 of the weight for valence: it was selected, others were not measured" in texts


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize(("sizes", "targets"), [((3,), TARGETS[0]), ((25,), TARGETS[1]), ((3, 13, 49), TARGETS[2])])
def test_no_text_lies_over_another(width, sizes, targets):
    layers = encoder_layers(*sizes) if len(sizes) > 1 else {"e": layer_names(*sizes, final=True)}
    figure = layer_weights_figure(
        table(layers, targets), layers=layers, targets=list(targets), metric="ccc_matched", width=width
    )
    assert_readable(figure, width)
