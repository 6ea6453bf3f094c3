"""Mixes of one encoder's layers: learnt weights, uniform weights, gradient descent, and layers 0 to l."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from layerprobe.probe.metrics import MomentMatching
from layerprobe.probe.results.predictions import ALL_LAYERS, NO_RESULTS, PredictionBuilder, ProbeResults, SweepData
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.system import usable_memory
from layerprobe.probe.weighted_sum.gradient_descent import replay
from layerprobe.probe.weighted_sum.large import LargeMixer, make_mixer
from layerprobe.probe.weighted_sum.layers import ReadLayer
from layerprobe.probe.weighted_sum.solver import Chosen, Mixer, WeightedSumFit

# Names in the column probe of the scores
MIXES = {
    "weighted_sum": "softmax mix of standardised layers, with a penalty on uneven weights",
    "uniform_mix": "mix of standardised layers with equal weights",
    "softmax_mix": "softmax mix of standardised layers without that penalty (Yang et al., 2021)",
    "unstandardised_mix": "softmax mix of layers as they are: a weight also measures its layer's scale",
    "gradient_descent_mix": "layers as they are, by gradient descent on 1 - CCC, as is usual",
    "cumulative_mix": "weighted sum of layers 0 to l, for each l (Tenney et al., 2019)",
}
WEIGHT_NUMBERS = ("weight", "contribution", "low", "high")  # columns of the layer weights
DEFAULT_MIXES = ("weighted_sum", "uniform_mix")
# Mixes with a common solver, so that one process fits them; results do not depend on the grouping
_GROUPS = (
    ("weighted_sum", "softmax_mix", "uniform_mix", "cumulative_mix"),
    ("unstandardised_mix",),
    ("gradient_descent_mix",),
)


def mix_groups(mixes: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return groups of mixes with a common solver, each to be fitted by one process; they hold all of ``mixes``."""
    groups = [tuple(name for name in group if name in mixes) for group in _GROUPS]
    return [group for group in groups if group]


class _Mixing:
    """The data of one encoder, and solvers that its mixes have in common."""

    def __init__(
        self, read: ReadLayer, layers: list[str], data: SweepData, plan: SweepPlan, keys: dict[str, Any]
    ) -> None:
        self.read, self.layers, self.data, self.plan, self.keys = read, layers, data, plan, keys
        self._mixers: dict[bool, Mixer | LargeMixer] = {}
        self._chosen: dict[tuple[bool, bool], Chosen] = {}

    def mixer(self, *, standardise: bool) -> Mixer | LargeMixer:
        """Return the solver, which is made once."""
        if standardise not in self._mixers:
            self._mixers.clear()  # one at a time: each may hold the layers
            self._mixers[standardise] = make_mixer(
                self.read,
                len(self.layers),
                self.data.ratings,
                splits=self.data.splits,
                standardise=standardise,
                device=self.plan.device,
            )
        return self._mixers[standardise]

    def chosen(self, *, standardise: bool = True, even: bool = True) -> Chosen:
        """Return the penalties, which the first seed chooses; with ``even``, one on uneven weights, too."""
        key = standardise, even
        if key not in self._chosen:
            self._chosen[key] = self.mixer(standardise=standardise).choose(
                self.plan.mix_penalties,
                weight_penalties=self.plan.mix_weight_penalties if even else (0.0,),
                max_iterations=self.plan.mix_iterations,
                seed=self.plan.weighted_sum_seeds[0],
            )
        return self._chosen[key]

    def finished(
        self, probe: str, seed: int, fits: list[WeightedSumFit], chosen: Chosen, *, layer: str = ALL_LAYERS
    ) -> ProbeResults:
        """Return the columns, scores and weights of one seed."""
        columns, weights, half_widths = [], [], chosen.half_widths()
        for t, target in enumerate(self.plan.targets):
            keys = {**self.keys, "probe": probe, "layer": layer, "target": target, "seed": seed}
            builder = PredictionBuilder(keys, self.data.ratings[:, t])
            for k, (split, fit) in enumerate(zip(self.data.splits, fits, strict=True)):
                known, inner = self.data.ratings[split.train, t], chosen.inner_prediction[k][:, t]
                error = float(np.mean((known - inner) ** 2))
                builder.add(split, fit.prediction[:, t], MomentMatching.learn(known, inner), inner_error=error)
                if layer == ALL_LAYERS:
                    fold = probe, seed, split.name, target
                    weights += self.weights(*fold, fit.layer_weights[t], fit.contributions[t], half_widths[k][t])
            columns.append(builder.build())
        return ProbeResults.from_columns(columns, self.data, weights)

    def weights(
        self,
        probe: str,
        seed: int,
        fold: str,
        target: str,
        weights: np.ndarray,
        contributions: np.ndarray,
        half_widths: np.ndarray,
    ) -> list[dict[str, Any]]:
        """Return rows of the table of layer weights; those without an interval have half widths of NaN."""
        label = {**self.keys, "probe": probe, "target": target, "fold": fold, "seed": seed}
        low, high = np.clip(weights - half_widths, 0, 1), np.clip(weights + half_widths, 0, 1)
        numbers = np.stack([weights, contributions, low, high], axis=1).astype(float).tolist()
        return [
            {**label, "layer": layer, **dict(zip(WEIGHT_NUMBERS, row, strict=True))}
            for layer, row in zip(self.layers, numbers, strict=True)
        ]


