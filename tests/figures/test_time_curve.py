"""Curves over time: lines and intervals lie where the numbers are, and grey is what is not above chance."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.figure_checks import layer_names
from helpers.time_tables import CHANCE, label_bins, position_bins, time_table
from matplotlib.figure import Figure

from layerprobe.figures.plots.time_curve import BEST, FIRST, LAST, plot_time_curve, time_curve_figure

BINS, LAYERS = position_bins(5), layer_names(6)


def panel(table, bins=BINS, layers=LAYERS, metric="ccc_matched"):
    ax = Figure().add_subplot()
    return ax, plot_time_curve(table, ax, bins=bins, layers=layers, metric=metric)


def line_of(ax, name):
    (line,) = [line for line in ax.lines if line.get_label() == name]
    return line


def test_lines_are_the_first_the_highest_scoring_and_the_last_layer():
    table = time_table(BINS, {"e": LAYERS}, ["arousal"])
    ax, shown = panel(table)
    best = table.loc[table["value"].idxmax(), "layer"]
    assert shown == {BEST: best, FIRST: "0", LAST: "5"}
    for name, layer in shown.items():
        rows = table[table["layer"] == layer]
        np.testing.assert_allclose(line_of(ax, name).get_ydata(), rows["value"])
        np.testing.assert_allclose(line_of(ax, name).get_xdata(), [10, 30, 50, 70, 90])
    ribbons = [c for c in ax.collections if c.get_gid() != "chance"]
    low = table.loc[table["layer"] == best, "ci_low"]
    assert min(path.vertices[:, 1].min() for path in ribbons[-1].get_paths()) == pytest.approx(low.min())


def test_a_layer_that_is_both_first_and_best_is_plotted_once():
    table = time_table(BINS, {"e": LAYERS}, ["arousal"])
    table.loc[table["layer"] == "0", "value"] += 1
    assert panel(table)[1] == {BEST: "0", LAST: "5"}
    features = table[table["layer"].isin(["0", "1"])].replace({"layer": {"0": "egemaps", "1": "f0"}})
    assert panel(features, layers=["egemaps", "f0"])[1] == {BEST: "egemaps"}


def test_a_missing_bin_is_a_gap_in_the_line():
    table = time_table(BINS, {"e": LAYERS}, ["arousal"])
    ax, _ = panel(table[table["bin"] != BINS.names[2]])
    assert np.isnan(line_of(ax, FIRST).get_ydata()[2])


@pytest.mark.parametrize(("metric", "below"), [("ccc_matched", True), ("rmse", False)])
def test_grey_is_on_the_side_of_the_level_that_is_not_above_chance(metric, below):
    table = time_table(BINS, {"e": LAYERS}, ["arousal"])
    ax, _ = panel(table, metric=metric)
    bands = [c.get_paths()[0].vertices[:, 1] for c in ax.collections if c.get_gid() == "chance"]
    assert len(bands) == 5
    assert all((band.max() if below else band.min()) == pytest.approx(CHANCE) for band in bands)
    assert ax.get_ylim()[0] > -1
    assert ax.get_ylim()[1] < 2


def test_labels_are_points_with_bars_and_no_line():
    bins = label_bins("noun", "particle", "other")
    ax, shown = panel(time_table(bins, {"e": LAYERS}, ["arousal"]), bins=bins)
    assert {line_of(ax, name).get_linestyle() for name in shown} == {"None"}
    at = [line_of(ax, name).get_xdata()[1] for name in shown]
    assert len(set(np.round(at, 6))) == 3  # next to each other
    assert np.mean(at) == pytest.approx(1)


def test_panels_have_one_scale_and_name_their_highest_scoring_layer():
    table = time_table(BINS, {"e": LAYERS}, ["arousal", "valence"])
    figure = time_curve_figure(
        table, bins=BINS, layers={"e": LAYERS}, targets=["arousal", "valence"], metric="ccc_matched"
    )
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    for ax, target in ((first, "arousal"), (second, "valence")):
        rows = table[table["target"] == target]
        assert ax.texts[0].get_text() == f"highest: layer {rows.loc[rows['value'].idxmax(), 'layer']}"
