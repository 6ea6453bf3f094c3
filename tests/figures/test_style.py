"""What is saved: three formats, exact widths, real text, the table beside them."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from helpers.figure_checks import layer_names, table
from matplotlib.figure import Figure

from layerprobe.figures.layout.style import save, text_width, wrapped
from layerprobe.figures.layout.width import WIDTHS
from layerprobe.figures.plots.heatmap import heatmap_figure

PNG_DPI = 200


def heatmap(width=None, targets=("arousal",)):
    layers = layer_names(3)
    rows = table(layers, targets)
    return heatmap_figure(rows, layers={"e": layers}, targets=list(targets), metric="ccc", width=width), rows


def test_pictures_are_saved_in_three_formats_with_the_fingerprint(tmp_path):
    paths = save(heatmap()[0], tmp_path / "figures", "heatmap", fingerprint="abc123")
    assert [p.name for p in paths] == ["heatmap.png", "heatmap.pdf", "heatmap.svg"]
    assert all(b"abc123" in p.read_bytes() for p in paths)
    assert not (tmp_path / "figures" / "heatmap.csv").exists()


def test_text_stays_text_and_fonts_are_embedded_as_truetype(tmp_path):
    _, pdf, svg = save(heatmap(targets=("a$b$_c",))[0], tmp_path, "heatmap", fingerprint="f")
    assert ">a$b$ c</text>" in svg.read_text()
    assert "DejaVu Sans" in svg.read_text()
    page = pdf.read_bytes()
    assert page.startswith(b"%PDF")
    assert b"/FontFile2" in page  # TrueType, which is type 42
    assert b"/Type3" not in page


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    first, second = (save(heatmap()[0], tmp_path / name, "heatmap", fingerprint="f") for name in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_preset_is_kept_to_a_hundredth_of_an_inch(tmp_path, width):
    png, pdf, svg = save(heatmap(width)[0], tmp_path, "heatmap", fingerprint="f")
    pixels = int.from_bytes(png.read_bytes()[16:20], "big")
    assert pixels / PNG_DPI == pytest.approx(WIDTHS[width], abs=0.01)
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf.read_bytes())
    assert float(box) / 72 == pytest.approx(WIDTHS[width], abs=0.01)
    (points,) = re.findall(r'<svg [^>]*?width="([\d.]+)pt"', svg.read_text().replace("\n", " "))
    assert float(points) / 72 == pytest.approx(WIDTHS[width], abs=0.01)


def test_the_table_lies_beside_the_pictures_with_the_fingerprint(tmp_path):
    figure, rows = heatmap()
    paths = save(figure, tmp_path, "heatmap", fingerprint="007", table=rows)
    assert [p.suffix for p in paths] == [".png", ".pdf", ".svg"]
    found = pd.read_csv(tmp_path / "heatmap.csv", dtype={"layer": str, "fingerprint": str})
    assert set(found.pop("fingerprint")) == {"007"}
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)


@pytest.mark.parametrize("name", ["facebook/hubert-large-ls960-ft", "perceived naturalness", "x" * 40])
def test_names_are_broken_into_lines_that_fit_and_lose_no_letter(name):
    lines = wrapped(name, 1.0, 8.0)
    assert "\n" in lines
    assert text_width(lines, 8.0) <= 1.0
    assert lines.replace("\n", "").replace(" ", "") == name.replace(" ", "")


def test_the_width_of_a_text_is_what_is_drawn():
    figure = Figure(dpi=720)
    text = figure.text(0, 0, "dominance residual", fontsize=8, family="DejaVu Sans")
    assert text_width("dominance residual", 8.0) == pytest.approx(text.get_window_extent().width / 720, rel=0.02)
