"""Scores against trained parameters: marks where the numbers are, one scale, nothing over anything."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable
from matplotlib.figure import Figure

from layerprobe.figures.plots.efficiency import efficiency_figure, plot_efficiency
from layerprobe.probe.exceptions import InputError


def table(regressors, targets):
    rng = np.random.default_rng(0)
    rows = []
    for k, regressor in enumerate(regressors):
        for target in targets:
            score = float(rng.uniform(0.2, 0.8))
            row = {"regressor": regressor, "target": target, "trainable_parameters": 10.0 ** (3 + 1.1 * k)}
            rows.append({**row, "estimate": score, "ci_low": score - 0.05, "ci_high": score + 0.07})
    return pd.DataFrame(rows)


def test_marks_lie_at_their_numbers_and_bars_at_their_intervals():
    rows = table(["small", "large"], ["valence"])
    rows.loc[1, ["ci_low", "ci_high"]] = np.nan
    ax = plot_efficiency(rows, Figure().add_subplot(), looks={"small": ("blue", "o"), "large": ("red", "s")})
    lines = [line.get_xydata().tolist() for line in ax.lines]
    first, second = rows.to_dict("records")
    x = first["trainable_parameters"]
    assert lines == [
        [[x, first["ci_low"]], [x, first["ci_high"]]],
        [[x, first["estimate"]]],
        [[second["trainable_parameters"], second["estimate"]]],
    ]
    assert ax.get_xscale() == "log"


def test_panels_have_both_scales_and_ticks_read_as_thousands_and_millions():
    figure = efficiency_figure(table(["a", "b", "c", "d"], ["arousal", "valence"]), metric="ccc_matched")
    assert len({ax.get_ylim() for ax in figure.axes}) == len({ax.get_xlim() for ax in figure.axes}) == 1
    texts = {text.get_text() for text in figure.axes[0].get_xticklabels()}
    assert {"1k", "1M"} <= texts
    assert not any("$" in text for text in texts)


def test_a_regressor_of_unknown_size_is_left_out_and_all_being_unknown_is_an_error():
    rows = table(["a", "b"], ["valence"])
    rows.loc[0, "trainable_parameters"] = np.nan
    figure = efficiency_figure(rows, metric="ccc")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["b"]
    with pytest.raises(InputError, match="No run records its number of trained parameters"):
        efficiency_figure(rows.assign(trainable_parameters=np.nan), metric="ccc")


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize(("n", "targets"), [(1, TARGETS[0]), (4, TARGETS[1]), (9, TARGETS[2])])
def test_no_text_lies_over_another(width, n, targets):
    names = [f"runs-{k}: facebook/hubert-large-ll60k + distilbert-base-uncased, trained" for k in range(n)]
    figure = efficiency_figure(table(names, list(targets)), metric="ccc_matched", width=width)
    assert_readable(figure, width)
