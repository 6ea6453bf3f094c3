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
    with_references,
)
from matplotlib.figure import Figure

from layerprobe.figures.layout.cells import value_text
from layerprobe.figures.layout.mark_ids import Mark, parse_mark_id
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, SCORE_COLOURS, place, save
from layerprobe.figures.layout.width import TALLEST, WIDTHS, parse_width
from layerprobe.figures.plots.gain import gain_figure, plot_gain
from layerprobe.figures.plots.heatmap import (
    CONTROL_NAMES,
    cell_order,
    check_controls,
    heatmap_figure,
    plot_layer_heatmap,
)
from layerprobe.probe.exceptions import InputError


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
    figure = heatmap_figure(
        with_references(rows), layers={"e": layers}, targets=list(targets), metric="ccc_matched", controls="full"
    )
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
    rows = with_references(tables(layers, targets, controls=("none", "random_init", "permuted_within_speaker")))
    for controls in ("condensed", "full"):
        figure = heatmap_figure(
            rows, layers=layers, targets=list(targets), metric="uar", controls=controls, width=width
        )
        assert_readable(figure, width)


@pytest.mark.parametrize(
    ("n_layers", "width", "rotations"),
    [(3, "89mm", {0.0}), (13, "89mm", {90.0}), (13, "183mm", {0.0}), (25, "183mm", {90.0}), (49, "183mm", {90.0}),
     (49, "89mm", set())],
)  # fmt: skip
def test_values_have_at_least_six_points_or_are_left_out_of_narrow_cells(n_layers, width, rotations):
    layers, targets, inches = {"e": layer_names(n_layers)}, TARGETS[1], parse_width(width)
    rows = with_references(tables(layers, targets, controls=("none", "random_init")))
    figure = heatmap_figure(rows, layers=layers, targets=list(targets), metric="ccc", width=inches)
    values = [t for t in figure.axes[0].texts if t.get_text().startswith((".", "−"))]
    assert {t.get_rotation() for t in values} == rotations
    assert len(values) == (n_layers * len(targets) if rotations else 0)
    assert min((t.get_fontsize() for t in values), default=6) >= 6
    assert_readable(figure, inches, least=6.0)


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
        assert any(text.startswith("feature") for text in texts) == (n_layers is None)


def test_features_have_a_block_of_their_own_off_the_axis_of_depth():
    layers = {"e": layer_names(13), "acoustic": ["log_mel", "f0"]}
    figure = heatmap_figure(tables(layers, ["arousal"]), layers=layers, targets=["arousal"], metric="ccc")
    stack, features = (ax.get_window_extent() for ax in figure.axes if ax.get_title("left") in layers)
    assert features.width < 0.5 * stack.width
    assert features.x0 == pytest.approx(stack.x0)


@pytest.mark.parametrize("sizes", [(3, 13, 25), (7, 7), (25, 5)])
def test_several_encoders_line_up_on_relative_depth(sizes):
    layers = {f"e{n}-{k}": layer_names(n, final=n == 5) for k, n in enumerate(sizes)}
    targets = ["arousal", "valence"]
    rows = tables(layers, targets)
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc")
    assert_readable(figure)
    panels = [ax for ax in figure.axes if ax.get_title("left") in layers]
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
    ax = plotted(rows, layers, targets, controls="full")
    # layers 1 and 2; 4; final, which is separate; a quarter is a layer
    assert frames_of(ax) == {(0.375, 0.0, 2), (1.0, 0.0, 1), (1.3375, 0.0, 1), (1.3375, 1.0, 1)}
    dots = {line.get_gid(): float(line.get_xdata()[0]) for line in ax.lines}
    assert dots == {"dot-2": pytest.approx(0.5), "dot-11": pytest.approx(1.3375)}


def test_controls_stand_in_groups_of_their_own_under_their_name():
    layers, targets = layer_names(3), ["arousal", "valence"]
    controls = ("none", "permuted_by_speaker", "random_init", "permuted_within_speaker", "random_per_speaker")
    ax = plotted(table(layers, targets, controls=controls), layers, targets, controls="full")
    headings = [t.get_text() for t in ax.texts if " " in t.get_text()]
    assert headings == [CONTROL_NAMES[c] for c in CONTROL_NAMES if c in controls[1:]]
    assert [t.get_text() for t in ax.get_yticklabels()] == targets * 5
    assert len(cells_of(ax)) == 2 * 3 * 5
    assert len(cells_of(plotted(table(layers, targets, controls=controls), layers, targets))) == 2 * 3


