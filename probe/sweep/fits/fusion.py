"""Fusion of several frozen encoders: probes on all of their caches, which are compared with each encoder alone.

``fused_ridge`` takes of each encoder the layer with the least error on the inner folds of a split's training speakers,
per target, and fits them side by side with a penalty each (banded ridge: Nunez-Elizalde et al., 2019).
``fused_weighted_sum`` is one softmax over the layers of all encoders; each encoder has its own part of the linear head,
so that a layer's weight times its part of the head is what it adds. Scores of one encoder alone are the sweep's own, on
the same splits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from layerprobe.probe.metrics import MomentMatching, RatingMoments
from layerprobe.probe.results.predictions import PredictionBuilder, ProbeResults, SweepData, prediction_builder
from layerprobe.probe.results.run_folder import CHOSEN, FUSED_RIDGE, FUSED_WEIGHTED_SUM, JOINED
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.solvers.ridge import Bands, NestedRidge
from layerprobe.probe.sweep.fits.layer_probes import make_targets, permuted_targets
from layerprobe.probe.sweep.fits.mix_probes import mix_probes
from layerprobe.probe.tasks.targets import ProbeTargets
from layerprobe.probe.weighted_sum.layers import ReadLayer


def fused_ridge(
    read: Callable[[str, str], np.ndarray],
    choices: dict[str, dict[tuple[str, str], str]],
    data: SweepData,
    plan: SweepPlan,
    *,
    algebra: Algebra,
    advance: Callable[[str], None],
) -> ProbeResults:
    """Fit banded ridge to the chosen layers for every rated target and for the plan's permutations of it.

    Args:
        read: an encoder's and a layer's name -> ``(n_utterances, n_features)``
        choices: for each encoder by target and split the layer that is used (`probe.results.selection.chosen_layers`)
        data: what is rated, and the splits
        plan: the sweep's
        algebra: where matrices are multiplied
        advance: called once for each set of layers that is fitted
    """
    encoders = list(choices)
    wanted: dict[tuple[str, ...], list[tuple[int, str]]] = defaultdict(list)  # layers -> splits and targets of them
    for k, split in enumerate(data.splits):
        for target in plan.targets:
            wanted[tuple(choices[e][target, split.name] for e in encoders)].append((k, target))
    keys = {"encoder": JOINED.join(encoders), "probe": FUSED_RIDGE, "layer": CHOSEN, "control": "none", "seed": 0}
    builders: dict[tuple[str, str, int], PredictionBuilder] = {}
    held: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for layers, pairs in wanted.items():
        sources = [read(e, layer) for e, layer in zip(encoders, layers, strict=True)]
        bands = Bands.side_by_side([s.shape[1] for s in sources])
        x = np.concatenate(sources, axis=1)
        for k in sorted({k for k, _ in pairs}):
            split, targets = data.splits[k], [t for j, t in pairs if j == k]
            ridge = NestedRidge(
                x,
                splits=[split],
                alphas=plan.alphas,
                bands=bands,
                algebra=algebra,
                inner_selection=plan.inner_selection,
            )
            for part in _select_targets(make_targets(data, plan), targets), *_permuted(data, plan, targets):
                (fit,) = ridge.fit(part.y)
                moments = RatingMoments.of_columns(part.y[split.train])
                for column, fitted in enumerate(part.fitted):
                    key = fitted.target, fitted.control, fitted.seed
                    builder = builders.setdefault(key, prediction_builder(fitted, keys))
                    match = MomentMatching.from_moments(
                        moments[column], mean=fit.inner_mean[column], std=fit.inner_std[column]
                    )
                    alpha, error = float(fit.alpha[column]), float(fit.inner_error[column])
                    builder.add(split, fit.prediction[:, column], match, alpha, error)
                    held[key].add(k)
        advance(JOINED.join(f"{encoder} {layer}" for encoder, layer in zip(encoders, layers, strict=True)))
    whole = [key for key in builders if len(held[key]) == len(data.splits)]
    return ProbeResults.from_columns([builders[key].build() for key in whole], data)


def fused_weighted_sum(
    readers: dict[str, tuple[ReadLayer, list[str], int]],
    data: SweepData,
    plan: SweepPlan,
    *,
    advance: Callable[[str], None],
) -> ProbeResults:
    """Fit the weighted sum over the layers of all encoders; a layer is named by its encoder and its own name.

    Args:
        readers: for each encoder a function that reads rows of a layer by its index, the layers' names, and their width
        data: what is rated, and the splits
        plan: whose seeds and penalties are used
        advance: called when it is done
    """
    names = [f"{encoder} {layer}" for encoder, (_, layers, _) in readers.items() for layer in layers]
    positions: list[tuple[ReadLayer, int, int, int]] = []  # reads, layer, first feature and width of its encoder
    total, first = sum(width for _, _, width in readers.values()), 0
    for reads, layers, width in readers.values():
        positions += [(reads, k, first, width) for k in range(len(layers))]
        first += width

    def read(layer: int, rows: np.ndarray) -> np.ndarray:
        reads, k, begin, width = positions[layer]
        side_by_side = np.zeros((len(rows), total), dtype=np.float32)  # what is constant is standardised to nothing
        side_by_side[:, begin : begin + width] = reads(k, rows)
        return side_by_side

    alone = replace(plan, mixes=("weighted_sum",))
    keys = {"encoder": JOINED.join(readers), "control": "none"}
    mixed, name = mix_probes(read, names, data, alone, keys, advance=advance), {"probe": FUSED_WEIGHTED_SUM}
    columns = [replace(column, keys=column.keys | name) for column in mixed.columns]
    return ProbeResults(columns, [row | name for row in mixed.scores], [row | name for row in mixed.weights])


def _permuted(data: SweepData, plan: SweepPlan, targets: list[str]) -> Iterator[ProbeTargets]:
    for permuted in permuted_targets(
        replace(data, text_residuals=None, other_targets=()),
        replace(plan, residuals=(), nominal=(), classes=(), text_residuals=()),
    ):
        yield _select_targets(permuted, targets)


def _select_targets(every: ProbeTargets, names: list[str]) -> ProbeTargets:
    """Return the columns of some rated targets alone."""
    fitted = [f for f in every.fitted if f.target in names]
    columns = np.concatenate([f.columns for f in fitted])
    renumbered = [replace(f, columns=np.array([k])) for k, f in enumerate(fitted)]
    return ProbeTargets(every.y[:, columns], np.arange(len(columns)), np.full(len(columns), -1), renumbered)
