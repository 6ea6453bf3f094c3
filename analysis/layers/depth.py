"""How deep a target lies: centres of gravity on relative depth, 0 where the first block begins, 1 where the last ends.

Of one idea there are three measures, none of them the truth (Tenney et al., 2019):

* ``score_centre``: the mean depth of the layers, each weighing as much as it scores above chance, which is 0;
* ``weight_centre``: the mean depth under the weights of the learnt mix of standardised layers;
* ``expected_layer``: the mean depth at which the mix of layers 0 to l gains, of all that it gains over layer 0 (its
  headroom), the running maximum being taken so that noise is no loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample, Estimate
from layerprobe.probe.layer_names import FINAL, is_stack, relative_depth
from layerprobe.probe.tasks.targets import TEXT_RESIDUAL

CLAIM = ("valence", "arousal")  # of which the first is said to lie deeper (arXiv 2305.19184)
CHANCE_IS_ZERO = ("ccc_matched", "ccc", "pearson", "r2")  # metrics whose scores have a centre of gravity
MEASURES = {
    "score_centre": "centre of gravity of the layers' scores",
    "weight_centre": "centre of gravity of the mix's weights",
    "expected_layer": "expected layer",
}


@dataclass(frozen=True)
class Depth:
    """One measure of one target, in a form that can be subtracted."""

    encoder: str
    control: str  # "none", or "random_init"
    target: str
    measure: str  # a key of `MEASURES`
    sampled: BootstrapSample | None  # under draws of speakers
    folds: np.ndarray | None  # of weights: (n_folds,), each learnt without that fold's speakers
    headroom: Estimate | None = None  # of the expected layer: what all layers gain over layer 0

    def less(self, other: Depth) -> Estimate:
        """The difference of two measured alike, draw by draw or fold by fold."""
        if self.sampled is not None and other.sampled is not None:
            return (self.sampled - other.sampled).one()
        if self.folds is not None and other.folds is not None:
            return jackknifed(self.folds - other.folds)
        raise ValueError(f"{self.measure} and {other.measure} are measured otherwise and have no difference")

    def estimate(self) -> Estimate:
        """The depth with its interval; its p-value means nothing."""
        return self.sampled.one() if self.sampled is not None else jackknifed(np.asarray(self.folds))


def depths(
    draws: BootstrapScores, weights: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str]
) -> list[Depth]:
    """Every measure of every encoder, with its weights and with random ones, and target.

    Args:
        draws: scores of a metric in `CHANCE_IS_ZERO`
        weights: tidy rows of the mixes' weights
        layers: for each encoder its layers in order; features side by side have no depth
        targets: rated ones
    """
    found = []
    for encoder, names in layers.items():
        if not is_stack(names):
            continue
        blocks = [name for name in names if name != FINAL]
        depth = relative_depth(blocks)
        for control in ("none", "random_init"):
            for target in targets:
                of = {"encoder": encoder, "control": control, "target": target}
                label = encoder, control, target
                alone = draws.of(blocks, probe="ridge", **of)
                if alone is not None:
                    centre = alone.map(lambda scores, depth=depth: score_centre(scores, depth))  # type: ignore[misc]
                    found.append(Depth(*label, "score_centre", centre, None))
                folds = _weight_centres(weights, of, blocks, depth)
                if folds is not None:
                    found.append(Depth(*label, "weight_centre", None, folds))
                below = draws.of(blocks, probe="cumulative_mix", **of)
                if below is not None:
                    layer = below.map(lambda scores, depth=depth: expected_layer(scores, depth))  # type: ignore[misc]
                    room = below.map(headroom).one()
                    found.append(Depth(*label, "expected_layer", layer, None, room))
    return found


def contrasts(depths: list[Depth]) -> pd.DataFrame:
    """How much deeper the claim's first target lies than its second, of each encoder and measure.

    Returns:
        ``encoder, control, measure, deeper, shallower, name, estimate, ci_low, ci_high, p_value``; ``control`` is ``none``,
        ``random_init``, or ``difference`` for the first less the second; again for what the words leave of both
    """
    by_key = {(d.encoder, d.control, d.target, d.measure): d for d in depths}
    rows = []
    for ending in ("", TEXT_RESIDUAL):
        deeper, shallower = (target + ending for target in CLAIM)
        name = f"{deeper} − {shallower}".replace("_", " ")
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
    columns = [
        "encoder",
        "control",
        "measure",
        "deeper",
        "shallower",
        "name",
        "estimate",
        "ci_low",
        "ci_high",
        "p_value",
    ]
    return pd.DataFrame(rows, columns=columns)


def score_centre(scores: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Mean depth weighted by the score above 0; NaN where no layer scores above it.

    Args:
        scores: ``(…, n_layers)``
        depth: ``(n_layers,)``

    >>> round(float(score_centre(np.array([0.2, 0.6, -0.1]), np.array([0.0, 0.5, 1.0]))), 6)
    0.375
    """
    mass = np.maximum(scores, 0.0)
    total = mass.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(mass @ depth / total)


def expected_layer(cumulative: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Mean depth weighted by what each layer adds to the mix of those below; NaN where none adds anything.

    Args:
        cumulative: scores of the mixes of layers 0 to l, ``(…, n_layers)``
        depth: ``(n_layers,)``

    >>> gains = expected_layer(np.array([0.2, 0.4, 0.3, 0.6]), np.array([0.0, 1 / 3, 2 / 3, 1.0]))  # of .2, 0 and .2
    >>> round(float(gains), 6)
    0.666667
    """
    gains = np.diff(np.maximum.accumulate(cumulative, axis=-1), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(gains @ depth[1:] / gains.sum(axis=-1))


def headroom(cumulative: np.ndarray) -> np.ndarray:
    """What the best mix of layers 0 to l gains over layer 0; ``cumulative`` as in `expected_layer`."""
    return np.asarray(cumulative.max(axis=-1) - cumulative[..., 0])


def jackknifed(folds: np.ndarray) -> Estimate:
    """Mean over fits that each leave out a fold of speakers, with the delete-a-group jackknife's interval.

    Fits that share most of their speakers differ little, which the jackknife undoes: variance (K - 1) / K times the sum
    of squares, and Student's t with K - 1 degrees (Kott, 2001). One fold has no interval.

    >>> jackknifed(np.array([0.4, 0.5, 0.6])).estimate
    0.5
    """
    k, mean = len(folds), float(np.mean(folds))
    if k < 2 or not np.isfinite(folds).all():
        return Estimate(mean, float("nan"), float("nan"), float("nan"))
    error = float(np.sqrt((k - 1) / k * np.sum((folds - mean) ** 2)))
    reach = float(student.ppf(0.975, k - 1)) * error
    p = float(2 * student.sf(abs(mean) / error, k - 1)) if error > 0 else float(mean == 0)
    return Estimate(mean, mean - reach, mean + reach, p)


def _weight_centres(
    weights: pd.DataFrame, of: dict[str, str], layers: list[str], depth: np.ndarray
) -> np.ndarray | None:
    """Centre of the weights of each fold, means over seeds, ``(n_folds,)``."""
    rows = weights[weights["probe"] == "weighted_sum"]
    for name, value in of.items():
        rows = rows[rows[name] == value]
    if rows.empty:
        return None
    table = rows.groupby(["fold", "layer"])["weight"].mean().unstack()
    return np.asarray(table[layers].to_numpy() @ depth)
