"""The curves by their properties: lines at the scores, ribbons at the folds, controls in the same axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable, encoder_layers, layer_names
from helpers.held_out import CONDITION
from matplotlib.figure import Figure

from layerprobe.figures.layout.style import Look
from layerprobe.figures.plots.curves import curves_figure, plot_layer_curves


def table(layers, target="arousal", encoder="e"):
    rows = [
        {"encoder": encoder, "control": c, "probe": "ridge", "target": target, "layer": name, "value": base + k / 10,
         "fold_min": base + k / 10 - 0.1, "fold_max": base + k / 10 + 0.2, "draw_min": -1, "draw_max": 1,
         "ci_low": np.nan, "ci_high": np.nan, "interval": "", **CONDITION}
        for c, base in (("none", 0.3), ("random_init", 0.1), ("permuted", 0.0))
        for k, name in enumerate(layers)
    ]  # fmt: skip
    mix = rows[0] | {"probe": "weighted_sum", "layer": "all", "value": 0.55}
    return pd.DataFrame([*rows, mix])


def plotted(rows, layers, metric="ccc"):
    looks = dict.fromkeys(layers, Look("blue", "o"))
    return plot_layer_curves(rows, Figure().add_subplot(), layers=layers, looks=looks, metric=metric)


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_lines_and_ribbons_lie_at_the_scores():
    layers = layer_names(3)
    ax = plotted(table(layers), {"e": layers})
    named = lines(ax)
    np.testing.assert_allclose(named["e (ribbon: range over folds)"].get_xydata(), [[0, 0.3], [0.5, 0.4], [1, 0.5]])
    np.testing.assert_allclose(named["e, random weights"].get_ydata(), [0.1, 0.2, 0.3])
    np.testing.assert_allclose(named["permuted ratings (band: permutations)"].get_ydata(), [0, 0.1, 0.2])
    assert set(named["e, weighted sum of layers"].get_ydata()) == {0.55}
    ribbon = ax.collections[0].get_paths()[0].vertices
    assert (ribbon[:, 1].min(), ribbon[:, 1].max()) == (0.3 - 0.1, 0.5 + 0.2)


def test_final_is_separate_and_is_not_joined():
    layers = layer_names(3, final=True)
    ax = plotted(table(layers), {"e": layers})
    assert len(lines(ax)["e (ribbon: range over folds)"].get_xdata()) == 3
    (point,) = [line for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(point.get_xydata(), [[1.5, 0.6]])


def test_features_without_depth_are_a_line_at_the_best_of_them():
    layers = {"e": layer_names(3), "acoustic": ["log_mel", "f0", "duration"]}
    rows = pd.concat([table(names, encoder=encoder) for encoder, names in layers.items()])
    for metric, best in (("ccc", 0.5), ("rmse", 0.3)):
        named = lines(plotted(rows, layers, metric))
        assert set(named["acoustic, best feature"].get_ydata()) == {best}
        assert not [name for name in named if name.startswith("acoustic (ribbon")]


def test_each_target_has_a_panel_and_all_have_one_scale():
    layers = {"a": layer_names(3), "b": layer_names(5, final=True)}
    rows = pd.concat([table(n, target, e) for e, n in layers.items() for target in ("arousal", "valence")])
    figure = curves_figure(rows, layers=layers, targets=["arousal", "valence"], metric="ccc")
    assert [ax.get_title("left") for ax in figure.axes] == ["arousal", "valence"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == len(set(labels))
    assert "final (after the final norm)" in labels


def test_chance_is_ratings_permuted_by_speaker_where_a_run_has_them():
    layers = layer_names(3)
    rows = table(layers)
    by_speaker = rows[rows["control"] == "permuted"].assign(control="permuted_by_speaker")
    by_speaker["value"] += 0.05
    named = lines(plotted(pd.concat([rows, by_speaker]), {"e": layers}))
    assert "permuted ratings (band: permutations)" not in named
    chance = named["ratings permuted by speaker (band: permutations)"]
    np.testing.assert_allclose(chance.get_ydata(), [0.05, 0.15, 0.25])


def test_what_only_one_target_has_is_in_the_legend():
    layers = {"e": layer_names(3)}
    rows = pd.concat([table(layers["e"], target) for target in ("arousal", "valence")])
    rater = rows.iloc[:1].assign(encoder="", probe="baseline", baseline="single_rater", target="valence")
    figure = curves_figure(pd.concat([rows, rater]), layers=layers, targets=["arousal", "valence"], metric="ccc")
    assert "one rater against the others" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize(
    ("sizes", "targets"), [((3,), TARGETS[0]), ((49,), TARGETS[1]), ((3, 13, 25), TARGETS[2]), ((7, 25), TARGETS[1])]
)
def test_no_text_lies_over_another_and_the_legend_over_no_axes(width, sizes, targets):
    layers = encoder_layers(*sizes)
    rows = pd.concat([table(names, target, e) for e, names in layers.items() for target in targets])
    rows["interval"] = "bca_95_speakers"
    controls = ("single_rater", "text_only", "duration_loudness")
    levels = [rows.iloc[:1].assign(encoder="", probe="baseline", baseline=c) for c in controls]
    rows = pd.concat([rows, *levels])
    figure = curves_figure(rows, layers=layers, targets=list(targets), metric="uar", width=width)
    assert_readable(figure, width)
    assert max(sum(abs(ax.get_position().y0 - other.get_position().y0) < 1e-6 for other in figure.axes)
               for ax in figure.axes) <= 4  # fmt: skip
