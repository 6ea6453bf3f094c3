"""The heatmap over time: cells lie at their bins and layers, hatches and frames follow the table, all can be read."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from helpers.figure_checks import PRINTED, assert_readable, layer_names
from helpers.time_tables import CHANCE, label_bins, onset_bins, position_bins, time_table
from matplotlib.figure import Figure

from layerprobe.figures.layout.mark_ids import parse_mark_id
from layerprobe.figures.layout.presets import preset
from layerprobe.figures.layout.style import SCORE_COLOURS
from layerprobe.figures.layout.width import default_width
from layerprobe.figures.plots.time_curve import time_curve_figure
from layerprobe.figures.plots.time_map import plot_time_map, time_map_figure, unequal

TARGETS = ("arousal", "valence", "dominance")
ONE = {"facebook/hubert-base-ls960": layer_names(13)}
TWO = {**ONE, "microsoft/wavlm-base-plus": layer_names(13, final=True)}
LABELS = label_bins("happy", "sad", "function", "interjection")
CASES = {
    "thirteen layers, ten bins": (position_bins(10), ONE, TARGETS),
    "twenty-five layers, twenty bins": (position_bins(20), {"facebook/wav2vec2-large": layer_names(25)}, TARGETS),
    "labels": (LABELS, ONE, TARGETS),
    "sixty labels": (label_bins(*(f"label{k}" for k in range(60))), ONE, TARGETS),
    "two encoders": (onset_bins(12), TWO, TARGETS),
    "one target": (position_bins(10), ONE, TARGETS[:1]),
    "eight targets": (
        position_bins(5),
        ONE,
        (*TARGETS, "dominance_residual", "naturalness_of_the_voice", *"xyz"),
    ),
    "features": (position_bins(10), {"acoustic": ["egemaps", "log_mel_spectrogram", "f0"]}, TARGETS),
}
FIGURES = {"map": time_map_figure, "curve": time_curve_figure}


def cells_of(ax):
    return {(mark.layer, round(p.get_x(), 6)): p for p in ax.patches if (mark := parse_mark_id(p.get_gid() or ""))}


def one_panel(bins, table, layers, size=(4, 4), metric="ccc_matched"):
    ax = Figure(figsize=size).add_axes((0.1, 0.1, 0.8, 0.8))
    plot_time_map(table, ax, bins=bins, layers=layers, metric=metric, limits=(0.0, 0.7))
    return ax


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("case", CASES)
def test_every_text_can_be_read_at_every_width(case, width, figure):
    bins, layers, targets = CASES[case]
    table = time_table(bins, layers, targets, unequal=case != "thirteen layers, ten bins")
    plotted = FIGURES[figure](table, bins=bins, layers=layers, targets=targets, metric="ccc_matched", width=width)
    assert_readable(plotted, width)
    assert plotted.get_figheight() < 12


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("width", ["column", "double"])
@pytest.mark.parametrize("style", ["interspeech", "ieee", "nature", "slides"])
def test_every_style_can_be_read(style, width, figure):
    bins, layers, targets = CASES["thirteen layers, ten bins"]
    table = time_table(bins, layers, targets, unequal=True)
    with preset(style):
        inches = default_width(width)
        plotted = FIGURES[figure](table, bins=bins, layers=layers, targets=targets, metric="ccc_matched", width=inches)
        assert_readable(plotted, inches)


def test_cells_lie_at_their_bins_with_the_first_layer_at_the_bottom():
    bins, layers = onset_bins(4), layer_names(3)
    table = time_table(bins, {"e": layers}, ["arousal"])
    ax = one_panel(bins, table, layers)
    cells, norm = cells_of(ax), matplotlib.colors.Normalize(0, 0.7)
    assert len(cells) == 12
    for row in table.to_dict("records"):
        low, high = bins.edges[bins.names.index(row["bin"])]
        cell = cells[row["layer"], low]
        assert cell.get_width() == pytest.approx(high - low)
        assert cell.get_y() + 0.5 == pytest.approx(int(row["layer"]))
        assert cell.get_facecolor() == pytest.approx(matplotlib.colormaps[SCORE_COLOURS](norm(row["value"])))
        assert bool(cell.get_hatch()) == (row["value"] <= CHANCE)
    assert ax.get_ylim() == (-0.5, 2.5)


def test_a_bin_that_was_left_out_leaves_a_gap():
    bins = onset_bins(4)
    table = time_table(bins, {"e": ["0", "1"]}, ["arousal"])
    shown = table[table["bin"] != bins.names[1]]
    figure = time_map_figure(shown, bins=bins, layers={"e": ["0", "1"]}, targets=["arousal"], metric="ccc_matched")
    starts = {x for _, x in cells_of(figure.axes[0])}
    assert starts == {0.0, 1.0, 1.5}


def test_the_best_cell_has_a_dot_and_the_set_of_its_layer_a_frame():
    bins, layers = position_bins(5), layer_names(4)
    table = time_table(bins, {"e": layers}, ["arousal"])
    best = table.loc[table["value"].idxmax()]
    table["in_best_set"] = table["bin"].isin([best["bin"], bins.names[3], bins.names[4]])
    ax = one_panel(bins, table, layers)
    frames = [p for p in ax.patches if str(p.get_gid()).startswith("best-")]
    first = 100 * bins.edges[bins.names.index(best["bin"])][0]
    assert [round(p.get_x()) for p in frames] == [round(first), 60]  # bins 3 and 4 are one frame
    assert all(int(best["layer"]) - 0.5 < p.get_y() < int(best["layer"]) for p in frames)
    (dot,) = [line for line in ax.lines if line.get_gid() == "dot-0"]
    assert first < dot.get_xdata()[0] < first + 20


def test_of_an_error_the_lowest_cell_is_the_best_and_low_cells_are_above_chance():
    bins, layers = position_bins(5), layer_names(4)
    table = time_table(bins, {"e": layers}, ["arousal"])
    table["value"], table["chance"] = 1 - table["value"], 0.6
    ax = one_panel(bins, table, layers, metric="rmse")
    lowest = table.loc[table["value"].idxmin()]
    (dot,) = [line for line in ax.lines if line.get_gid() == "dot-0"]
    assert dot.get_xdata()[0] == pytest.approx(100 * np.mean(bins.edges[bins.names.index(lowest["bin"])]), abs=10)
    low = 100 * bins.edges[bins.names.index(lowest["bin"])][0]
    assert not cells_of(ax)[lowest["layer"], low].get_hatch()


def test_a_map_without_a_cell_above_chance_has_neither_frame_nor_dot():
    bins, layers = position_bins(5), layer_names(4)
    table = time_table(bins, {"e": layers}, ["arousal"]).assign(chance=0.99)
    ax = one_panel(bins, table, layers)
    assert all(p.get_hatch() for p in cells_of(ax).values())
    assert not [p for p in ax.patches if str(p.get_gid()).startswith("best-")]
    assert not ax.lines
    figure = time_map_figure(table, bins=bins, layers={"e": layers}, targets=["arousal"], metric="ccc_matched")
    assert "frame" not in "".join(text.get_text() for text in figure.texts)


def test_values_are_written_where_they_fit():
    bins, layers = position_bins(4), layer_names(4)
    table = time_table(bins, {"e": layers}, ["arousal"])
    assert len(one_panel(bins, table, layers).texts) == 16
    assert not one_panel(bins, table, layers, size=(0.6, 0.6)).texts


def test_numbers_of_utterances_are_shown_where_bins_differ():
    bins = position_bins(5)
    given = {"layers": ONE, "targets": TARGETS, "bins": bins, "metric": "ccc_matched"}
    table = time_table(bins, ONE, TARGETS, unequal=True)
    figure = time_map_figure(table, **given)
    bars = [p for ax in figure.axes for p in ax.patches if p.get_gid() == "count"]
    numbers = table.drop_duplicates(["target", "bin"])["n_utterances"]
    assert [p.get_height() for p in bars] == list(numbers)
    even = time_table(bins, ONE, TARGETS)
    assert not unequal(even)
    assert not [p for ax in time_map_figure(even, **given).axes for p in ax.patches if p.get_gid() == "count"]
