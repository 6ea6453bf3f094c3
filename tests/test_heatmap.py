"""The heatmap by its properties: colours of known cells, the best layer outlined, no text over text."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from figures.heatmap import heatmap_figure, plot_layer_heatmap, value_text
from figures.style import SCORE_COLOURS, save


def layer_names(n, *, final=False):
    return [*map(str, range(n)), *(["final"] if final else [])]


def table(layers, targets, *, controls=("none", "random_init", "permuted"), encoder="e", seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {"encoder": encoder, "control": c, "target": t, "layer": name, "value": rng.uniform(-0.05, 0.9)}
        for c in controls
        for t in targets
        for name in layers
    ]
    return pd.DataFrame(rows)


def drawn_texts(figure):
    """Every visible text with its box in pixels, after the layout is settled."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = []
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            texts += [t.label2 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text().strip() and t.get_visible()]


@pytest.mark.parametrize("n_layers", [3, 7, 13, 25, 49])
@pytest.mark.parametrize(
    "targets", [("arousal",), ("arousal", "valence", "dominance"), tuple(f"t{i}" for i in range(8))]
)
def test_no_text_lies_over_another(n_layers, targets):
    layers = layer_names(n_layers, final=n_layers in (25, 49))
    figure = heatmap_figure(table(layers, targets), layers={"e": layers}, targets=list(targets), metric="ccc_matched")
    boxes = drawn_texts(figure)
    assert len(boxes) > n_layers * len(targets)
    for i, (text, box) in enumerate(boxes):
        for other, box_2 in boxes[i + 1 :]:
            assert not box.padded(-0.5).overlaps(box_2.padded(-0.5)), (text, other)


@pytest.mark.parametrize("beside", [None, 13, 25])
def test_features_without_depth_have_their_names(beside):
    features = ["log_mel", "mfcc", "f0", "loudness", "duration"]
    layers = {"acoustic": features} | ({} if beside is None else {"e": layer_names(beside)})
    rows = pd.concat([table(names, ["arousal"], encoder=encoder) for encoder, names in layers.items()])
    figure = heatmap_figure(rows, layers=layers, targets=["arousal"], metric="ccc")
    boxes = drawn_texts(figure)
    texts = [text for text, _ in boxes]
    assert {"log mel", "mfcc", "f0", "loudness", "duration"} <= set(texts)
    assert ("feature (the best is outlined)" in texts) == (beside is None)
    for i, (text, box) in enumerate(boxes):
        for other, box_2 in boxes[i + 1 :]:
            assert not box.padded(-0.5).overlaps(box_2.padded(-0.5)), (text, other)


@pytest.mark.parametrize("sizes", [(3, 13, 25), (7, 7), (25, 5)])
def test_several_encoders_line_up_on_relative_depth(sizes):
    layers = {f"e{n}-{k}": layer_names(n, final=n == 5) for k, n in enumerate(sizes)}
    targets = ["arousal", "valence"]
    rows = pd.concat([table(names, targets, encoder=e) for e, names in layers.items()])
    figure = heatmap_figure(rows, layers=layers, targets=targets, metric="ccc")
    boxes = drawn_texts(figure)
    for i, (text, box) in enumerate(boxes):
        for other, box_2 in boxes[i + 1 :]:
            assert not box.padded(-0.5).overlaps(box_2.padded(-0.5)), (text, other)
    panels = [ax for ax in figure.axes if ax.get_title("left")]
    assert [ax.get_title("left") for ax in panels] == list(layers)
    for depth in (0, 1):  # the same pixel column in every panel
        columns = [ax.transData.transform((depth, 0))[0] for ax in panels]
        assert np.ptp(columns) < 1


def test_a_cell_has_the_colour_and_text_of_its_score():
    layers, targets = layer_names(3), ["arousal"]
    rows = table(layers, targets, controls=("none",)).assign(value=[0.0, 0.25, 1.0])
    ax = plot_layer_heatmap(
        rows, Figure().add_subplot(), layers=layers, targets=targets, metric="ccc", limits=(0.0, 1.0)
    )
    colours = matplotlib.colormaps[SCORE_COLOURS]
    cells = [p for p in ax.patches if p.get_gid() is None]
    for cell, value in zip(cells, (0.0, 0.25, 1.0), strict=True):
        assert cell.get_facecolor() == pytest.approx(colours(value))
    assert [t.get_text() for t in ax.texts] == [".00", ".25", "1.0"]


@pytest.mark.parametrize(("metric", "best"), [("ccc", 2), ("rmse", 0)])
def test_the_best_layer_of_the_real_ratings_is_outlined(metric, best):
    layers, targets = layer_names(3), ["arousal", "valence"]
    rows = table(layers, targets, controls=("none", "permuted"))
    rows["value"] = rows["layer"].astype(float)
    ax = plot_layer_heatmap(
        rows, Figure().add_subplot(), layers=layers, targets=targets, metric=metric, limits=(0.0, 2.0)
    )
    frames = [p for p in ax.patches if p.get_gid() == "best-layer"]
    centres = {(round(p.get_x() + p.get_width() / 2, 6), round(p.get_y() + p.get_height() / 2, 6)) for p in frames}
    assert centres == {(best / 2, 0.0), (best / 2, 1.0)}


def test_a_layer_without_a_score_is_left_blank():
    layers = layer_names(3)
    rows = table(layers, ["arousal"], controls=("none",)).assign(value=[0.1, np.nan, 0.3])
    ax = plot_layer_heatmap(
        rows, Figure().add_subplot(), layers=layers, targets=["arousal"], metric="ccc", limits=(0.0, 1.0)
    )
    assert [t.get_text() for t in ax.texts] == [".10", ".30"]


def test_pictures_are_saved_in_three_formats_with_the_fingerprint(tmp_path):
    layers = layer_names(3)
    figure = heatmap_figure(table(layers, ["arousal"]), layers={"e": layers}, targets=["arousal"], metric="ccc")
    paths = save(figure, tmp_path / "figures", "heatmap", fingerprint="abc123")
    assert [p.name for p in paths] == ["heatmap.png", "heatmap.pdf", "heatmap.svg"]
    assert all(b"abc123" in p.read_bytes() for p in paths)
    svg = paths[2].read_text()
    assert ">arousal</text>" in svg  # text stays text
    assert paths[1].read_bytes().startswith(b"%PDF")


def test_values_are_written_as_tables_of_correlations_have_them():
    assert [value_text(v) for v in (0.5, 1.0, -1.0, 12.34, -0.049, np.nan)] == [".50", "1.0", "−1.0", "12", "−.05", ""]
