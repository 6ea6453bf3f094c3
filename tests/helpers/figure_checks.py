"""Tables of scores to draw, and the check that every text of a figure can be read."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd

from layerprobe.figures.layout.width import WIDTHS, parse_width

SIZES = [3, 7, 13, 25, 49]
PRINTED = [None, *map(parse_width, (*WIDTHS, "120mm"))]  # inches; None is the natural width


TARGETS = [
    ("arousal",),
    ("arousal", "valence", "dominance"),
    ("arousal", "valence", "dominance", "dominance_residual", "engagement", "naturalness_of_the_voice", "trust", "t7"),
]


CONTROLS = ("none", "random_init", "permuted")


def layer_names(n, *, final=False):
    return [*map(str, range(n)), *(["final"] if final else [])]


def encoder_layers(*sizes):
    """Encoders with names as long as they are on the hub; every other one has a final layer."""
    return {f"facebook/hubert-{n}-ls960-{k}": layer_names(n, final=k % 2 == 1) for k, n in enumerate(sizes)}


def table(layers, targets, *, controls=CONTROLS, encoder="e", seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {"encoder": encoder, "control": c, "target": t, "layer": name, "value": rng.uniform(-0.05, 0.9)}
        for c in controls
        for t in targets
        for name in layers
    ]
    return pd.DataFrame(rows)


def tables(layers, targets, **choices):
    return pd.concat([table(names, targets, encoder=e, **choices) for e, names in layers.items()])


def visible_texts(figure):
    """Every visible text with its box in pixels; figures are laid out before they are returned."""
    texts = list(figure.texts) + [text for legend in figure.legends for text in legend.get_texts()]
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax._left_title, ax._right_title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            texts += [label for t in ticks for label in (t.label1, t.label2)]
    return [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text().strip() and t.get_visible()]


def with_references(rows, *, chance=0.1):
    """Rows of a heatmap with a chance level and three baselines."""
    targets = list(dict.fromkeys(rows["target"]))
    levels = [
        {"encoder": "", "control": "none", "baseline": name, "target": target, "layer": "", "value": 0.3}
        for name in ("single_rater", "text_only", "duration_loudness")
        for target in targets
    ]
    rows = rows.assign(baseline="", chance=np.where(rows["control"] == "none", chance, np.nan))
    return pd.concat([rows, pd.DataFrame(levels).assign(chance=np.nan)], ignore_index=True)


def assert_readable(figure, width=None, *, least=5.0):
    """No text lies over another or over the axes of others, none is below ``least`` points, and all is on the sheet."""
    texts = visible_texts(figure)
    names, boxes = [name for name, _ in texts], np.array([box.padded(-0.5).extents for _, box in texts])
    x0, y0, x1, y1 = boxes.T
    over = (x0[:, None] < x1) & (x0 < x1[:, None]) & (y0[:, None] < y1) & (y0 < y1[:, None])
    pairs = np.argwhere(np.triu(over, 1))
    assert [(names[i], names[j]) for i, j in pairs] == []
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(ax.get_window_extent()) for ax in figure.axes)
    sizes = [t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip()]
    assert min(sizes) >= least
    panels = [ax.get_window_extent() for ax in figure.axes]
    assert not any(a.padded(-0.5).overlaps(b.padded(-0.5)) for k, a in enumerate(panels) for b in panels[k + 1 :])
    if width is None:
        return
    assert figure.get_figwidth() == width
    right, top = figure.bbox.size
    outside = (x0 < 0) | (y0 < 0) | (x1 > right) | (y1 > top)
    assert [names[k] for k in np.flatnonzero(outside)] == []
