"""Saved figures: three formats, exact widths, real text, the table next to them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers.figure_checks import layer_names, table
from matplotlib.figure import Figure

from layerprobe.figures.layout.style import save, text_width, wrapped
from layerprobe.figures.layout.width import WIDTHS, parse_width
from layerprobe.figures.plots.heatmap import heatmap_figure
from layerprobe.probe.exceptions import InputError

PNG_DPI = 200


def heatmap(width=None, targets=("arousal",)):
    layers = layer_names(3)
    rows = table(layers, targets)
    return heatmap_figure(rows, layers={"e": layers}, targets=list(targets), metric="ccc", width=width), rows


def test_figures_are_saved_in_three_formats_with_the_fingerprint(tmp_path):
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


@pytest.mark.parametrize("text", [*WIDTHS, "89mm", "12 cm", "4.25in"])
def test_a_width_is_kept_to_a_hundredth_of_an_inch(tmp_path, text):
    width = parse_width(text)
    png, pdf, svg = save(heatmap(width)[0], tmp_path, "heatmap", fingerprint="f", width=width)
    pixels = int.from_bytes(png.read_bytes()[16:20], "big")
    assert pixels / PNG_DPI == pytest.approx(width, abs=0.01)
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf.read_bytes())
    assert float(box) / 72 == pytest.approx(width, abs=0.01)
    (points,) = re.findall(r'<svg [^>]*?width="([\d.]+)pt"', svg.read_text().replace("\n", " "))
    assert float(points) / 72 == pytest.approx(width, abs=0.01)


@pytest.mark.parametrize(
    ("width", "inches"), [("column", 3.5), ("double", 7.2), ("25.4mm", 1), ("9cm", 9 / 2.54), (" 3.5 in ", 3.5), (5, 5)]
)
def test_widths_are_presets_lengths_or_inches(width, inches):
    assert parse_width(width) == pytest.approx(inches)


@pytest.mark.parametrize("width", ["wide", "89", "89 pt", "-3in", "mm", "", "1e2mm", "nan"])
def test_an_unknown_width_is_refused_with_what_is_possible(width):
    with pytest.raises(
        InputError, match=re.escape(f"width {width!r} is unknown; choose one of column, double, or give a")
    ):
        parse_width(width)


@pytest.mark.parametrize(
    ("width", "length"), [("24.9mm", "24.9 mm"), ("50.1cm", "501 mm"), (0.1, "2.54 mm"), (40, "1016 mm")]
)
def test_a_width_out_of_bounds_is_refused_with_the_bounds(width, length):
    with pytest.raises(InputError, match=f"is {length}; a figure is between 25 mm and 500 mm wide"):
        parse_width(width)


def test_the_bounds_themselves_are_widths():
    assert parse_width("25mm") < parse_width("500mm") == pytest.approx(500 / 25.4)


def test_a_width_without_space_for_panels_is_refused_with_one_that_has_it():
    with pytest.raises(InputError, match=r"width 25 mm leaves no space .* choose (\d+) mm or more") as error:
        heatmap(parse_width("25mm"))
    (needed,) = re.findall(r"choose (\d+) mm", str(error.value))
    heatmap(parse_width(f"{needed}mm"))


def test_a_users_matplotlibrc_changes_nothing(tmp_path):
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 23\naxes.grid: True\nbackend: ps\nfigure.dpi: 31\nsavefig.dpi: 31\naxes.titlelocation: right\n"
        "figure.facecolor: red\nsavefig.bbox: tight\nlines.linewidth: 9\nsvg.fonttype: path\n"
        "axes.prop_cycle: cycler('color', ['k'])\n"
    )
    code = (
        "import sys, matplotlib; from pathlib import Path; from test_style import heatmap, save\n"
        "print(matplotlib.rcParams['font.size'], matplotlib.rcParams['axes.grid'])\n"
        "save(heatmap(3.5)[0], Path(sys.argv[1]), 'heatmap', fingerprint='f', width=3.5)"
    )
    settings = []
    for name in ("own", "default"):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        environment |= {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")} if name == "own" else {}
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path / ".."
        )
        settings.append(result.stdout.split())
    assert settings[0] == ["23.0", "True"] != settings[1]  # the file was read
    for ending in ("png", "svg", "pdf"):
        own, default = (tmp_path / name / f"heatmap.{ending}" for name in ("own", "default"))
        assert own.read_bytes() == default.read_bytes()


def test_a_notebook_shows_a_figure_without_pyplot():
    assert heatmap()[0]._repr_png_().startswith(b"\x89PNG")


def test_the_table_is_next_to_the_figure_with_its_format_and_the_fingerprint(tmp_path):
    figure, rows = heatmap()
    paths = save(figure, tmp_path, "heatmap", fingerprint="007", table=rows)
    assert [p.suffix for p in paths] == [".png", ".pdf", ".svg", ".csv"]
    found = pd.read_csv(tmp_path / "heatmap.csv", dtype={"layer": str, "fingerprint": str})
    assert (found.columns[0], found.columns[-1]) == ("format_version", "fingerprint")
    assert set(found.pop("fingerprint")) == {"007"}
    assert set(found.pop("format_version")) == {1}
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)


@pytest.mark.parametrize("name", ["facebook/hubert-large-ls960-ft", "perceived naturalness", "x" * 40])
def test_names_are_broken_into_lines_that_fit_and_lose_no_letter(name):
    lines = wrapped(name, 1.0, 8.0)
    assert "\n" in lines
    assert text_width(lines, 8.0) <= 1.0
    assert lines.replace("\n", "").replace(" ", "") == name.replace(" ", "")


def test_the_width_of_a_text_is_that_of_the_rendered_text():
    figure = Figure(dpi=720)
    text = figure.text(0, 0, "dominance residual", fontsize=8, family="DejaVu Sans")
    assert text_width("dominance residual", 8.0) == pytest.approx(text.get_window_extent().width / 720, rel=0.02)