def test_a_layer_without_a_score_is_left_blank():
    layers = layer_names(3)
    ax = plotted(table(layers, ["arousal"], controls=("none",)).assign(value=[0.1, np.nan, 0.3]), layers, ["arousal"])
    assert [t.get_text() for t in ax.texts] == [".10", ".30"]


@pytest.mark.parametrize("controls", ["condensed", "full"])
def test_each_cell_of_the_svg_is_a_row_of_the_cell_order_and_names_what_it_shows(tmp_path, controls):
    layers, targets = encoder_layers(3, 5), ["valence", "arousal"]
    rows = tables(layers, targets).sample(frac=1, random_state=0)
    rows.loc[(rows["layer"] == "1") & (rows["control"] == "none") & (rows["target"] == "valence"), "value"] = np.nan
    rows = pd.concat([rows, rows.assign(encoder="another"), rows.assign(target="another")])
    order = cell_order(rows, layers=layers, targets=targets, controls=controls)
    assert len(order) == (3 + 6) * 2 * (3 if controls == "full" else 1) - 2
    places = [(list(layers).index(r.encoder), CONTROLS.index(r.control), targets.index(r.target)) for r in
              order.itertuples()]  # fmt: skip
    assert places == sorted(places)
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc", controls=controls)
    svg = save(figure, tmp_path, "heatmap", fingerprint="abc")[-1].read_text()
    found = re.findall(
        r'<g id="cell-(\d+)" data-encoder="(.*?)" data-control="(.*?)" data-target="(.*?)" data-layer="(.*?)">', svg
    )
    columns = ["encoder", "control", "target", "layer"]
    assert found == [(str(k), *row) for k, row in enumerate(order[columns].to_numpy().tolist())]
    shown = rows["encoder"].isin(list(layers)) & rows["target"].isin(targets)
    counted = shown if controls == "full" else shown & rows["control"].isin(["none", "random_init"])
    norm = matplotlib.colors.Normalize(0, rows.loc[counted, "value"].max())
    values = order.set_index(columns)["value"]
    for cell in [cell for ax in figure.axes for cell in cells_of(ax)][::5]:
        mark = parse_mark_id(cell.get_gid())
        shade = matplotlib.colormaps[SCORE_COLOURS](max(float(norm(values[tuple(vars(mark).values())])), 0.0))
        assert cell.get_facecolor() == pytest.approx(shade)


@pytest.mark.parametrize(("metric", "hatched"), [("ccc", [True, True, False]), ("rmse", [False, True, True])])
def test_cells_that_are_not_above_chance_are_hatched(metric, hatched):
    layers = layer_names(3)
    rows = table(layers, ["arousal"], controls=("none",)).assign(value=[0.1, 0.2, 0.3], chance=0.2)
    ax = plotted(rows, layers, ["arousal"], metric=metric)
    assert [bool(cell.get_hatch()) for cell in cells_of(ax)] == hatched


def test_a_row_without_a_cell_above_chance_has_no_frame():
    layers, targets = layer_names(3), ["arousal", "valence"]
    rows = table(layers, targets, controls=("none",)).assign(value=[0.1, 0.2, 0.3, 0.1, 0.1, 0.1], chance=0.2)
    ax = plotted(rows.assign(in_best_set=True), layers, targets)
    assert frames_of(ax) == {(0.5, 0.0, 3)}
    assert len(ax.lines) == 1


def test_controls_and_baselines_are_slim_columns_that_agree_with_their_rows():
    layers, targets = {"a": layer_names(3), "b": layer_names(4)}, ["arousal", "valence"]
    rows = with_references(tables(layers, targets, controls=("none", "random_init", "permuted")), chance=0.25)
    rows = rows[~((rows["encoder"] == "b") & (rows["control"] == "random_init"))]  # b has none
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc")
    slim = [ax for ax in figure.axes if any((p.get_gid() or "").startswith("reference") for p in ax.patches)]
    names = [label.get_text() for label in slim[0].get_xticklabels()]
    assert names == ["random init.", "chance", "one rater", "text", "duration, loudness"]
    marks = [
        (parse_mark_id(p.get_gid()), t.get_text()) for ax in slim for p, t in zip(ax.patches, ax.texts, strict=True)
    ]
    best = rows[(rows["control"] == "random_init") & (rows["target"] == "valence")].set_index("layer")["value"]
    assert (Mark("a", "random_init", "valence", best.idxmax()), value_text(best.max())) in marks
    assert {text for mark, text in marks if mark.control == "chance"} == {".25"}
    assert {text for mark, text in marks if mark.control == "single_rater"} == {".30"}
    assert not [mark for mark, _ in marks if mark.encoder == "b" and mark.control == "random_init"]
    assert len(marks) == 2 * 5 + 2 * 4


