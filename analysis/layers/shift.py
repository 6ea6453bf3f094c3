"""The shift between the layer-wise profiles of two targets: deeper is distinguished from weaker.

A centre of gravity moves with the level of a profile and not only with its place: of two targets with the same profile
over layers the weaker one seems to lie deeper or shallower. The shift is the lag at which the profile of one target,
as a function of relative depth, correlates most with the profile of the other (cross-correlation; Knapp and Carter,
1976). A correlation leaves out level and size, so that the shift is 0

* of scores r where one target is attenuated by unreliable ratings, r' = c r (Spearman, 1904), and
* of signal-to-noise ratios r² / (1 - r²) where its signal is weaker, s' = c s.

Of the wrong scale of the two, a weaker target has a shift in opposite directions, so that a difference of depths is
significant only where the intervals on both scales exclude 0 on the same side (intersection-union test; Berger, 1982).

In 1,440 simulated corpora with equal profiles (`tests/benchmarks/depth_measures.py`: 4, 12 and 24 blocks, 10 to 100
speakers, several shapes and floors) 1.5 % had a significant shift, and at most 2.6 % of those with one shape, weakness
or number of blocks or speakers. Of the difference of centres of gravity above 0 these were 9.4 %, and 26 % where 100
speakers had a weaker signal. A shift of one block was found in 79 %, 39 % and 27 % of corpora with 4, 12 and 24 blocks,
more often than by another measure that must agree on both scales. One scale alone has slightly more power, but of 800
corpora with ridge regressions of simulated layers it had 6.9 % false positives, and both scales 4.8 % (centres 15 %).
Percentiles have fewer false positives than BCa intervals (1.5 % and 2.9 %) with the same power.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from layerprobe.analysis.layers.depth import CONTRAST_COLUMNS, SHIFT, hypothesis_pairs
from layerprobe.analysis.statistics.bootstrap import expanded_quantile
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample, Estimate
from layerprobe.probe.layer_names import FINAL, is_stack

SHIFT_METRICS = ("ccc_matched", "pearson")  # correlations, whose signal-to-noise ratio is r² / (1 - r²)
STEPS_PER_BLOCK = 4  # profiles are interpolated between layers
REACH = 0.5  # largest shift on relative depth; the rest of the profiles overlap
FEWEST_LAYERS = 4  # three points have no profile to speak of
POWER = 0.8
FLAT = 1e-6  # standard deviation over layers up to which a profile is flat: predictions are stored in float32
SAME = 1e-9  # difference of correlations up to which two maxima are the same


def profile_shift(deeper: np.ndarray, shallower: np.ndarray) -> np.ndarray:
    """Return by how much one profile lies deeper than another, on relative depth.

    It is the s in steps of a quarter of a block, at most half of the depth, with the highest correlation over layers l
    of ``deeper(l)`` and ``shallower(l - s)``, which is interpolated between layers and constant beyond its ends. Of
    several maxima the one nearest to 0 is taken, and 0 if two are equally near. Where no shift has a correlation above
    0, as of a falling and a rising profile, it is half of the depth if the maxima of the profiles differ by as much
    or more.

    Args:
        deeper: ``(…, n_layers)``, of layers 0 to the number of blocks
        shallower: of the same shape

    Returns:
        ``(…)`` in [-0.5, 0.5]; NaN where a profile is flat, or where neither rule gives a shift

    >>> first, second = np.array([0.3, 0.5, 0.4, 0.2, 0.2]), np.array([0.1, 0.1, 0.2, 0.15, 0.05])
    >>> float(profile_shift(second, first))  # one block of four, and weaker
    0.25
    """
    n_blocks = deeper.shape[-1] - 1
    lags = _lags(n_blocks)
    centred = deeper - deeper.mean(axis=-1, keepdims=True)
    size = np.sqrt(np.square(centred).mean(axis=-1))
    correlations = np.empty((len(lags), *size.shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        for k, lag in enumerate(lags):
            moved = shallower @ _moved(n_blocks, lag)
            moved -= moved.mean(axis=-1, keepdims=True)
            size_moved = np.sqrt(np.square(moved).mean(axis=-1))
            found = (centred * moved).mean(axis=-1) / (size * size_moved)
            correlations[k] = np.where((size > FLAT) & (size_moved > FLAT), found, -1.0)
    highest = correlations.max(axis=0)
    distance = np.where(correlations >= highest - SAME, np.abs(lags).reshape(-1, *(1,) * size.ndim), np.inf)
    half = len(lags) // 2  # lags below 0, 0, and above 0
    before, after = distance[: half + 1].min(axis=0), distance[half:].min(axis=0)
    shift = np.where(before == after, 0.0, np.where(before < after, -before, after))
    furthest, between = lags[-1], deeper.argmax(axis=-1) - shallower.argmax(axis=-1)
    is_flat = (size <= FLAT) | (shallower.std(axis=-1) <= FLAT)
    beyond = np.where((np.abs(between) >= furthest) & ~is_flat, np.sign(between) * furthest, np.nan)
    return np.asarray(np.where(highest > 0, shift, beyond) / n_blocks)


def signal_to_noise(scores: np.ndarray) -> np.ndarray:
    """Return r² / (1 - r²) of correlations r, 0 where they are below 0.

    >>> signal_to_noise(np.array([-0.3, 0.6])).round(4)
    array([0.    , 0.5625])
    """
    squared = np.clip(scores, 0.0, 1 - 1e-9) ** 2
    return np.asarray(squared / (1 - squared))


def shifts(deeper: BootstrapSample, shallower: BootstrapSample) -> tuple[BootstrapSample, BootstrapSample]:
    """Return the shift between two profiles ``(n_layers,)`` in each resample, of scores and of signal-to-noise."""
    n_layers = deeper.estimate.shape[-1]
    names = ("estimate", "resamples", "left_out", "counted")
    pairs = ([getattr(sample, name) for sample in (deeper, shallower)] for name in names)
    both = BootstrapSample(*(np.concatenate(pair, axis=-1) for pair in pairs))
    return (
        both.map(lambda s: profile_shift(s[..., :n_layers], s[..., n_layers:])),
        both.map(lambda s: profile_shift(*np.split(signal_to_noise(s), [n_layers], axis=-1))),
    )


def on_both_scales(samples: tuple[BootstrapSample, BootstrapSample]) -> Estimate:
    """Return the mean of the shifts on both scales, the hull of their intervals, and the larger p-value.

    The hull excludes 0 exactly where both 95 % intervals exclude it on the same side. The p-value of shifts with
    opposite signs is 1. All but the estimate are NaN where a scale has no interval.
    """
    first, second = (sample.percentiles() for sample in samples)
    estimate = (first.estimate + second.estimate) / 2
    if not (first.is_known and second.is_known):
        return Estimate(estimate, np.nan, np.nan, np.nan)
    p = 1.0 if first.estimate * second.estimate < 0 else max(first.p_value, second.p_value)
    return Estimate(estimate, min(first.ci_low, second.ci_low), max(first.ci_high, second.ci_high), p)


def detectable_shift(samples: tuple[BootstrapSample, BootstrapSample], *, n_blocks: int) -> float:
    """Return the shift that such a corpus detects with a power of .8 in a two-sided test at .05, on relative depth.

    It is (q + 0.84) times the standard deviation of the resamples, the larger one of both scales, where q is the
    quantile of the expanded percentiles (1.96 for many speakers) and 0.84 the normal quantile of .8 (Bloom, 1995), and
    half a step of the grid more, because shifts are multiples of a step. Its power was .78 to .89 in simulations. NaN
    where resamples are undefined.
    """
    reach = expanded_quantile(float(np.min(samples[0].counted))) + float(norm.ppf(POWER))
    deviations = [np.nanstd(s.resamples) if np.isfinite(s.resamples).any() else np.nan for s in samples]
    return float(reach * np.max(deviations) + 0.5 / (STEPS_PER_BLOCK * n_blocks))


def shift_contrasts(bootstrap: BootstrapScores, *, layers: dict[str, list[str]]) -> pd.DataFrame:
    """Return the shift between the targets of the hypothesis for each encoder of at least `FEWEST_LAYERS` layers.

    Args:
        bootstrap: scores of a metric in `SHIFT_METRICS`
        layers: for each encoder its layers in order

    Returns:
        rows as those of `analysis.layers.depth.contrasts`; ``detectable`` is `detectable_shift`
    """
    rows = []
    for deeper, shallower, name in hypothesis_pairs():
        for row in _shift_rows(bootstrap, layers, deeper, shallower):
            rows.append({"deeper": deeper, "shallower": shallower, "name": name, **row})
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)


def _shift_rows(
    bootstrap: BootstrapScores, layers: dict[str, list[str]], deeper: str, shallower: str
) -> list[dict[str, Any]]:
    rows = []
    for encoder, names in layers.items():
        blocks = [name for name in names if name != FINAL]
        if not is_stack(names) or len(blocks) < FEWEST_LAYERS:
            continue
        found = {}
        for control in ("none", "random_init"):
            profiles = [
                bootstrap.of(blocks, probe="ridge", encoder=encoder, control=control, target=target)
                for target in (deeper, shallower)
            ]
            if profiles[0] is not None and profiles[1] is not None:
                found[control] = shifts(profiles[0], profiles[1])
        if len(found) == 2:
            pairs = zip(found["none"], found["random_init"], strict=True)
            found["difference"] = tuple(trained - untrained for trained, untrained in pairs)  # type: ignore[assignment]
        n_blocks = len(blocks) - 1
        for control, samples in found.items():
            shift = on_both_scales(samples)
            detectable = detectable_shift(samples, n_blocks=n_blocks) if shift.is_known else np.nan
            label = {"encoder": encoder, "control": control, "measure": SHIFT}
            rows.append({**label, "n_blocks": n_blocks, "detectable": detectable, **vars(shift)})
    return rows


def _lags(n_blocks: int) -> np.ndarray:
    """Return the shifts that are fitted, in blocks, symmetric around 0."""
    furthest = int(REACH * n_blocks * STEPS_PER_BLOCK)
    return np.arange(-furthest, furthest + 1) / STEPS_PER_BLOCK


def _moved(n_blocks: int, lag: float) -> np.ndarray:
    """Return the matrix ``(n_layers, n_layers)`` that moves a profile by so many blocks, constant beyond its ends."""
    source = np.clip(np.arange(n_blocks + 1) - lag, 0, n_blocks)
    below = np.clip(np.floor(source).astype(int), 0, n_blocks - 1)
    matrix = np.zeros((n_blocks + 1, n_blocks + 1))
    columns = np.arange(n_blocks + 1)
    matrix[below, columns] = 1 - (source - below)
    matrix[below + 1, columns] += source - below
    return matrix
