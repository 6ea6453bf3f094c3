"""Names in any script appear in a font that has their characters, or a warning names those that none has."""

from __future__ import annotations

import warnings

import matplotlib
import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from helpers.figure_checks import layer_names, table
from helpers.held_out import CONDITION
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager

from layerprobe.figures.layout.fonts import MissingGlyphWarning, font_families, missing_characters
from layerprobe.figures.layout.presets import figure_font
from layerprobe.figures.layout.style import encoder_looks, save, text_width
from layerprobe.figures.plots.heatmap import heatmap_figure
from layerprobe.figures.plots.layer_weights import layer_weights_figure

NAME = "愉快\u4e00"  # three characters, none of them in the font that matplotlib ships


def figure(target):
    layers = layer_names(3)
    rows = table(layers, [target])
    return heatmap_figure(rows, layers={"e": layers}, targets=[target], metric="ccc")


@pytest.fixture
def font(tmp_path, monkeypatch):
    """A font of two of the characters, installed for matplotlib; each is a filled square of the whole line."""
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if f.name.startswith("DejaVu")])
    pen = TTGlyphPen(None)
    for point in ((0, 0), (0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(point) if point != (0, 0) else pen.moveTo(point)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(NAME[0]): "square", ord(NAME[1]): "square"})
    builder.setupGlyf({".notdef": empty, "square": square})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Two Squares", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1000, usWeightClass=400)
    builder.setupPost()
    builder.save(tmp_path / "two.ttf")
    fontManager.addfont(tmp_path / "two.ttf")
    return "Two Squares"


def test_characters_that_the_own_font_lacks_come_from_an_installed_one(font):
    assert font_families("Arousal – ü ж α") == [figure_font()]
    assert font_families(NAME[:2]) == [figure_font(), font]
    assert missing_characters(NAME[:2] + "a\n\u200b") == ""
    assert missing_characters(NAME) == NAME[2]
    assert text_width(NAME[:2], 72) == pytest.approx(2.0, rel=0.05)  # two squares of 72 points


def test_a_name_in_another_script_appears_with_its_characters(font):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plotted = figure(NAME[:2])
    label = next(t for t in plotted.findobj(matplotlib.text.Text) if t.get_text() == NAME[:2])
    assert label.get_fontfamily() == [figure_font(), font]
    canvas = FigureCanvasAgg(plotted)
    canvas.draw()
    box, page = label.get_window_extent(), np.asarray(canvas.buffer_rgba())
    rows = slice(len(page) - int(box.y1) + 1, len(page) - int(box.y0) - 1)
    pixels = page[rows, int(box.x0) + 1 : int(box.x1) - 1, 0]
    assert (pixels < 100).mean() > 0.7  # a missing character would be an outline


def test_characters_that_no_font_has_are_named_once_with_what_to_do(font, tmp_path):
    with pytest.warns(MissingGlyphWarning, match=f"^No installed font has the characters {NAME[2]} .*Install a font"):
        plotted = figure(NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, _, svg = save(plotted, tmp_path, "heatmap", fingerprint="f")
    assert NAME in svg.read_text()  # as text, which a browser shows in a font of its own


@pytest.mark.parametrize("n", [1, 10, 12, 30, 45])
def test_every_encoder_has_a_look_of_its_own(n):
    looks = encoder_looks([f"e{k}" for k in range(n)])
    colours = np.array([matplotlib.colors.to_rgb(look.colour) for look in looks.values()])
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 2 * np.eye(n)
    markers = np.array([look.marker for look in looks.values()])
    distance[markers[:, None] != markers[None]] = 2.0
    assert len(looks) == n
    assert distance.min() > 0.09
    assert len({look.marker for look in list(looks.values())[:10]}) == min(n, 10)  # for prints in grey


def test_twelve_encoders_look_different_in_the_legend():
    names = layer_names(3)
    layers = {f"encoder {k}": names for k in range(12)}
    rows = pd.concat([table(names, ["arousal"], controls=("none",), encoder=e) for e in layers])
    unknown = ("fold_min", "fold_max", "draw_min", "draw_max", "ci_low", "ci_high", "weight_low", "weight_high")
    rows = rows.assign(**CONDITION, probe="ridge", interval="", weight=0.3, contribution=0.3, score=0.5)
    rows = rows.assign(**dict.fromkeys(unknown, np.nan))
    plotted = layer_weights_figure(rows, layers=layers, targets=["arousal"], metric="ccc")
    handles = [h for legend in plotted.legends for h in legend.legend_handles]
    labels = [t.get_text() for legend in plotted.legends for t in legend.get_texts()]
    looks = {
        label: (matplotlib.colors.to_hex(h.get_color()), h.get_marker(), h.get_linestyle())
        for h, label in zip(handles, labels, strict=True)
        if label.startswith("encoder")
    }
    assert len(looks) == 12
    assert len(set(looks.values())) == 12