def test_the_colour_bar_states_its_limits_and_what_is_clipped():
    layers = {"e": layer_names(3)}
    rows = table(layers["e"], ["arousal"], controls=("none",)).assign(value=[-0.3, 0.2, 0.8])

    def label(metric):
        figure = heatmap_figure(rows, layers=layers, targets=["arousal"], metric=metric)
        return next(ax.get_title("left") for ax in figure.axes if "colours" in ax.get_title("left")).replace("\n", " ")

    assert label("ccc") == "CCC, colours from 0 to .80 (lower: as 0)"
    assert label("rmse").endswith("colours from −.30 to .80")
    figure = heatmap_figure(rows, layers=layers, targets=["arousal"], metric="ccc")
    first = next(cell for ax in figure.axes for cell in cells_of(ax))
    assert first.get_facecolor() == pytest.approx(matplotlib.colormaps[SCORE_COLOURS](0.0))


@pytest.mark.parametrize("width", WIDTHS)
def test_no_heatmap_is_taller_than_a_page(width):
    layers = {"hubert": layer_names(13), "wavlm": layer_names(25), "acoustic": ["f0", "loudness"]}
    targets = [name[:12] for name in TARGETS[2]]
    rows = with_references(tables(layers, targets, controls=("none",)))
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc", width=WIDTHS[width])
    assert figure.get_figheight() <= TALLEST + 1e-9


def test_headings_of_controls_lie_over_no_cell_where_rows_are_low():
    layers, targets = encoder_layers(7, 7, 7), list(TARGETS[1])
    rows = tables(layers, targets, controls=tuple(CONTROL_NAMES))
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc", controls="full", width=WIDTHS["double"])
    for ax in (ax for ax in figure.axes if cells_of(ax)):
        cells = [cell.get_window_extent() for cell in cells_of(ax)]
        headings = [t.get_window_extent() for t in ax.texts if t.get_text() in CONTROL_NAMES.values()]
        assert len(headings) == 5
        assert not any(heading.padded(-1.5).overlaps(cell) for heading in headings for cell in cells)


def test_unknown_controls_are_refused():
    with pytest.raises(InputError, match="controls 'all' is unknown; choose one of condensed, full"):
        check_controls("all")


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("sizes", [(3,), (25, 49)])
def test_the_figure_of_gains_is_readable_and_even_around_zero(width, sizes):
    layers = encoder_layers(*sizes)
    rows = tables(layers, TARGETS[1], controls=("none",)).drop(columns="control")
    rows = rows.assign(value=rows["value"] - 0.3, ci_low=np.nan, ci_high=np.nan)
    figure = gain_figure(
        rows, layers=layers, targets=list(TARGETS[1]), label="CCC, trained better than random weights by", width=width
    )
    assert_readable(figure, width)
    (bar,) = [ax for ax in figure.axes if ax.collections]
    assert bar.get_xlim() == pytest.approx((-rows["value"].abs().max(), rows["value"].abs().max()))


def test_differences_whose_interval_leaves_zero_out_have_a_dot():
    rows = pd.DataFrame({"target": "arousal", "layer": layer_names(4), "value": [0.2, 0.2, -0.2, 0.0],
                         "ci_low": [0.1, -0.1, -0.3, np.nan], "ci_high": [0.3, 0.3, -0.1, np.nan]})  # fmt: skip
    ax = place(Figure(figsize=(5, 3)), 1, 1, 3, 0.27)
    plot_gain(rows, ax, layers=layer_names(4), targets=["arousal"], limits=(-1.0, 1.0))
    assert [line.get_gid() for line in ax.lines] == ["sure-0", "sure-2"]
    colours = matplotlib.colormaps[DIFFERENCE_COLOURS]
    assert [c.get_facecolor() for c in cells_of(ax)] == [pytest.approx(colours((v + 1) / 2)) for v in rows["value"]]


def test_values_are_written_as_tables_of_correlations_have_them():
    values = (0.5, 1.0, -1.0, 12.34, -12.34, -0.049, 0.997, np.nan)
    assert [value_text(v) for v in values] == [".50", "1.0", "−1.0", "12", "−12", "−.05", "1.0", ""]
