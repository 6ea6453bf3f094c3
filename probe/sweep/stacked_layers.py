"""The weighted sums of a sweep, by stacking the ridge predictions of layers that its tasks have saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.metrics import MomentMatching
from layerprobe.probe.results.predictions import (
    ALL_LAYERS,
    NO_RESULTS,
    HeldOutPrediction,
    PredictionBuilder,
    ProbeResults,
    SweepData,
)
from layerprobe.probe.results.run_folder import FUSED_WEIGHTED_SUM, JOINED, WEIGHTED_SUM
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.rated_parts import RatedPart
from layerprobe.probe.sweep.task_inputs import TaskInputs
from layerprobe.probe.weighted_sum.stacking import stack

_Layer = tuple[str, str, str]  # encoder, control and name


@dataclass(frozen=True)
class _Predicted:
    """Predictions of one target by one layer's ridge, for the rows of one part of a sweep."""

    held_out: np.ndarray  # (n_utterances,), of the speakers who are held out
    inner: np.ndarray  # (n_splits, n_utterances), of training rows held out in inner folds

    @classmethod
    def of_part(cls, column: HeldOutPrediction, part: RatedPart) -> _Predicted:
        """Take the rows of a part from a column of the whole sweep, which has inner predictions."""
        inner = [] if column.inner is None else list(column.inner)
        return cls(part.take(column.prediction), np.stack([part.take(values) for values in inner]))


def stack_layers(inputs: TaskInputs, results: ProbeResults) -> ProbeResults:
    """Return the weighted sum of each encoder and, where encoders are fused, of all of them, as far as layers are done.

    Args:
        inputs: of the sweep
        results: with the columns of ridge on the ratings
    """
    columns = {
        (c.keys["encoder"], c.keys["control"], c.keys["layer"], c.keys["target"]): c
        for c in results.columns
        if c.inner is not None and c.keys["probe"] == "ridge"
    }
    stacks = [one for one in inputs.caches if one.cache.plan.is_stack]
    wanted: list[tuple[dict[str, Any], list[_Layer], bool]] = []
    for one in stacks:
        keys = {k: one.keys[k] for k in ("encoder", "control")}
        names = [name for name in one.cache.plan.layers if name != FINAL]
        wanted.append((keys | {"probe": WEIGHTED_SUM}, [(*keys.values(), name) for name in names], False))
    studied = [layers for keys, layers, _ in wanted if keys["control"] == "none"]
    if len(studied) > 1:
        encoder = JOINED.join(layers[0][0] for layers in studied)
        keys = {"encoder": encoder, "control": "none", "probe": FUSED_WEIGHTED_SUM}
        wanted.append((keys, [layer for layers in studied for layer in layers], True))
    done = NO_RESULTS
    for part in inputs.dataset.parts:
        if WEIGHTED_SUM not in part.plan.mixes:
            continue
        for keys, layers, fused in wanted:
            if part.plan.fused or not fused:
                done += part.in_whole(_stack_part(columns, layers, part, keys))
    return done


def _stack_part(
    columns: dict[tuple[str, str, str, str], HeldOutPrediction],
    layers: list[_Layer],
    part: RatedPart,
    keys: dict[str, Any],
) -> ProbeResults:
    encoders = {encoder for encoder, _, _ in layers}
    names = [name if len(encoders) == 1 else f"{encoder} {name}" for encoder, _, name in layers]
    stacked = NO_RESULTS
    for t, target in enumerate(part.plan.targets):
        if not all((*layer, target) in columns for layer in layers):
            continue
        predicted = [_Predicted.of_part(columns[*layer, target], part) for layer in layers]
        stacked += stack_target(predicted, names, t, part.data, part.plan, keys)
    return stacked


def stack_target(
    predicted: list[_Predicted], names: list[str], t: int, data: SweepData, plan: SweepPlan, keys: dict[str, Any]
) -> ProbeResults:
    """Stack the layers for one target: its predictions, their scores and the weights of each split.

    Args:
        predicted: of each layer
        names: of the layers
        t: the target's number in the plan
        data: ratings and splits
        plan: names the targets
        keys: encoder, control and probe of the rows of the score table
    """
    target, ratings, weights = plan.targets[t], data.ratings[:, t], []
    label = {**keys, "target": target, "seed": 0}
    builder = PredictionBuilder({**label, "layer": ALL_LAYERS}, ratings)
    for k, split in enumerate(data.splits):
        known = ratings[split.train]
        inner = np.stack([p.inner[k, split.train] for p in predicted], axis=1).astype(np.float64)
        fit = stack(inner, known, data.held_out_units[split.train], rng=np.random.default_rng(plan.seed))
        held_out = np.stack([p.held_out[split.test] for p in predicted], axis=1).astype(np.float64)
        summed = inner @ fit.weights
        match = MomentMatching.learn(known, summed)
        builder.add(split, held_out @ fit.weights, match, inner_error=float(np.mean((known - summed) ** 2)))
        numbers = zip(names, fit.weights, fit.contributions, fit.low, fit.high, strict=True)
        weights += [
            {
                **label,
                "fold": split.name,
                "layer": name,
                **dict(zip(("weight", "contribution", "low", "high"), map(float, values), strict=True)),
            }
            for name, *values in numbers
        ]
    return ProbeResults.from_columns([builder.build()], data, weights)
