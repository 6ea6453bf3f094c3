"""Depth of targets: centres of gravity on relative depth, which is 0 at the input of the first block and 1 at the end.

Whether one target lies deeper than another is tested by the shift between their profiles (`analysis.layers.shift`),
because a centre of gravity moves with the level of a profile, too. Three further measures describe the depth of each
target (after Tenney et al., 2019), and weigh the layers differently:

* ``score_centre``: the mean depth of the layers, weighted by their scores above chance, which is 0;
* ``weight_centre``: the mean depth of the layers, weighted by the weights of the weighted sum of standardised layers;
* ``expected_layer``: the mean depth of the layers, weighted by the gain of the mix of layers 0 to l over that of layers
  0 to l - 1. The running maximum is taken, so that noise is no loss; the sum of gains over layer 0 is the headroom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import (
    BCA_SPEAKERS,
    JACKKNIFE_FOLDS,
    PERCENTILE_SPEAKERS,
    BootstrapSample,
    Estimate,
)
from layerprobe.probe.layer_names import FINAL, is_stack, relative_depth
from layerprobe.probe.tasks.targets import TEXT_RESIDUAL

ROUNDING = 1e-9  # of depths and scores, whose unit is 1
HYPOTHESIS = ("valence", "arousal")  # hypothesis: the first lies deeper than the second (arXiv 2305.19184)
CHANCE_IS_ZERO = ("ccc_matched", "ccc", "pearson", "r2")  # metrics whose scores have a centre of gravity
SHIFT = "shift"
MEASURES = {
    SHIFT: "shift between the profiles over layers",
    "score_centre": "centre of gravity of the layers' scores",
    "weight_centre": "centre of gravity of the layer weights",
    "expected_layer": "expected layer",
}
INTERVALS = {  # method of the interval of each measure, a key of `INTERVAL_NAMES`
    SHIFT: PERCENTILE_SPEAKERS,
    "score_centre": BCA_SPEAKERS,
    "weight_centre": JACKKNIFE_FOLDS,
    "expected_layer": BCA_SPEAKERS,
}
CONTRAST_COLUMNS = [
    *("encoder", "control", "measure", "deeper", "shallower", "name", "n_blocks", "detectable"),
    *("estimate", "ci_low", "ci_high", "p_value"),
]


@dataclass(frozen=True)
class Depth:
    """One measure of depth of one target, with what a paired difference needs."""

    encoder: str
    control: str  # "none", or "random_init"
    target: str
    measure: str  # a key of `MEASURES`
    sampled: BootstrapSample | None  # in bootstrap resamples of the speakers; None of weights
    folds: np.ndarray | None  # of weights: (n_folds,), each fitted without that fold's speakers
    headroom: Estimate | None = None  # of the expected layer: gain of the best mix over layer 0

    def less(self, other: Depth) -> Estimate:
        """Return the paired difference of two depths by the same measure.

        Raises:
            ValueError: if the measures differ
        """
        if self.sampled is not None and other.sampled is not None:
            return (self.sampled - other.sampled).one()
        if self.folds is not None and other.folds is not None:
            return jackknifed(self.folds - other.folds)
        raise ValueError(f"{self.measure} and {other.measure} are different measures, which have no paired difference")

    def estimate(self) -> Estimate:
        """Return the depth with its interval; that a depth is 0 is no hypothesis, so its p-value is of no use."""
        return self.sampled.one() if self.sampled is not None else jackknifed(np.asarray(self.folds))


def depths(
    bootstrap: BootstrapScores, weights: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str]
) -> list[Depth]:
    """Return every measure of depth of every target in every encoder, trained and randomly initialised.

    Args:
        bootstrap: scores of a metric in `CHANCE_IS_ZERO`
        weights: tidy rows of layer weights
        layers: for each encoder its layers in order; features that are not stacked have no depth
        targets: rated targets
    """
    found = []
    for encoder, names in layers.items():
        if not is_stack(names):
            continue
        blocks = [name for name in names if name != FINAL]
        depth = relative_depth(blocks)
        for control in ("none", "random_init"):
            for target in targets:
                labels = {"encoder": encoder, "control": control, "target": target}
                key = encoder, control, target
                alone = bootstrap.of(blocks, probe="ridge", **labels)
                if alone is not None:
                    centre = alone.map(lambda scores, depth=depth: score_centre(scores, depth))  # type: ignore[misc]
                    found.append(Depth(*key, "score_centre", centre, None))
                folds = _weight_centres(weights, labels, blocks, depth)
                if folds is not None:
                    found.append(Depth(*key, "weight_centre", None, folds))
                below = bootstrap.of(blocks, probe="cumulative_mix", **labels)
                if below is not None:
                    layer = below.map(lambda scores, depth=depth: expected_layer(scores, depth))  # type: ignore[misc]
                    gain = below.map(headroom).one()
                    found.append(Depth(*key, "expected_layer", layer, None, gain))
    return found


def contrasts(depths: list[Depth]) -> pd.DataFrame:
    """Return the difference of depths between the targets of the hypothesis, for each encoder and measure.

    Returns:
        `CONTRAST_COLUMNS`; ``control`` is ``none``, ``random_init``, or ``difference`` for the trained minus the
        randomly initialised encoder, and ``n_blocks, detectable`` are of the shift alone. There are further rows for
        the text residuals of both targets where the run has them
    """
    by_key = {(d.encoder, d.control, d.target, d.measure): d for d in depths}
    rows = []
    for deeper, shallower, name in hypothesis_pairs():
        for (encoder, control, target, measure), depth in by_key.items():
            other = by_key.get((encoder, control, shallower, measure))
            if target != deeper or other is None:
                continue
            label = {"encoder": encoder, "measure": measure, "deeper": deeper, "shallower": shallower, "name": name}
            rows.append({**label, "control": control, **vars(depth.less(other))})
            first, second = (by_key.get((encoder, "random_init", t, measure)) for t in (deeper, shallower))
            if control == "none" and first is not None and second is not None and first.sampled and second.sampled:
                trained, untrained = depth.sampled - other.sampled, first.sampled - second.sampled  # type: ignore[operator]
                rows.append({**label, "control": "difference", **vars((trained - untrained).one())})
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)


def hypothesis_pairs() -> Iterator[tuple[str, str, str]]:
    """Yield the targets of the hypothesis and then their text residuals: the deeper, the shallower, and their name."""
    for ending in ("", TEXT_RESIDUAL):
        deeper, shallower = (target + ending for target in HYPOTHESIS)
        yield deeper, shallower, f"{deeper} − {shallower}".replace("_", " ")


def score_centre(scores: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the mean depth weighted by the scores above 0; NaN where no layer scores above 0, up to rounding.

    Args:
        scores: ``(…, n_layers)``
        depth: ``(n_layers,)``

    >>> round(float(score_centre(np.array([0.2, 0.6, -0.1]), np.array([0.0, 0.5, 1.0]))), 6)
    0.375
    """
    mass = np.maximum(scores, 0.0)
    total = mass.sum(axis=-1)
    total = np.where(total > ROUNDING, total, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(mass @ depth / total)


def expected_layer(cumulative: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the mean depth weighted by the gain of each layer over the mix of those below; NaN without any gain.

    Args:
        cumulative: scores of the mixes of layers 0 to l, ``(…, n_layers)``
        depth: ``(n_layers,)``

    >>> gains = expected_layer(np.array([0.2, 0.4, 0.3, 0.6]), np.array([0.0, 1 / 3, 2 / 3, 1.0]))  # of .2, 0 and .2
    >>> round(float(gains), 6)
    0.666667
    """
    gains = np.diff(np.maximum.accumulate(cumulative, axis=-1), axis=-1)
    total = gains.sum(axis=-1)
    total = np.where(total > ROUNDING, total, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(gains @ depth[1:] / total)


def headroom(cumulative: np.ndarray) -> np.ndarray:
    """Return the gain of the best mix of layers 0 to l over layer 0; ``cumulative`` is as in `expected_layer`."""
    return np.asarray(cumulative.max(axis=-1) - cumulative[..., 0])


def jackknifed(folds: np.ndarray) -> Estimate:
    """Return the mean over fits that each leave out a fold of speakers, with its delete-a-group jackknife interval.

    Fits have most of their speakers in common and differ little, for which the jackknife corrects: the variance is
    (K - 1) / K times the sum of squares, with Student's t of K - 1 degrees of freedom (Kott, 2001). One fold has no
    interval.

    >>> jackknifed(np.array([0.4, 0.5, 0.6])).estimate
    0.5
    """
    k, mean = len(folds), float(np.mean(folds))
    if k < 2 or not np.isfinite(folds).all():
        return Estimate(mean, float("nan"), float("nan"), float("nan"))
    error = float(np.sqrt((k - 1) / k * np.sum((folds - mean) ** 2)))
    half_width = float(student.ppf(0.975, k - 1)) * error
    p = float(2 * student.sf(abs(mean) / error, k - 1)) if error > ROUNDING else float(abs(mean) <= ROUNDING)
    return Estimate(mean, mean - half_width, mean + half_width, p)


def _weight_centres(
    weights: pd.DataFrame, labels: dict[str, str], layers: list[str], depth: np.ndarray
) -> np.ndarray | None:
    """Return the centre of the weights of each fold, mean over seeds, ``(n_folds,)``; None without weights."""
    rows = weights[weights["probe"] == "weighted_sum"]
    for name, value in labels.items():
        rows = rows[rows[name] == value]
    if rows.empty:
        return None
    table = rows.groupby(["fold", "layer"])["weight"].mean().unstack()
    return np.asarray(table[layers].to_numpy() @ depth)
