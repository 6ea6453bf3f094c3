"""Tables of scores over time to draw, and bins of each kind."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from layerprobe.analysis.time.bins import TimeBins

CHANCE = 0.12


def position_bins(n):
    edges = np.linspace(0, 1, n + 1)
    names = tuple(f"{a:.2f}–{b:.2f}" for a, b in pairwise(edges))
    return TimeBins("position", names, tuple(pairwise(edges.tolist())))


def onset_bins(n, width=0.5):
    low = [width * k for k in range(n)]
    return TimeBins("onset", tuple(f"{a:g}–{a + width:g}" for a in low), tuple((a, a + width) for a in low))


def label_bins(*names):
    return TimeBins("label", names)


def time_table(bins, layers, targets, *, seed=0, best=0.6, unequal=False):
    """Scores that rise to a peak in one layer and bin of each target; the first and last bins are not above chance."""
    rng, rows, n_bins = np.random.default_rng(seed), [], len(bins.names)
    for encoder, names in layers.items():
        for t, target in enumerate(targets):
            peak, middle = (1 + t) % n_bins, len(names) * (t + 1) // (len(targets) + 1)
            for k, layer in enumerate(names):
                far = np.abs(np.arange(n_bins) - peak) / n_bins
                values = best * np.exp(-4 * far**2 - 3 * ((k - middle) / len(names)) ** 2 - 2 * far)
                values += rng.normal(scale=0.02, size=n_bins)
                for b, (name, value) in enumerate(zip(bins.names, values, strict=True)):
                    rows.append(
                        {
                            "encoder": encoder, "target": target, "layer": layer, "bin": name, "value": value,
                            "ci_low": value - 0.08, "ci_high": value + 0.08, "interval": "bca_95_speakers",
                            "chance": CHANCE, "in_best_set": abs(b - peak) <= 1,
                            "n_utterances": 1200 - (900 * b // n_bins if unequal else 0), "n_speakers": 40,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)
