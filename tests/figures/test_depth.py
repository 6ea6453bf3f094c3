"""The depth plot: markers at estimates, whiskers inside the limits, arrows where an interval reaches beyond."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from layerprobe.figures.plots.depth import UNTRAINED, depth_figure, plot_depth, plot_depth_difference

MEASURES = ("score_centre", "weight_centre", "expected_layer")
ENCODERS = ["facebook/hubert-base-ls960", "facebook/hubert-large-ll60k", "microsoft/wavlm-base-plus"]


def depths(encoders, targets):
    rng = np.random.default_rng(0)
    rows = [
        {"encoder": e, "control": c, "target": t, "measure": m, "estimate": (x := rng.uniform(0.2, 0.8)),
         "ci_low": x - rng.uniform(0, 0.5), "ci_high": x + rng.uniform(0, 0.5)}
        for e in encoders for c in ("none", "random_init") for t in targets for m in MEASURES
    ]  # fmt: skip
    return pd.DataFrame(rows)


def contrasts(encoders):
    rng = np.random.default_rng(1)
    rows = [
        {"encoder": e, "control": c, "measure": m, "name": n, "estimate": (x := rng.normal(0, 0.2)),
         "ci_low": x - 0.1, "ci_high": x + 0.1, "p_adjusted": rng.uniform() ** 4}
        for n in ("valence − arousal", "valence text residual − arousal text residual")
        for e in encoders for c in ("none", "random_init", "difference") for m in ("shift", *MEASURES)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def plotted(**columns):
    row = {"encoder": "e", "control": "none", "target": "arousal", "measure": "score_centre", **columns}
    ax = Figure().add_subplot()
    return plot_depth(pd.DataFrame([row]), ax, encoders=["e"], targets=["arousal"], colours={"e": "#123456"})


def artists(ax, gid):
    return [line for line in ax.lines if line.get_gid() == gid]


def test_a_marker_lies_at_the_estimate_and_its_whisker_over_the_interval():
    ax = plotted(estimate=0.4, ci_low=0.3, ci_high=0.6)
    (mark,), (whisker,) = artists(ax, "estimate"), artists(ax, "whisker")
    assert list(mark.get_xdata()) == [0.4]
    assert list(whisker.get_xdata()) == [0.3, 0.6]
    assert set(whisker.get_ydata()) == set(mark.get_ydata())
    assert artists(ax, "arrow") == []


@pytest.mark.parametrize(
    ("low", "high", "whisker", "arrows"),
    [(-0.5, 0.6, [0, 0.6], [(0, "<")]), (0.3, 1.2, [0.3, 1], [(1, ">")]), (-9, 9, [0, 1], [(0, "<"), (1, ">")])],
)
def test_intervals_beyond_the_encoder_are_cut_with_an_arrow(low, high, whisker, arrows):
    ax = plotted(estimate=0.4, ci_low=low, ci_high=high)
    assert list(artists(ax, "whisker")[0].get_xdata()) == whisker
    assert [(line.get_xdata()[0], line.get_marker()) for line in artists(ax, "arrow")] == arrows


def test_an_estimate_beyond_the_encoder_has_the_arrow_alone():
    ax = plotted(estimate=1.3, ci_low=1.1, ci_high=1.6)
    assert artists(ax, "estimate") == artists(ax, "whisker") == []
    assert [(line.get_xdata()[0], line.get_marker()) for line in artists(ax, "arrow")] == [(1, ">")]


def test_without_an_interval_the_marker_stands_alone():
    ax = plotted(estimate=0.4, ci_low=np.nan, ci_high=np.nan)
    assert len(artists(ax, "estimate")) == 1
    assert artists(ax, "whisker") == artists(ax, "arrow") == []


def test_random_weights_are_hollow_and_grey_and_measures_have_their_markers():
    rows = depths(["e"], ["arousal"])
    ax = plot_depth(rows, Figure().add_subplot(), encoders=["e"], targets=["arousal"], colours={"e": "#123456"})
    marks = artists(ax, "estimate")
    assert [line.get_marker() for line in marks] == ["o", "o", "s", "s", "D", "D"]
    assert [to_hex(line.get_markeredgecolor()) for line in marks] == ["#123456", to_hex(UNTRAINED)] * 3
    assert [to_hex(line.get_markerfacecolor()) for line in marks] == ["#123456", "#ffffff"] * 3
    assert np.all(np.diff([line.get_ydata()[0] for line in marks]) > 0)  # from the top, no two in one place


def differences(rows, ax=None):
    return plot_depth_difference(rows, ax or Figure().add_subplot(), encoders=["e"], colours={"e": "blue"})


def test_differences_are_shifts_with_a_group_for_each_name_and_their_adjusted_p_values():
    rows = contrasts(["e"])
    shift = rows["measure"] == "shift"
    rows.loc[shift, "p_adjusted"] = [0.0321, 0.0004, np.nan] * 2
    ax = differences(rows)
    texts = [text.get_text() for text in ax.texts]
    assert [t for t in texts if "−" in t] == ["valence − arousal", "valence text residual − arousal text residual"]
    assert (texts.count("p = .032"), texts.count("p < .001")) == (2, 2)
    marks = artists(ax, "estimate")
    np.testing.assert_allclose([line.get_xdata()[0] for line in marks], rows.loc[shift, "estimate"])


def test_an_unknown_shift_is_a_dash_and_a_wide_one_is_cut():
    row = {"encoder": "e", "control": "none", "measure": "shift", "name": "valence − arousal"}
    unknown = {"estimate": np.nan, "ci_low": np.nan, "ci_high": np.nan, "p_adjusted": np.nan}
    ax = differences(pd.DataFrame([row | unknown]))
    assert [t.get_text() for t in ax.texts] == ["valence − arousal", "–"]
    assert artists(ax, "estimate") == []
    wide = {"estimate": 0.1, "ci_low": -0.9, "ci_high": 0.3, "p_adjusted": 0.5}
    assert [line.get_marker() for line in artists(differences(pd.DataFrame([row | wide])), "arrow")] == ["<"]


def test_the_differences_lie_above_the_depths_in_the_same_order():
    figure = depth_figure(depths(ENCODERS, ["arousal", "valence"]), contrasts(ENCODERS))
    above, below = figure.axes
    assert above.get_position().y0 > below.get_position().y1
    names = [[t.get_text() for t in ax.get_yticklabels()] for ax in (above, below)]
    assert names[0] == names[1][: len(names[0])] == names[0][: len(ENCODERS)] * 2


def test_an_encoder_keeps_the_colour_that_it_has_in_other_figures():
    colours = {name: f"#{k}{k}{k}{k}{k}{k}" for k, name in enumerate(ENCODERS, 1)}
    figure = depth_figure(depths(ENCODERS[1:2], ["arousal"]), encoders=ENCODERS[1:2], colours=colours)
    marks = artists(figure.axes[0], "estimate")
    assert {to_hex(mark.get_color()) for mark in marks} == {colours[ENCODERS[1]], to_hex(UNTRAINED)}


def test_many_encoders_and_targets_fit_on_a_page():
    encoders = [*ENCODERS, "openai/whisper-large-v3", "facebook/wav2vec2-base"]
    targets = ["arousal", "valence", "dominance", "trust"]
    plain = contrasts(encoders)
    plain = plain[plain["name"] == "valence − arousal"]
    figure = depth_figure(depths(encoders, targets), plain)
    assert figure.get_size_inches()[1] < 11.7  # A4
    assert_readable(figure, None)


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("n_encoders", [1, 3])
@pytest.mark.parametrize("targets", TARGETS)
def test_no_text_lies_over_another(width, n_encoders, targets):
    encoders = ENCODERS[:n_encoders]
    contrast = contrasts(encoders) if len(targets) > 1 else None
    figure = depth_figure(depths(encoders, targets), contrast, width=width)
    assert_readable(figure, width)
    assert len(figure.axes) == 1 + (contrast is not None)
