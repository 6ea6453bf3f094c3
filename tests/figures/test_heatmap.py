"""The heatmap by its properties: colours of known cells, the best layers outlined, no text over text."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import (
    CONTROLS,
    PRINTED,
    SIZES,
    TARGETS,
    assert_readable,
    encoder_layers,
    layer_names,
    table,
    tables,
    visible_texts,
)
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from layerprobe.figures.layout.cells import value_text
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, SCORE_COLOURS, place, save
from layerprobe.figures.layout.width import WIDTHS, is_narrow
from layerprobe.figures.plots.heatmap import (
    cell_order,
    gain_over_random_figure,
    heatmap_figure,
    plot_gain_over_random,
    plot_layer_heatmap,
)


def correlations(targets):
    rng = np.random.default_rng(1)
    return pd.DataFrame(rng.normal(size=(50, len(targets))), columns=list(targets)).corr()


def cells_of(ax):
    return [p for p in ax.patches if (p.get_gid() or "").startswith("cell-")]


def frames_of(ax):
    """Middles of the frames and how many cells each runs around."""
    frames = [p for p in ax.patches if (p.get_gid() or "").startswith("best-")]
    width = cells_of(ax)[0].get_width()
    return {
        (
            round(p.get_x() + p.get_width() / 2, 6),
            round(p.get_y() + p.get_height() / 2, 6),
            round(p.get_width() / width),
        )
        for p in frames
    }


def plotted(rows, layers, targets, *, metric="ccc", limits=(0.0, 1.0), **choices):
    figure = Figure(figsize=(6, 4))
    ax = place(figure, 1, 1, 4, 0.27 * (len(targets) * rows["control"].nunique() + 1))
    return plot_layer_heatmap(rows, ax, layers=layers, targets=targets, metric=metric, limits=limits, **choices)


@pytest.mark.parametrize("n_layers", SIZES)
@pytest.mark.parametrize("targets", TARGETS)
def test_no_text_lies_over_another(n_layers, targets):
    layers = layer_names(n_layers, final=n_layers in (25, 49))
    rows = table(layers, targets)
    r = correlations(targets)
    figure = heatmap_figure(rows, layers={"e": layers}, targets=list(targets), metric="ccc_matched", correlations=r)
    assert_readable(figure)
    assert len(visible_texts(figure)) > n_layers * len(targets) * len(CONTROLS)  # each cell has its value


@pytest.mark.parametrize("width", PRINTED[1:])
@pytest.mark.parametrize(
    ("sizes", "targets"),
    [((3,), TARGETS[0]), ((3,), TARGETS[2]), ((7, 13), TARGETS[1]), ((25,), TARGETS[1]), ((49,), TARGETS[0]),
     ((49, 49), TARGETS[1]), ((25,), TARGETS[2]), ((3, 13, 25), TARGETS[1])],
)  # fmt: skip
def test_presets_are_kept_and_stay_readable(width, sizes, targets):
    layers = encoder_layers(*sizes)
    rows = tables(layers, targets, controls=("none", "permuted_within_speaker"))
    figure = heatmap_figure(
        rows, layers=layers, targets=list(targets), metric="uar", correlations=correlations(targets), width=width
    )
    assert_readable(figure, width)


def test_values_lie_stand_or_are_left_out_as_cells_get_narrower():
    targets, ways = ["arousal"], []
    for n_layers, width in ((13, "column"), (25, "double"), (34, "double"), (49, "column")):
        layers, inches = {"e": layer_names(n_layers)}, WIDTHS[width]
        figure = heatmap_figure(tables(layers, targets), layers=layers, targets=targets, metric="ccc", width=inches)
        values = [t for t in figure.axes[0].texts if t.get_text().startswith((".", "−"))]
        ways.append({t.get_rotation() for t in values})
    assert ways == [{0.0}, {0.0}, {90.0}, set()]


@pytest.mark.parametrize("n_layers", [None, 13, 25])
def test_features_without_depth_have_their_names(n_layers):
    features = ["log_mel", "mfcc", "f0", "loudness", "duration"]
    layers = {"acoustic": features} | ({} if n_layers is None else {"e": layer_names(n_layers)})
    rows = tables(layers, ["arousal"])
    for width in (None, WIDTHS["column"]):
        figure = heatmap_figure(rows, layers=layers, targets=["arousal"], metric="ccc", width=width)
        assert_readable(figure, width)
        texts = {text for text, _ in visible_texts(figure)}
        assert {"log mel", "mfcc", "f0", "loudness", "duration"} <= texts
        assert ("feature; frame: best layer" in texts) == (n_layers is None)


@pytest.mark.parametrize("sizes", [(3, 13, 25), (7, 7), (25, 5)])
def test_several_encoders_line_up_on_relative_depth(sizes):
    layers = {f"e{n}-{k}": layer_names(n, final=n == 5) for k, n in enumerate(sizes)}
    targets = ["arousal", "valence"]
    rows = tables(layers, targets)
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc")
    assert_readable(figure)
    panels = [ax for ax in figure.axes if ax.get_title("left")]
    assert [ax.get_title("left") for ax in panels] == list(layers)
    for depth in (0, 1):  # the same pixel column in every panel
        columns = [ax.transData.transform((depth, 0))[0] for ax in panels]
        assert np.ptp(columns) < 1


def test_a_cell_has_the_colour_and_text_of_its_score():
    layers, targets = layer_names(3), ["arousal"]
    ax = plotted(table(layers, targets, controls=("none",)).assign(value=[0.0, 0.25, 1.0]), layers, targets)
    colours = matplotlib.colormaps[SCORE_COLOURS]
    for cell, value in zip(cells_of(ax), (0.0, 0.25, 1.0), strict=True):
        assert cell.get_facecolor() == pytest.approx(colours(value))
    assert [t.get_text() for t in ax.texts] == [".00", ".25", "1.0"]


@pytest.mark.parametrize(("metric", "best"), [("ccc", 2), ("rmse", 0)])
def test_the_best_layer_of_the_real_ratings_is_outlined(metric, best):
    layers, targets = layer_names(3), ["arousal", "valence"]
    rows = table(layers, targets, controls=("none", "permuted"))
    rows["value"] = rows["layer"].astype(float)
    ax = plotted(rows, layers, targets, metric=metric, limits=(0.0, 2.0))
    assert frames_of(ax) == {(best / 2, 0.0, 1), (best / 2, 1.0, 1)}
    assert not ax.lines


def test_adjacent_layers_of_the_best_set_have_one_frame_and_the_best_has_a_dot():
    layers, targets = layer_names(5, final=True), ["arousal", "valence"]
    rows = table(layers, targets, controls=("none", "random_init"))
    rows["value"] = [0.1, 0.5, 0.6, 0.1, 0.5, 0.5, *[0.1] * 5, 0.9, *[0.9] * 12]
    rows["in_best_set"] = rows["value"] >= 0.5  # of random weights, too, where nothing is framed
    ax = plotted(rows, layers, targets)
    # layers 1 and 2; 4; final, which is separate; a quarter is a layer
    assert frames_of(ax) == {(0.375, 0.0, 2), (1.0, 0.0, 1), (1.3375, 0.0, 1), (1.3375, 1.0, 1)}
    dots = {line.get_gid(): float(line.get_xdata()[0]) for line in ax.lines}
    assert dots == {"dot-2": pytest.approx(0.5), "dot-11": pytest.approx(1.3375)}


def test_controls_stand_in_groups_of_their_own_under_their_name():
    layers, targets = layer_names(3), ["arousal", "valence"]
    controls = ("none", "permuted_by_speaker", "random_init", "permuted_within_speaker", "random_per_speaker")
    ax = plotted(table(layers, targets, controls=controls), layers, targets)
    headings = [t.get_text() for t in ax.texts if " " in t.get_text()]
    assert headings == ["random weights", "permuted by speaker", "permuted within speaker", "random per speaker"]
    assert [t.get_text() for t in ax.get_yticklabels()] == targets * 5
    assert len(cells_of(ax)) == 2 * 3 * 5


def test_a_layer_without_a_score_is_left_blank():
    layers = layer_names(3)
    ax = plotted(table(layers, ["arousal"], controls=("none",)).assign(value=[0.1, np.nan, 0.3]), layers, ["arousal"])
    assert [t.get_text() for t in ax.texts] == [".10", ".30"]


def test_each_cell_of_the_svg_is_a_row_of_the_cell_order(tmp_path):
    layers, targets = encoder_layers(3, 5), ["valence", "arousal"]
    rows = tables(layers, targets).sample(frac=1, random_state=0)
    rows.iloc[4, rows.columns.get_loc("value")] = np.nan
    rows = pd.concat([rows, rows.assign(encoder="another"), rows.assign(target="another")])
    order = cell_order(rows, layers=layers, targets=targets)
    assert len(order) == (3 + 6) * 2 * 3 - 1
    places = [(list(layers).index(r.encoder), CONTROLS.index(r.control), targets.index(r.target)) for r in
              order.itertuples()]  # fmt: skip
    assert places == sorted(places)
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc")
    svg = save(figure, tmp_path, "heatmap", fingerprint="abc")[-1].read_text()
    assert re.findall(r'<g id="cell-(\d+)">', svg) == [str(k) for k in range(len(order))]
    norm = matplotlib.colors.Normalize(min(0, order["value"].min()), order["value"].max())
    cells = [p for ax in figure.axes for p in cells_of(ax)]
    for k in (0, 7, 20, len(order) - 1):
        (cell,) = [c for c in cells if c.get_gid() == f"cell-{k}"]
        assert cell.get_facecolor() == pytest.approx(matplotlib.colormaps[SCORE_COLOURS](norm(order["value"][k])))


@pytest.mark.parametrize("width", [None, WIDTHS["column"]])
def test_correlations_are_at_the_right_or_below_with_their_values(width):
    layers, targets = layer_names(13), ["arousal", "valence"]
    r = pd.DataFrame([[1, -0.4], [-0.4, 1]], index=["valence", "arousal"], columns=["valence", "arousal"])
    figure = heatmap_figure(
        table(layers, targets), layers={"e": layers}, targets=targets, metric="ccc", correlations=r, width=width
    )
    heatmap, square = figure.axes[0], figure.axes[-1]
    assert [t.get_text() for t in square.texts] == ["1.0", "−.40", "−.40", "1.0"]
    colours = matplotlib.colormaps[DIFFERENCE_COLOURS]
    values = [p.get_facecolor() for p in square.patches if isinstance(p, Rectangle)]
    assert values[:2] == [pytest.approx(colours(1.0)), pytest.approx(colours(0.3))]
    (cells, r_box) = (ax.get_window_extent() for ax in (heatmap, square))
    if width is None:
        assert r_box.x0 > cells.x1
        rows = [ax.transData.transform((0, k))[1] for ax in (heatmap, square) for k in (0, 1)]
        assert rows[:2] == pytest.approx(rows[2:])  # its rows are the heatmap's
    else:
        assert r_box.y1 < cells.y0


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("sizes", [(3,), (25, 49)])
def test_the_figure_of_gains_is_readable_and_even_around_zero(width, sizes):
    layers = encoder_layers(*sizes)
    rows = tables(layers, TARGETS[1], controls=("none",)).drop(columns="control")
    rows = rows.assign(value=rows["value"] - 0.3, ci_low=np.nan, ci_high=np.nan)
    figure = gain_over_random_figure(
        rows, layers=layers, targets=list(TARGETS[1]), label="CCC, trained better than random weights by", width=width
    )
    assert_readable(figure, width)
    (bar,) = [ax for ax in figure.axes if ax.collections]
    limits = bar.get_ylim() if not is_narrow(width) else bar.get_xlim()
    assert limits == pytest.approx((-rows["value"].abs().max(), rows["value"].abs().max()))


def test_differences_whose_interval_leaves_zero_out_have_a_dot():
    rows = pd.DataFrame({"target": "arousal", "layer": layer_names(4), "value": [0.2, 0.2, -0.2, 0.0],
                         "ci_low": [0.1, -0.1, -0.3, np.nan], "ci_high": [0.3, 0.3, -0.1, np.nan]})  # fmt: skip
    ax = place(Figure(figsize=(5, 3)), 1, 1, 3, 0.27)
    plot_gain_over_random(rows, ax, layers=layer_names(4), targets=["arousal"], limits=(-1.0, 1.0))
    assert [line.get_gid() for line in ax.lines] == ["sure-0", "sure-2"]
    colours = matplotlib.colormaps[DIFFERENCE_COLOURS]
    assert [c.get_facecolor() for c in cells_of(ax)] == [pytest.approx(colours((v + 1) / 2)) for v in rows["value"]]


def test_values_are_written_as_tables_of_correlations_have_them():
    values = (0.5, 1.0, -1.0, 12.34, -12.34, -0.049, 0.997, np.nan)
    assert [value_text(v) for v in values] == [".50", "1.0", "−1.0", "12", "−12", "−.05", "1.0", ""]
