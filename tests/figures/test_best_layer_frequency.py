"""How often a layer wins: bars at the win rates, the best set in full colour, one scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable, encoder_layers, layer_names
from matplotlib.figure import Figure

from layerprobe.figures.plots.best_layer_frequency import best_layer_figure, plot_best_layer


def table(layers, targets):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"encoder": encoder, "target": target, "layer": name, "win_rate": rate, "in_best_set": rate > 0.2}
            for encoder, names in layers.items()
            for target in targets
            for name, rate in zip(names, rng.dirichlet(np.full(len(names), 0.3)), strict=True)
        ]
    )


def test_bars_are_as_high_as_the_win_rates_and_the_best_set_stands_out():
    layers = layer_names(3)
    rows = pd.DataFrame({"layer": layers[::-1], "win_rate": [0.7, 0.3, 0.0], "in_best_set": [True, False, False]})
    ax = plot_best_layer(rows, Figure().add_subplot(), layers=layers, colour="blue")
    assert [bar.get_height() for bar in ax.patches] == [0.0, 0.3, 0.7]
    assert [bar.get_x() + bar.get_width() / 2 for bar in ax.patches] == pytest.approx([0, 0.5, 1])
    assert [bar.get_alpha() == 1 for bar in ax.patches] == [False, False, True]


def test_without_a_best_set_all_bars_are_alike():
    rows = pd.DataFrame({"layer": layer_names(3), "win_rate": [0.5, 0.5, 0.0]})
    ax = plot_best_layer(rows, Figure().add_subplot(), layers=layer_names(3), colour="blue")
    assert len({bar.get_facecolor() for bar in ax.patches}) == 1


def test_panels_have_one_scale_and_encoders_without_resamples_are_left_out():
    layers = {"a": layer_names(3), "b": layer_names(7)}
    rows = table(layers, ["arousal", "valence"])
    figure = best_layer_figure(rows, layers={**layers, "absent": layer_names(4)}, targets=["arousal", "valence"])
    assert len(figure.axes) == 4
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert [text.get_text() for text in figure.texts[:2]] == ["a", "b"]


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize(("sizes", "targets"), [((3,), TARGETS[0]), ((49,), TARGETS[1]), ((3, 13, 25), TARGETS[2])])
def test_no_text_lies_over_another(width, sizes, targets):
    layers = encoder_layers(*sizes) | {"acoustic": ["log_mel", "mfcc", "f0", "loudness", "duration"]}
    figure = best_layer_figure(table(layers, targets), layers=layers, targets=list(targets), width=width)
    assert_readable(figure, width)
