"""Figures by one call each, of a run with everything: figures, panels in the user's axes, files and their tables."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import assert_readable
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.analysis.study import study
from layerprobe.figures import public
from layerprobe.figures.axes import PANELS
from layerprobe.figures.captions import selectors
from layerprobe.figures.draw import PLOTS, draw, plot, select
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, SCORE_COLOURS
from layerprobe.figures.tables import TABLES, NothingToPlotError
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_run

FIGURES = {name: getattr(public, name.replace("-", "_")) for name in PLOTS}
OF_TARGETS = [name for name in PLOTS if name != "similarity"]


@pytest.fixture(scope="module")
def read(reported):
    return study([reported])


@pytest.fixture(scope="module")
def again(reported, tmp_path_factory):
    return Path(shutil.copytree(reported, tmp_path_factory.mktemp("copies") / "again"))


@pytest.fixture
def runs(reported, again, timed, without_concepts, request):
    """The run that has everything to plot, or one that has what another figure needs."""
    others = {"gain": [reported, again], "time-map": timed, "time-curve": timed, "erasure": without_concepts}
    return others.get(request.node.callspec.params["name"], reported)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_figure_has_a_table_a_panel_and_a_function():
    assert set(PLOTS) == set(PANELS) == set(TABLES) == set(FIGURES)


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_is_returned_and_nothing_is_written(reported, runs, name):
    before = files(reported)
    figure = FIGURES[name](runs, width="183mm")
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == pytest.approx(183 / 25.4)
    assert_readable(figure, 183 / 25.4)
    assert files(reported) == before


@pytest.mark.parametrize("name", PLOTS)
def test_a_panel_goes_into_the_users_axes(reported, runs, name):
    own = Figure(figsize=(6, 3))
    ax, other = own.subplots(1, 2)
    before = files(reported)
    assert FIGURES[name](runs, ax=ax) is ax
    assert ax.has_data() or ax.patches
    assert not other.has_data()
    assert own.axes == [ax, other]
    assert files(reported) == before


def test_a_panel_goes_into_axes_of_a_subfigure(reported):
    part = Figure(figsize=(6, 3)).subfigures(1, 2)[0]
    ax = public.heatmap(reported, ax=part.subplots())
    assert isinstance(ax, Axes)
    assert ax.patches


def test_a_panel_shows_the_target_that_is_named_with_the_colours_of_the_figure(reported, read):
    ax = Figure(figsize=(6, 3)).add_subplot()
    public.heatmap(reported, ax=ax, target="valence", encoder="hubert", controls="full")
    controls = ["random initialisation", "permuted ratings", "permuted by speaker"]
    assert [label.get_text() for label in ax.get_yticklabels()][:4] == ["valence", *controls]
    table = TABLES["heatmap"](read)
    norm = matplotlib.colors.Normalize(0, table["value"].max())
    row = table.query("target == 'valence' and control == 'none' and layer == '3'").iloc[0]
    (cell,) = [p for p in ax.patches if p.get_gid() == "cell-3:hubert:none:valence:3"]
    assert cell.get_facecolor() == pytest.approx(matplotlib.colormaps[SCORE_COLOURS](norm(row["value"])))

    public.heatmap(reported, ax=(ax := Figure(figsize=(6, 3)).add_subplot()), target="valence")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["valence"]  # controls are condensed

    public.gain_over_random(reported, ax=(ax := Figure(figsize=(6, 3)).add_subplot()), target="valence")
    gains = TABLES["gain-over-random"](read)
    furthest = gains["value"].abs().max()
    value = gains.query("target == 'valence' and layer == '3'")["value"].iloc[0]
    (cell,) = [p for p in ax.patches if p.get_gid() == "cell-3:hubert:none:valence:3"]
    scale = matplotlib.colors.Normalize(-furthest, furthest)
    assert cell.get_facecolor() == pytest.approx(matplotlib.colormaps[DIFFERENCE_COLOURS](scale(value)))


def test_a_panel_of_curves_has_its_target_and_labels_for_a_legend(reported, read):
    ax = public.curves(reported, ax=Figure().add_subplot(), target="dominance")
    assert ax.get_title("center") == "dominance"
    line = next(line for line in ax.lines if str(line.get_label()).startswith("hubert (ribbon"))
    rows = read.table.query("encoder == 'hubert' and target == 'dominance' and control == 'none' and probe == 'ridge'")
    np.testing.assert_allclose(line.get_ydata(), rows["value"])


def test_a_panel_of_layer_weights_has_weights_and_contributions(reported, read):
    ax = public.layer_weights(reported, ax=Figure().add_subplot(), target="valence")
    rows = read.weights_table.query("target == 'valence'")
    for quantity in ("weight", "contribution"):
        (line,) = [line for line in ax.lines if line.get_label() == quantity]
        np.testing.assert_allclose(line.get_ydata(), rows[quantity])


def test_a_style_changes_width_and_font_of_a_figure_and_of_its_file(reported, tmp_path):
    figure = public.curves(reported, style="nature", out=tmp_path / "curves.pdf")
    assert figure.get_figwidth() == pytest.approx(183 / 25.4)
    assert figure.axes[0].yaxis.label.get_fontsize() == 7
    narrow = public.curves(reported, style="interspeech", width="column")
    assert narrow.get_figwidth() == pytest.approx(80 / 25.4)
    assert_readable(narrow, 80 / 25.4)


@pytest.mark.parametrize("name", PLOTS)
def test_a_caption_states_the_unit_and_the_number_of_utterances(runs, name):
    caption = plot(name, study(runs)).caption
    assert caption.endswith(".")
    if name != "similarity":
        assert "moment-matched CCC" in caption
        assert "n = 240 held-out utterances of 24 speakers" in caption


def test_a_caption_names_the_layer_that_a_mix_selects():
    weights = pd.DataFrame({"encoder": "e", "target": ["arousal"] * 2, "layer": ["0", "1"], "weight": [0.04, 0.96]})
    sentence = (
        "For arousal, the mix of e selects layer 1 (weight 0.96): the weights of the other layers were not measured."
    )
    assert selectors(weights) == [sentence]
    assert selectors(weights.assign(weight=0.5)) == []


@pytest.mark.parametrize("name", OF_TARGETS)
def test_a_figure_can_show_one_target(runs, name, tmp_path):
    FIGURES[name](runs, target="valence", out=tmp_path / f"{name}.svg")
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert set(table["target"]) == {"valence"}
    assert len(table) < len(TABLES[name](study(runs)))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".svg"]


def test_a_run_in_memory_a_path_and_a_list_are_the_same_figure(reported, tmp_path):
    for k, runs in enumerate((reported, str(reported), [reported], read_run(reported))):
        public.curves(runs, out=tmp_path / str(k))
    pages = {(tmp_path / str(k) / "curves.svg").read_bytes() for k in range(4)}
    assert len(pages) == 1
    assert pages == {draw("curves", [reported])[2].read_bytes()}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"target": "joy"}, "target 'joy' is not in .*; choose one of arousal, valence"),
        ({"encoder": "wavlm"}, "encoder 'wavlm' is not in .*; choose one of hubert"),
        ({"width": "broad"}, "width 'broad' is unknown"),
        ({"style": "science"}, "style 'science' is unknown; choose one of interspeech, ieee, nature, slides"),
        ({"controls": "all"}, "controls 'all' is unknown; choose one of condensed, full"),
        ({"metric": "f2"}, "metric 'f2' is unknown"),
        ({"out": "heatmap.jpg"}, "ends in .jpg; a figure is saved as png, pdf, svg, or into a folder"),
    ],
)
def test_a_wrong_argument_is_refused(reported, choices, message):
    with pytest.raises(InputError, match=message):
        public.heatmap(reported, **choices)


def test_axes_exclude_a_width_and_a_file_and_no_run_is_refused(reported, tmp_path):
    ax = Figure().add_subplot()
    for choices in ({"width": "column"}, {"style": "ieee"}, {"out": tmp_path / "x.png"}):
        with pytest.raises(InputError, match="width, style and out need a figure of their own"):
            public.heatmap(reported, ax=ax, **choices)
    with pytest.raises(InputError, match="No run is given"):
        public.heatmap([])


def test_a_figure_without_results_names_what_is_missing(reported):
    with pytest.raises(NothingToPlotError, match="No encoder of the run has stacked layers"):
        public.depth(reported, metric="uar")


@pytest.mark.parametrize("name", PLOTS)
def test_tables_of_figures_have_their_documented_columns_and_no_warning(runs, name):
    read = study(runs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = TABLES[name](read)
        plotted = PLOTS[name](read, None, select(read)).table
    documented = " ".join(TABLES[name].__doc__.split())
    for column in table:
        assert column in documented, column
    assert not table.isna().all().any(), list(table.columns[table.isna().all()])
    assert list(plotted) == list(table)


def test_the_tables_state_which_rows_have_intervals_and_which_ranges(read):
    table = TABLES["heatmap"](read)
    assert set(table["encoder"]) == {"hubert", ""}
    assert set(table.loc[table["encoder"] == "", "baseline"]) == set(table["baseline"]) - {""}
    table = table[table["encoder"] != ""]
    assert not table.duplicated(["encoder", "control", "target", "layer"]).any()
    trained = table[table["control"] == "none"]
    levels = read.permutations.set_index(["target", "layer"])["chance"]
    expected = [levels[pair] for pair in zip(trained["target"], trained["layer"], strict=True)]
    np.testing.assert_allclose(trained["chance"], expected)
    assert table.loc[table["control"] != "none", "chance"].isna().all()
    assert set(trained["interval"]) == {"bca_95_speakers"}
    assert trained["in_best_set"].notna().all()
    chance = table[table["control"] == "permuted"]
    assert set(chance["interval"]) == {""}
    assert chance["in_best_set"].isna().all()
    assert (chance["draw_min"] <= chance["draw_max"]).all()
    assert chance[["fold_min", "ci_low"]].isna().all(axis=None)
    curves = TABLES["curves"](read)
    assert set(curves.loc[curves["encoder"] == "", "baseline"]) == set(curves["baseline"]) - {""}
    depth = TABLES["depth"](read)
    methods = depth.dropna(subset=["ci_low"]).groupby("measure")["interval"].agg(set).to_dict()
    assert methods["weight_centre"] == {"jackknife_95_folds"}
    assert methods["score_centre"] == {"bca_95_speakers"}
    differences = depth[depth["reference_target"] != ""]
    assert {tuple(pair) for pair in differences[["target", "reference_target"]].to_numpy()} >= {("valence", "arousal")}
    assert differences["p_value"].notna().any()
