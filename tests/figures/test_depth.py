"""The depth plot: markers at estimates, whiskers inside the limits, arrows where an interval reaches beyond."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from layerprobe.figures.plots.depth import UNTRAINED, depth_figure, plot_contrast, plot_depth

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
         "ci_low": x - 0.1, "ci_high": x + 0.1, "p_value": rng.uniform() ** 4}
        for n in ("valence − arousal", "valence text residual − arousal text residual")
        for e in encoders for c in ("none", "random_init", "difference") for m in MEASURES
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


def test_differences_have_a_group_for_each_name_and_their_p_values():
    rows = contrasts(["e"]).assign(p_value=[0.0321, 0.0004, np.nan] * 6)
    ax = plot_contrast(rows, Figure().add_subplot(), encoders=["e"], colours={"e": "blue"}, limits=(-1, 1))
    texts = [text.get_text() for text in ax.texts]
    assert [t for t in texts if "−" in t] == ["valence − arousal", "valence text residual − arousal text residual"]
    assert (texts.count("p = .032"), texts.count("p < .001")) == (6, 6)
    assert len(artists(ax, "estimate")) == 18


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("n_encoders", [1, 3])
@pytest.mark.parametrize("targets", TARGETS)
def test_no_text_lies_over_another(width, n_encoders, targets):
    encoders = ENCODERS[:n_encoders]
    contrast = contrasts(encoders) if len(targets) > 1 else None
    figure = depth_figure(depths(encoders, targets), contrast, width=width)
    assert_readable(figure, width)
    assert len(figure.axes) == 1 + (contrast is not None)
