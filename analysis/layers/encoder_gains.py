"""Gains of an encoder over another one with the same layers: differences of scores by layer, and shifts of depth.

What has fine-tuning, an adapter or noise changed, and where? Both encoders have the same layers, were probed on the
same folds of speakers and are scored in the same resamples of speakers, so that each layer has a paired difference.
Whether the target moved to other layers is another question than whether its scores rose: it is answered by the shift
between the profiles of both encoders (`analysis.layers.shift`), which a gain that is the same for all layers leaves at
0. Size and power of both tests: `tests/benchmarks/encoder_gains.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.shift import FEWEST_LAYERS, detectable_shift, on_both_scales, shifts
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.statistics.permutation import holm
from layerprobe.analysis.statistics.simultaneous import max_statistic
from layerprobe.probe.layer_names import FINAL, is_stack
from layerprobe.probe.metrics import CLASS_METRICS, LOWER_IS_BETTER

KEYS = ["encoder", "reference", "target"]
GAIN_COLUMNS = [*KEYS, "layer", "estimate", "ci_low", "ci_high", "p_value", "p_layers", "p_adjusted", "statistic"]
SHIFT_COLUMNS = [*KEYS, "n_blocks", "detectable", "estimate", "ci_low", "ci_high", "p_value", "p_adjusted"]


@dataclass(frozen=True)
class EncoderPair:
    """Two encoders with the same layers; the reference is subtracted."""

    encoder: str
    reference: str


def encoder_gains(
    bootstrap: BootstrapScores,
    pairs: Sequence[EncoderPair],
    *,
    layers: dict[str, list[str]],
    targets: Sequence[str],
    inflation: float,
    lower_is_better: bool = False,
) -> pd.DataFrame:
    """Return the gain of each layer of an encoder over the same layer of its reference, for each target.

    Args:
        bootstrap: scores of all encoders in the same resamples
        pairs: of encoders that have the same layers
        layers: for each encoder its layers in order
        targets: in order
        inflation: factor of standard errors for the training speakers (`training_inflation`)
        lower_is_better: whether the metric is an error

    Returns:
        `GAIN_COLUMNS`. ``estimate`` is above 0 where the encoder is better, whatever the metric. The interval and
        ``p_value`` are of one layer alone and of the fitted probes. ``p_layers`` is adjusted for the layers of the pair
        and target and ``p_adjusted`` for all rows, both by `max_statistic` with the inflation and never below
        ``p_value``; ``statistic`` is the difference that they test over its standard error. That is the difference of
        both scores with those below 0 as 0, where 0 is what the mean rating scores (`_tested`)
    """
    rows: list[dict[str, object]] = []
    samples: list[BootstrapSample] = []
    of_samples: list[np.ndarray] = []
    for pair in pairs:
        names = layers[pair.encoder]
        for target in targets:
            found = _both(bootstrap, pair, names, target)
            if found is None:
                continue
            gain = found[1] - found[0] if lower_is_better else found[0] - found[1]
            tested = _tested(*found, gain, metric=bootstrap.metric)
            samples.append(gain)
            of_samples.append(tested)
            p = max_statistic(gain, inflation=inflation, tested=tested)
            each = zip(names, gain.estimated(), p, _statistic(gain, tested), strict=True)
            for name, estimate, p_layers, statistic in each:
                same = {"encoder": pair.encoder, "reference": pair.reference, "target": target, "layer": name}
                rows.append({**same, **vars(estimate), "p_layers": p_layers, "statistic": statistic})
    table = pd.DataFrame(rows, columns=GAIN_COLUMNS)
    if samples:
        table["p_adjusted"] = max_statistic(_joined(samples), inflation=inflation, tested=np.concatenate(of_samples))
        for name in ("p_layers", "p_adjusted"):  # where BCa and standard errors disagree, the conservative one
            table[name] = np.maximum(table[name].astype(float), table["p_value"].fillna(0.0))
    return table


def encoder_shifts(
    bootstrap: BootstrapScores,
    pairs: Sequence[EncoderPair],
    *,
    layers: dict[str, list[str]],
    targets: Sequence[str],
) -> pd.DataFrame:
    """Return by how much each target lies deeper in an encoder than in its reference.

    Args:
        bootstrap: scores of a metric in `analysis.layers.shift.SHIFT_METRICS`
        pairs: of encoders that have the same layers
        layers: for each encoder its layers in order; those without `FEWEST_LAYERS` stacked layers have no shift
        targets: in order

    Returns:
        `SHIFT_COLUMNS`: the shift on relative depth as of `analysis.layers.shift.on_both_scales`; ``p_adjusted`` by
        Holm's method over all rows, ``detectable`` is the shift that is detected with a power of .8
    """
    rows = []
    for pair in pairs:
        blocks = [name for name in layers[pair.encoder] if name != FINAL]
        if not is_stack(layers[pair.encoder]) or len(blocks) < FEWEST_LAYERS:
            continue
        for target in targets:
            found = _both(bootstrap, pair, blocks, target)
            if found is None:
                continue
            both, n_blocks = shifts(*found), len(blocks) - 1
            shift = on_both_scales(both)
            detectable = detectable_shift(both, n_blocks=n_blocks) if shift.is_known else np.nan
            same = {"encoder": pair.encoder, "reference": pair.reference, "target": target}
            rows.append({**same, "n_blocks": n_blocks, "detectable": detectable, **vars(shift)})
    table = pd.DataFrame(rows, columns=SHIFT_COLUMNS)
    p = table["p_adjusted"] = table["p_value"].astype(float)
    if p.notna().any():
        table.loc[p.notna(), "p_adjusted"] = holm(p.dropna().to_numpy())
    return table


def _joined(samples: Sequence[BootstrapSample]) -> BootstrapSample:
    """Return the scores of several samples with the same resamples side by side."""
    # Speakers without a rating of a target are missing from no jackknife: all have rows for all speakers.
    names = ("estimate", "resamples", "left_out", "counted")
    return BootstrapSample(*(np.concatenate([getattr(s, name) for s in samples], axis=-1) for name in names))


def _both(
    bootstrap: BootstrapScores, pair: EncoderPair, names: list[str], target: str
) -> tuple[BootstrapSample, BootstrapSample] | None:
    labels = {"target": target, "probe": "ridge", "control": "none"}
    first, second = (bootstrap.of(names, encoder=e, **labels) for e in (pair.encoder, pair.reference))
    return None if first is None or second is None else (first, second)


def _tested(first: BootstrapSample, second: BootstrapSample, gain: BootstrapSample, *, metric: str) -> np.ndarray:
    """Return the differences that are tested, ``(n_layers,)``: those of scores of at least 0.

    Where a layer hardly carries a target, its strongest penalty may be chosen. Predictions are then about the mean of
    the training speakers, which is the lower, the higher the ratings of the held-out ones are: the score of all folds
    is below 0, by chance and far more than it varies over held-out speakers. Such a layer is no worse than the mean.
    Errors and metrics of classes are tested as they are.
    """
    if metric in LOWER_IS_BETTER or metric in CLASS_METRICS:
        return gain.estimate
    floored = np.maximum(first.estimate, 0.0) - np.maximum(second.estimate, 0.0)
    return np.where(gain.estimate == 0, 0.0, floored)  # 0 where scores are the same up to rounding


def _statistic(gain: BootstrapSample, tested: np.ndarray) -> np.ndarray:
    """Return each tested difference over its standard error, 0 where it does not vary."""
    error = np.nanstd(np.where(np.isfinite(gain.resamples), gain.resamples, np.nan), axis=0)
    return np.asarray(np.divide(tested, error, out=np.zeros(len(error)), where=error > 0))
