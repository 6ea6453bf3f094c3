"""The figure of erasure and its section of a report: marks lie where the numbers are, and every text can be read."""

from __future__ import annotations

import re
from shutil import copytree

import numpy as np
import pandas as pd
import pytest
from helpers.documented_formats import differences
from helpers.erased_run import CONCEPTS, EMPTY, LAYERS
from helpers.erasure_tables import SEVEN, erasure_table
from helpers.figure_checks import PRINTED, TARGETS, assert_readable, encoder_layers, layer_names
from matplotlib.figure import Figure

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.study import study
from layerprobe.figures.draw import draw, plot
from layerprobe.figures.layout.mark_ids import Mark, parse_mark_id
from layerprobe.figures.layout.style import encoder_looks
from layerprobe.figures.plots.erasure import ADJUSTED, erasure_figure, plot_erasure
from layerprobe.figures.report.report import write_report
from layerprobe.figures.report.sections import make_sections

LOOK = encoder_looks(["e"])["e"]


def panel(table, layers, concept="loudness"):
    return plot_erasure(table, Figure().add_subplot(), layers=layers, look=LOOK, concept=concept)


def markers(ax):
    return [line for line in ax.lines if line.get_gid()]


def test_lines_and_bands_lie_where_the_numbers_are():
    layers = layer_names(5)
    table = erasure_table({"e": layers}, ["arousal"], ["f0", "loudness"])
    rows = table[table["concept"] == "loudness"]
    ax = panel(table, layers)
    curves = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == len(layers)]
    for name in ("plain", "random", "erased"):
        assert any(np.allclose(curve, rows[name]) for curve in curves), name
    bands = [path.vertices[:, 1] for band in ax.collections for path in band.get_paths()]
    ends = sorted((round(float(band.min()), 9), round(float(band.max()), 9)) for band in bands)
    expected = [("random_min", "random_max"), ("erased_ci_low", "erased_ci_high")]
    assert ends == sorted((round(rows[low].min(), 9), round(rows[high].max(), 9)) for low, high in expected)
    alone = [line.get_ydata() for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert [float(y[0]) for y in alone] == [0.0, pytest.approx(0.1)]  # the line at 0, and the concept alone


def test_a_marker_is_full_where_the_concept_removes_more_than_random_directions():
    layers = layer_names(4)
    table = erasure_table({"e": layers}, ["arousal"], ["loudness"])
    table.loc[[1, 3], "p_adjusted"] = [0.2, np.nan]
    shown = markers(panel(table, layers))
    assert [m.get_markerfacecolor() != "white" for m in shown] == [True, False, True, False]
    assert [float(m.get_ydata()[0]) for m in shown] == pytest.approx(table["erased"].tolist())
    assert parse_mark_id(shown[2].get_gid()) == Mark("e", "loudness", "arousal", "2")


def test_less_removed_than_by_random_directions_is_no_full_marker():
    layers = layer_names(2)
    table = erasure_table({"e": layers}, ["arousal"], ["loudness"])
    table.loc[1, "beyond_random"] = -0.1
    table.loc[0, "beyond_random"] = 0.1
    assert [m.get_markerfacecolor() != "white" for m in markers(panel(table, layers))] == [True, False]


def test_the_final_layer_is_not_joined_with_the_last_block():
    layers = layer_names(3, final=True)
    ax = panel(erasure_table({"e": layers}, ["arousal"], ["loudness"]), layers)
    assert max(len(line.get_xdata()) for line in ax.lines) == 3
    assert len(markers(ax)) == 4


def test_the_legend_names_what_is_there_alone():
    layers = {"e": layer_names(3)}
    table = erasure_table(layers, ["arousal"], ["loudness"])
    some = table.assign(p_adjusted=1.0, concept_alone=np.nan)
    for rows, expected in ((table, True), (some, False)):
        figure = erasure_figure(rows, layers=layers, targets=["arousal"], metric="ccc_matched")
        texts = " ".join(t.get_text() for t in figure.legends[0].get_texts()).replace("\n", " ")
        assert (ADJUSTED in texts) == expected
        assert ("the concept alone" in texts) == expected
        assert "nothing erased" in texts


def test_panels_have_one_scale_and_concepts_below_each_other():
    layers, targets = {"e": layer_names(3)}, ["arousal", "valence"]
    figure = erasure_figure(
        erasure_table(layers, targets, SEVEN[:3]), layers=layers, targets=targets, metric="ccc_matched"
    )
    assert len(figure.axes) == 6
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    heads = [t.get_text() for t in figure.texts if t.get_text().startswith("without")]
    assert heads == ["without loudness", "without f0", "without loudness + f0 + speech rate"]


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize(
    ("sizes", "targets", "n_concepts"),
    [((3,), TARGETS[0], 1), ((3, 25), TARGETS[0], 7), ((7,), TARGETS[2], 2), ((49,), TARGETS[1], 3)],
)
def test_no_text_lies_over_another(width, sizes, targets, n_concepts):
    layers = encoder_layers(*sizes)
    table = erasure_table(layers, targets, SEVEN[:n_concepts])
    figure = erasure_figure(table, layers=layers, targets=targets, metric="ccc_matched", width=width)
    assert_readable(figure, width)


def test_the_data_of_the_figure_are_described(without_concepts):
    paths = draw("erasure", [without_concepts])
    table = pd.read_csv(next(path for path in paths if path.suffix == ".csv"))
    assert differences("RUN/figures/erasure.csv", list(table.columns)) == {"undocumented": [], "missing": []}
    assert set(table["interval"]) == {"bca_95_speakers"}


def test_the_caption_names_the_concepts_and_how_often_directions_were_random(without_concepts):
    text = plot("erasure", study(without_concepts)).caption
    assert "what it linearly encodes of a concept: duration, gender, duration + gender (moment-matched CCC" in text
    assert "from the lowest to the highest of 5 repeats" in text
    assert (
        "adjusted for the layers by the maximum statistic over resamples of the speakers, and for the concepts" in text
    )


def test_a_report_has_the_section_only_where_concepts_were_erased(without_concepts, reported):
    found = study(without_concepts)
    (section,) = [s for s in make_sections(found, collect_findings(found)) if s.title == "Through what"]
    assert section.figure == "erasure"
    (table,) = section.tables
    assert len(table.rows) == len(found.targets) * len(CONCEPTS)
    cells = {(row[1], row[2]): dict(zip(table.header, row, strict=False)) for row in table.rows}
    rows = found.erasure[(found.erasure["target"] == "arousal") & (found.erasure["concept"] == "duration")]
    layer = best_layer(rows.set_index("layer")["plain"], metric=found.metric)
    row = rows[rows["layer"] == layer].iloc[0]
    shown = cells["arousal", "duration"]
    assert shown["layer"] == layer != EMPTY
    assert layer in LAYERS
    assert shown["removed (%)"] == f"{100 * row['fraction']:.0f}"
    assert shown["plain"].lstrip("0") == f"{row['plain']:.2f}".lstrip("0")
    assert cells["dominance", "duration"]["removed (%)"] == "–"  # nothing predicts it
    plain = study(reported)
    assert "Through what" not in {s.title for s in make_sections(plain, collect_findings(plain))}


@pytest.mark.parametrize(("fixture", "title"), [("timed", "When"), ("without_concepts", "Through what")])
def test_the_section_that_a_run_was_made_for_is_open(fixture, title, request, tmp_path):
    folder = copytree(request.getfixturevalue(fixture), tmp_path / "run")
    page = write_report(folder).read_text(encoding="utf-8")
    sections = page.split("<section")
    opened = [re.findall(r"<h2>([^<]*)</h2>", section)[0] for section in sections if "<details open>" in section]
    assert opened
    assert set(opened) == {title}  # on the page of each metric
