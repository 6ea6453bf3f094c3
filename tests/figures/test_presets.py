"""Style presets: their fonts and widths, and that figures of all sizes stay readable in each."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import SIZES, TARGETS, assert_readable, layer_names, tables, with_references
from helpers.held_out import CONDITION

from layerprobe.figures.layout.presets import FOLDER, MM, WIDTHS, active_style, figure_font, preset
from layerprobe.figures.layout.style import encoder_looks, save, text_width
from layerprobe.figures.layout.width import TALLEST, default_width, font_size, parse_width
from layerprobe.figures.plots.best_layer_frequency import best_layer_figure
from layerprobe.figures.plots.curves import curves_figure
from layerprobe.figures.plots.heatmap import heatmap_figure
from layerprobe.figures.plots.layer_weights import layer_weights_figure
from layerprobe.probe.exceptions import InputError

TARGET = list(TARGETS[1])


def scores(n_layers):
    layers = {"facebook/hubert": layer_names(n_layers, final=n_layers > 13)}
    rows = with_references(tables(layers, TARGET)).assign(**{k: v for k, v in CONDITION.items() if k != "baseline"})
    rows["probe"] = np.where(rows["baseline"] == "", "ridge", "baseline")
    ends = {"fold_min": rows["value"] - 0.1, "fold_max": rows["value"] + 0.1, "draw_min": -0.1, "draw_max": 0.1}
    missing = {"ci_low": np.nan, "ci_high": np.nan, "interval": "", "in_best_set": rows["value"] > 0.7}
    return layers, rows.assign(**ends, **missing)


def heatmap(n_layers, width):
    layers, rows = scores(n_layers)
    return heatmap_figure(rows, layers=layers, targets=TARGET, metric="ccc_matched", width=width)


def curves(n_layers, width):
    layers, rows = scores(n_layers)
    return curves_figure(rows, layers=layers, targets=TARGET, metric="ccc_matched", width=width)


def layer_weights(n_layers, width):
    layers, rows = scores(n_layers)
    rows = rows[(rows["control"] == "none") & (rows["encoder"] != "")]
    rows = rows.assign(probe="weighted_sum", weight=1 / n_layers, contribution=1 / n_layers, score=rows["value"])
    rows = rows.assign(weight_low=0.5 / n_layers, weight_high=1.5 / n_layers)
    return layer_weights_figure(rows, rows, layers=layers, targets=TARGET, metric="ccc_matched", width=width)


def best_layer(n_layers, width):
    layers, rows = scores(n_layers)
    rows = rows[(rows["control"] == "none") & (rows["encoder"] != "")].assign(win_rate=1 / n_layers)
    return best_layer_figure(rows, layers=layers, targets=TARGET, width=width)


FIGURES = {"heatmap": heatmap, "curves": curves, "layer-weights": layer_weights, "best-layer": best_layer}


@pytest.mark.parametrize("style", WIDTHS)
@pytest.mark.parametrize("n_layers", SIZES)
def test_a_heatmap_is_readable_in_every_style_at_both_widths(style, n_layers):
    with preset(style):
        for name in ("column", "double"):
            figure = heatmap(n_layers, parse_width(name))
            assert_readable(figure, parse_width(name), least=6.0)
            assert figure.get_figheight() <= TALLEST


@pytest.mark.parametrize("style", WIDTHS)
@pytest.mark.parametrize("name", ["curves", "layer-weights", "best-layer"])
def test_other_figures_are_readable_in_every_style(style, name):
    with preset(style):
        for n_layers, width in ((3, "column"), (49, "double")):
            figure = FIGURES[name](n_layers, parse_width(width))
            assert_readable(figure, parse_width(width), least=6.0)
            assert figure.get_figheight() <= TALLEST


@pytest.mark.parametrize(
    ("style", "column", "size"), [("interspeech", 80, 8), ("ieee", 88.9, 8), ("nature", 89, 7), ("slides", 152.4, 14)]
)
def test_a_style_has_its_own_widths_and_font_size(style, column, size):
    with preset(style):
        assert active_style() == style
        assert parse_width("column") * MM == pytest.approx(column)
        assert font_size(parse_width("column")) == size
        assert default_width(None) == parse_width("double")
    assert active_style() is None
    assert default_width(None) is None


def test_every_style_has_one_file_and_an_unknown_style_is_refused():
    assert {path.stem for path in FOLDER.glob("*.mplstyle")} == {*WIDTHS, "layerprobe"}
    with pytest.raises(InputError, match="style 'science' is unknown; choose one of interspeech, ieee, nature, slides"):
        preset("science").__enter__()


def test_papers_with_text_in_times_get_a_font_like_it_whose_widths_are_measured():
    with preset("ieee"):
        assert figure_font() in ("Times New Roman", "Times", "Liberation Serif", "STIXGeneral")
        times = text_width("moment-matched CCC", 8)
        figure = heatmap(3, 3.5)
    assert times < 0.9 * text_width("moment-matched CCC", 8)
    label = next(t for t in figure.findobj(matplotlib.text.Text) if t.get_text() == "arousal")
    assert label.get_fontfamily()[0] in ("Times New Roman", "Times", "Liberation Serif", "STIXGeneral")


@pytest.mark.parametrize("style", WIDTHS)
def test_files_of_every_style_embed_their_fonts_and_keep_text_as_text(style, tmp_path):
    with preset(style):
        width = parse_width("column")
        _, pdf, svg = save(heatmap(3, width), tmp_path, "heatmap", fingerprint="f", width=width)
    page = pdf.read_bytes()
    assert b"/FontFile2" in page
    assert b"/Type3" not in page
    assert ">arousal</text>" in svg.read_text()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", page)
    assert float(box) / 72 == pytest.approx(width, abs=0.01)


def test_an_encoder_has_the_same_colour_and_marker_in_all_figures():
    layers, rows = scores(3)
    looks = encoder_looks(["another", *layers])
    (encoder,) = layers
    weights = rows[(rows["control"] == "none") & (rows["encoder"] != "")]
    weights = weights.assign(probe="weighted_sum", weight=0.3, contribution=0.3, score=0.3, weight_low=0.2)
    weights = weights.assign(weight_high=0.4, win_rate=1 / 3)
    choices = {"layers": layers, "targets": TARGET, "looks": looks}
    figures = [
        curves_figure(rows, metric="ccc", **choices),
        layer_weights_figure(weights, metric="ccc", **choices),
        best_layer_figure(weights, **choices),
    ]
    colour = matplotlib.colors.to_rgb(looks[encoder].colour)
    for figure in figures:
        shown = {matplotlib.colors.to_rgb(line.get_color()) for line in figure.axes[0].lines}
        shown |= {p.get_facecolor()[:3] for p in figure.axes[0].patches}
        assert colour in shown
        assert matplotlib.colors.to_rgb(looks["another"].colour) not in shown


def test_ten_encoders_differ_in_colour_and_in_marker():
    looks = encoder_looks([f"e{k}" for k in range(10)])
    assert len({look.marker for look in looks.values()}) == len({look.colour for look in looks.values()}) == 10
    assert pd.Series([look.marker for look in encoder_looks([f"e{k}" for k in range(12)]).values()]).nunique() == 10
