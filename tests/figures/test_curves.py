"""The curves by their properties: lines at the scores, ribbons at the folds, controls in the same axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable, encoder_layers, layer_names
from helpers.held_out import CONDITION
from matplotlib.figure import Figure

from layerprobe.figures.layout.mark_ids import Mark, parse_mark_id
from layerprobe.figures.layout.side_labels import spaced
from layerprobe.figures.layout.style import Look
from layerprobe.figures.plots.curves import curves_figure, plot_layer_curves
from layerprobe.figures.plots.references import BASELINES


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
    looks, ax = dict.fromkeys(layers, Look("blue", "o")), Figure().add_subplot()
    plot_layer_curves(rows, ax, layers=layers, looks=looks, metric=metric)
    return ax


def bands(ax):
    """Lower and upper end of each band of chance."""
    return [(p.get_y(), p.get_y() + p.get_height()) for p in ax.patches if p.get_label() == "chance"]


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_lines_and_ribbons_lie_at_the_scores():
    layers = layer_names(3)
    ax = plotted(table(layers), {"e": layers})
    named = lines(ax)
    np.testing.assert_allclose(named["e (ribbon: range over folds)"].get_xydata(), [[0, 0.3], [0.5, 0.4], [1, 0.5]])
    np.testing.assert_allclose(named["e, random initialisation"].get_ydata(), [0.1, 0.2, 0.3])
    assert bands(ax) == [(-1, 1)]
    assert set(named["e, weighted sum"].get_ydata()) == {0.55}
    ribbon = ax.collections[0].get_paths()[0].vertices
    assert (ribbon[:, 1].min(), ribbon[:, 1].max()) == (0.3 - 0.1, 0.5 + 0.2)


def test_final_is_separate_and_is_not_joined():
    layers = layer_names(3, final=True)
    ax = plotted(table(layers), {"e": layers})
    assert len(lines(ax)["e (ribbon: range over folds)"].get_xdata()) == 3
    points = {parse_mark_id(line.get_gid()): line for line in ax.lines if (line.get_gid() or "").startswith("point-")}
    assert [mark.layer for mark in points] == [*layers]
    assert {mark.target for mark in points} == {"arousal"}
    np.testing.assert_allclose(points[Mark("e", "none", "arousal", "final")].get_xydata(), [[1.5, 0.6]])


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


def test_the_band_of_chance_ends_at_the_highest_chance_level_of_the_encoders():
    layers = {"a": layer_names(3), "b": layer_names(3)}
    rows = pd.concat([table(layers[e], encoder=e).assign(chance=chance) for e, chance in (("a", 0.1), ("b", 0.2))])
    assert bands(plotted(rows, layers)) == [(-1, pytest.approx(0.2))]
    ((low, high),) = bands(plotted(rows, layers, "rmse"))
    assert (low, high) == pytest.approx((0.1, 1))  # of an error, chance is the lowest on permuted ratings
    assert bands(plotted(rows[rows["control"] == "none"], layers)) == []


def test_every_line_has_a_direct_label_in_its_colour_or_an_entry_of_the_legend():
    layers = {"hubert": layer_names(3), "acoustic": ["f0", "loudness"]}
    rows = pd.concat([table(n, target, e) for e, n in layers.items() for target in ("arousal", "valence")])
    levels = [rows.iloc[:1].assign(encoder="", probe="baseline", baseline=b, target=t, value=0.2) for b, t in
              (("text_only", "valence"), ("single_rater", "arousal"))]  # fmt: skip
    rows = pd.concat([rows, *levels])
    looks = {"hubert": Look("red", "o"), "acoustic": Look("blue", "s")}
    figure = curves_figure(rows, layers=layers, targets=["arousal", "valence"], metric="ccc", looks=looks)
    labels = {t.get_text().replace("\n", " "): t.get_color() for t in figure.axes[-1].texts}
    assert set(labels) == {"hubert", "random init.", "acoustic: best feature", "chance", "text"}
    assert (labels["hubert"], labels["random init."], labels["acoustic: best feature"]) == ("red", "red", "blue")
    assert "one rater" in [text.get_text() for text in figure.legends[0].get_texts()]  # which valence does not have
    assert not figure.axes[0].texts


def test_there_are_at_most_four_line_styles():
    layers = {"a": layer_names(3), "b": layer_names(5, final=True), "acoustic": ["f0", "loudness"]}
    rows = pd.concat([table(names, encoder=e) for e, names in layers.items()])
    levels = [rows.iloc[:1].assign(encoder="", probe="baseline", baseline=name) for name in BASELINES]
    ax = plotted(pd.concat([rows, *levels]), layers)
    joined = [line for line in ax.lines if line.get_linestyle() != "None"]
    assert len({str(line._unscaled_dash_pattern) for line in joined}) == 4


def test_ticks_under_the_axis_are_the_best_set_of_encoders_above_chance():
    layers = {"a": layer_names(3), "b": layer_names(3)}
    rows = pd.concat([table(layers[e], encoder=e).assign(chance=chance) for e, chance in (("a", 0.35), ("b", 0.9))])
    rows["in_best_set"] = (rows["control"] == "none") & rows["layer"].isin(["1", "2"])
    (marks,) = [line for line in plotted(rows, layers).lines if line.get_gid() == "best-set"]
    np.testing.assert_allclose(marks.get_xdata(), [0.5, 1.0])


def test_labels_are_as_close_to_their_lines_as_they_can_be_without_overlap():
    heights = np.array([1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(
        spaced(np.array([5.0, 5.0, 5.2, 9.0]), heights, 0, 10), [4.07, 5.07, 6.07, 9.0], atol=0.01
    )
    np.testing.assert_allclose(spaced(np.array([0.0, 0.0]), heights[:2], 0, 10), [0.5, 1.5])
    found = spaced(np.array([3.0, 1.0, 2.0]), heights[:3], 0, 3)
    np.testing.assert_allclose(found, [2.5, 0.5, 1.5])


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