def mix_probes(
    read: ReadLayer,
    layers: list[str],
    data: SweepData,
    plan: SweepPlan,
    keys: dict[str, Any],
    *,
    advance: Callable[[str], None],
) -> ProbeResults:
    """Fit all mixes of the plan to one encoder.

    Args:
        read: returns rows of a layer by its index in ``layers``
        layers: their names, without ``final``, which is the last block once more, normed
        data: the ratings and the splits
        plan: which mixes, seeds and penalties
        keys: encoder and control of the rows of the score table
        advance: called with the name of each mix that is done
    """
    mixing, finished = _Mixing(read, layers, data, plan, keys), NO_RESULTS
    for name in (m for m in MIXES if m in plan.mixes):
        finished += _MAKERS[name](mixing)
        advance(name)
    return finished


def _softmax(mixing: _Mixing, probe: str, *, standardise: bool = True, even: bool = False) -> ProbeResults:
    plan, chosen = mixing.plan, mixing.chosen(standardise=standardise, even=even)
    fits = mixing.mixer(standardise=standardise).fit(
        chosen.penalty,
        weight_penalty=chosen.weight_penalty,
        max_iterations=plan.mix_iterations,
        seeds=plan.weighted_sum_seeds,
    )
    finished = NO_RESULTS
    for seed, of_seed in zip(plan.weighted_sum_seeds, fits, strict=True):
        finished += mixing.finished(probe, seed, of_seed, chosen)
    return finished


def _uniform(mixing: _Mixing) -> ProbeResults:
    plan, mixer = mixing.plan, mixing.mixer(standardise=True)
    chosen = mixer.choose(plan.mix_penalties, max_iterations=plan.mix_iterations, seed=0, learns=False)
    (fits,) = mixer.fit(chosen.penalty, max_iterations=plan.mix_iterations, seeds=(0,), learns=False)
    return mixing.finished("uniform_mix", 0, fits, chosen)


def _cumulative(mixing: _Mixing) -> ProbeResults:
    """Fit layers 0 to l for each l, with the penalties of the mix of all layers, so that only the layers differ."""
    plan, whole, finished = mixing.plan, mixing.chosen(), NO_RESULTS
    seed, mixer = plan.weighted_sum_seeds[0], mixing.mixer(standardise=True)
    of_layers = mixer.cumulative(whole, max_iterations=plan.mix_iterations, seed=seed)
    for layer, (fits, chosen) in zip(mixing.layers, of_layers, strict=True):
        finished += mixing.finished("cumulative_mix", seed, fits, chosen, layer=layer)
    return finished


def _gradient_descent(mixing: _Mixing) -> ProbeResults:
    data, plan, columns, weights = mixing.data, mixing.plan, [], []
    runs = replay(
        mixing.read,
        len(mixing.layers),
        data.ratings,
        splits=data.splits,
        seeds=plan.weighted_sum_seeds,
        memory=usable_memory(plan.device),
        device=plan.device,
    )
    for seed, fits in zip(plan.weighted_sum_seeds, runs, strict=True):
        for t, target in enumerate(plan.targets):
            keys = {**mixing.keys, "probe": "gradient_descent_mix", "layer": ALL_LAYERS, "target": target, "seed": seed}
            builder = PredictionBuilder(keys, data.ratings[:, t])
            for split, fit in zip(data.splits, fits, strict=True):
                match = MomentMatching.learn(data.ratings[fit.development, t], fit.development_prediction[:, t])
                builder.add(split, fit.prediction[:, t], match)
                fold = "gradient_descent_mix", seed, split.name, target
                no_interval = np.full(len(mixing.layers), np.nan)
                weights += mixing.weights(*fold, fit.layer_weights[t], fit.contributions[t], no_interval)
            columns.append(builder.build())
    return ProbeResults.from_columns(columns, data, weights)


_MAKERS: dict[str, Callable[[_Mixing], ProbeResults]] = {
    "weighted_sum": partial(_softmax, probe="weighted_sum", even=True),
    "softmax_mix": partial(_softmax, probe="softmax_mix"),
    "uniform_mix": _uniform,
    "unstandardised_mix": partial(_softmax, probe="unstandardised_mix", standardise=False),
    "gradient_descent_mix": _gradient_descent,
    "cumulative_mix": _cumulative,
}
