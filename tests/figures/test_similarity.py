"""Maps of similarity: a map per pair, one scale, layers at the places of the axes, strips for the ratings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.figure_checks import PRINTED, TARGETS, assert_readable, encoder_layers, layer_names
from matplotlib.figure import Figure

from layerprobe.figures.plots.similarity import plot_ratings_strip, plot_similarity, similarity_figure


def table(layers, targets=()):
    rng = np.random.default_rng(0)
    sources = {**layers, **({"ratings": list(targets)} if targets else {})}
    return pd.DataFrame(
        [
            {
                "measure": "cka",
                "encoder_a": a,
                "layer_a": x,
                "encoder_b": b,
                "layer_b": y,
                "value": rng.uniform(-0.1, 1),
            }
            for a, names_a in sources.items()
            for b, names_b in sources.items()
            for x in names_a
            for y in names_b
        ]
    )


def maps(figure):
    return [ax for ax in figure.axes if any(c.get_gid() == "map" for c in ax.collections)]


def values_of(ax):
    (mesh,) = ax.collections
    return mesh.get_array()


def test_rows_of_the_map_are_layers_of_the_first_encoder_from_below():
    rows = pd.DataFrame({"layer_a": ["0", "0", "1", "1"], "layer_b": ["0", "1", "0", "1"],
                         "value": [0.1, 0.2, 0.3, -0.4]})  # fmt: skip
    ax = plot_similarity(rows, Figure().add_subplot(), layers_a=["0", "1"], layers_b=["0", "1"], limits=(0.0, 1.0))
    np.testing.assert_allclose(values_of(ax), [[0.1, 0.2], [0.3, -0.4]])  # values are kept, colours are cut
    assert ax.collections[0].get_clim() == (0.0, 1.0)
    low, high = ax.get_ylim()
    assert low < high


def test_final_is_separate_on_both_axes():
    layers = layer_names(3, final=True)
    rows = table({"e": layers})
    ax = plot_similarity(rows, Figure().add_subplot(), layers_a=layers, layers_b=layers, limits=(0.0, 1.0))
    values = values_of(ax)
    assert values.shape == (5, 5)
    assert values.mask[3].all()
    assert values.mask[:, 3].all()
    assert values.mask.sum() == 9


def test_a_strip_has_a_column_for_each_target():
    layers = layer_names(3)
    rows = pd.DataFrame([{"layer_a": n, "layer_b": t, "value": k + j / 10} for k, n in enumerate(layers)
                         for j, t in enumerate(("v", "a"))])  # fmt: skip
    ax = plot_ratings_strip(rows, Figure().add_subplot(), layers=layers, targets=["a", "v"], limits=(0.0, 1.0))
    np.testing.assert_allclose(values_of(ax), [[0.1, 0], [1.1, 1], [2.1, 2]])


@pytest.mark.parametrize(("n_encoders", "n_maps"), [(1, 1), (2, 3), (3, 6)])
def test_each_pair_has_a_map_and_all_maps_one_scale(n_encoders, n_maps):
    layers = encoder_layers(*(3, 13, 7)[:n_encoders])
    figure = similarity_figure(table(layers, ["arousal"]), layers={**layers, "ratings": ["arousal"]}, measure="cka")
    panels = maps(figure)
    assert len(panels) == n_maps + n_encoders
    scales = [ax.collections[0].get_clim() for ax in panels]
    assert sorted(set(scales))[-1] == (0.0, 1.0)
    assert scales.count((0.0, 1.0)) == n_maps
    assert len(set(scales)) == 2


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize(
    ("sizes", "targets"),
    [((3,), TARGETS[0]), ((25,), TARGETS[1]), ((49,), TARGETS[2]), ((3, 13, 25), TARGETS[1]), ((13, 49), ())],
)
def test_no_text_lies_over_another(width, sizes, targets):
    layers = encoder_layers(*sizes)
    figure = similarity_figure(table(layers, targets), layers=layers, measure="cka", width=width)
    assert_readable(figure, width)


def test_features_have_their_names_next_to_an_encoder():
    layers = {"acoustic": ["log_mel", "mfcc", "f0", "loudness", "duration"], "e": layer_names(13)}
    figure = similarity_figure(table(layers, ["arousal"]), layers=layers, measure="cka")
    assert_readable(figure)
    assert [t.get_text() for t in maps(figure)[0].get_yticklabels()][:2] == ["log mel", "mfcc"]
