"""The weighted sum of layers that are too large to be multiplied in every step of a search.

The weights are those of the layers' moments (`probe.weighted_sum.moments`), so a step costs the same for any number of
utterances; then heads are refined on all features and utterances in a few readings (`probe.weighted_sum.refine`).
"""

from __future__ import annotations

import numpy as np
import torch

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split
from layerprobe.probe.system import usable_memory
from layerprobe.probe.weighted_sum.layers import COMPACT_MEMORY, MEMORY, CompactStack, ReadLayer
from layerprobe.probe.weighted_sum.moments import LayerMoments
from layerprobe.probe.weighted_sum.reduced import Mixes, ReducedFit, fit_weights, reduce
from layerprobe.probe.weighted_sum.refine import Columns, predict_held_out
from layerprobe.probe.weighted_sum.solver import Chosen, Mixer, WeightedSumFit, _Fitting, _Key, initial_logits

STEPS = 3  # of the refinement
INNER_STEPS = 2  # the same of cumulative mixes on inner folds, which only choose the scale of predictions
REFINED_CANDIDATES = 4  # pairs of penalties that are compared by refined heads, per split and target, at most
NEAR = 1.05  # times the least error: pairs of more are not compared any further
TOLERANCE = 1e-4  # relative decrease of the error at which a search for weights counts as converged
REFINED_BYTES = 2**28  # of heads that are refined in parallel


class LargeMixer(_Fitting):
    """Weighted sums of layers that do not fit in memory in 32 bits."""

    def __init__(
        self,
        read: ReadLayer,
        n_layers: int,
        y: np.ndarray,
        *,
        splits: list[Split],
        standardise: bool = True,
        memory: int = COMPACT_MEMORY,
    ) -> None:
        """Read the layers twice and sum their moments.

        Args:
            read: returns rows of a layer, ``(n_rows, n_features)``
            n_layers: number of layers of the encoder
            y: ratings, ``(n_utterances, n_targets)``, finite
            splits: rows of ``y``
            standardise: whether each layer and feature is standardised; otherwise one scale serves all layers
            memory: bytes of layers in 16 bits that may be kept in memory; larger ones are read again
        """
        sets = TrainingSets.from_splits(splits, len(y))
        stack = CompactStack(read, n_layers, sets.order, memory=memory)
        self._sets, self._splits, self._y, self._n_layers = sets, splits, y, n_layers
        self._moments = LayerMoments(stack, y[sets.order], sets, standardise=standardise)
        self._scaling = self._moments.scaling

    def first(self, n_layers: int) -> LargeMixer:
        """Return the weighted sums of the lowest ``n_layers`` layers."""
        part = LargeMixer.__new__(LargeMixer)
        part.__dict__.update(self.__dict__)
        part._n_layers = n_layers
        return part

    def choose(
        self,
        penalties: tuple[float, ...] | np.ndarray,
        *,
        max_iterations: int,
        seed: int,
        weight_penalties: tuple[float, ...] | np.ndarray = (0.0,),
        learns: bool = True,
    ) -> Chosen:
        """Choose as small layers do, but only the best by the moments' own heads are refined and compared."""
        candidates = self._candidates(penalties, weight_penalties)
        keys = self._inner_keys(candidates, seed)
        weights = self._search(keys, max_iterations, learns)
        if candidates.shape[2] > REFINED_CANDIDATES:
            prediction = self._predict(keys, weights, n_steps=0)
            candidates = self._shortened(candidates, keys, prediction)
            position = {key: i for i, key in enumerate(keys)}
            keys = self._inner_keys(candidates, seed)
            weights = weights[[position[key] for key in keys]]
        prediction = self._predict(keys, weights, n_steps=STEPS)
        return self._best(candidates, keys, prediction, weights.double().numpy())

    def cumulative(
        self, chosen: Chosen, *, max_iterations: int, seed: int
    ) -> list[tuple[list[WeightedSumFit], Chosen]]:
        """As for small layers, but each reading of the layers serves every l."""
        strength = chosen.weight_penalty
        candidates = self._candidates(chosen.penalty[:, :, None], strength[:, :, None])
        inner, outer = self._inner_keys(candidates, seed), self._outer_keys(chosen.penalty, strength, (seed,))
        depths = range(1, self._n_layers + 1)
        found = []
        for keys, n_steps in ((inner, INNER_STEPS), (outer, STEPS)):
            every = [key for _ in depths for key in keys]
            depth = np.repeat(depths, len(keys))
            weights = self._search(every, max_iterations, True, depth)
            prediction = self._predict(every, weights, n_steps=n_steps, depth=depth)
            shape = len(depths), len(keys)
            found.append((prediction.reshape(len(prediction), *shape), weights.double().numpy().reshape(*shape, -1)))
        (held, inner_weights), (predicted, outer_weights) = found
        return [
            (
                self._fits((seed,), predicted[:, i], outer_weights[i, :, :n])[0],
                self._best(candidates, inner, held[:, i], inner_weights[i, :, :n]),
            )
            for i, n in enumerate(depths)
        ]

    def _solve(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[np.ndarray, np.ndarray]:
        weights = self._search(keys, max_iterations, learns)
        return self._predict(keys, weights, n_steps=STEPS), weights.double().numpy()

    def _search(
        self, keys: list[_Key], max_iterations: int, learns: bool, depth: np.ndarray | None = None
    ) -> torch.Tensor:
        """Return the weights ``(n_models, n_layers)``, 0 above the lowest ``depth`` layers of each model."""
        sets, targets, relative, strengths, seeds = (np.array(column) for column in zip(*keys, strict=True))
        depth = np.full(len(keys), self._n_layers) if depth is None else depth
        weights = torch.zeros(len(keys), self._n_layers)
        for s in np.unique(sets).tolist():
            whole = self._moments.of_set(s, self._n_layers)
            for n_layers in np.unique(depth[sets == s]).tolist():
                moments, mine = whole.first(n_layers), np.flatnonzero((sets == s) & (depth == n_layers))
                penalty = torch.from_numpy(relative[mine] * moments.unit).float()
                logits = initial_logits(seeds[mine], n_layers, learns=learns)
                mixes = Mixes(targets[mine], penalty, logits, learns, square=strengths[mine])
                found = fit_weights(moments, mixes, max_iterations=max_iterations, tolerance=TOLERANCE)
                weights[mine, :n_layers] = found
        return weights

    def _predict(
        self, keys: list[_Key], weights: torch.Tensor, *, n_steps: int, depth: np.ndarray | None = None
    ) -> np.ndarray:
        """Return held-out predictions ``(n_rows, n_models)`` of models with given weights."""
        depth = np.full(len(keys), self._n_layers) if depth is None else depth
        order = sorted(range(len(keys)), key=lambda i: (keys[i][0], depth[i]))  # a set's moments are summed once
        prediction = np.empty((len(self._sets.order), len(keys)), dtype=np.float32)
        n_leading, n_rows = self._moments.n_leading, len(self._sets.order)
        products = (8 if n_steps else 3) * self._n_layers * self._moments.stack.n_features
        at_once = max(16, REFINED_BYTES // (4 * (3 * n_rows + products + 3 * n_leading**2)))
        for begin in range(0, len(keys), at_once):
            chosen = order[begin : begin + at_once]
            columns, reduced = self._reduce([keys[i] for i in chosen], weights[chosen], depth[chosen])
            prediction[:, chosen] = predict_held_out(self._moments, columns, reduced, n_steps=n_steps)
        return prediction

    def _reduce(self, keys: list[_Key], weights: torch.Tensor, depth: np.ndarray) -> tuple[Columns, ReducedFit]:
        """Return what solves for the heads of models in the order of ``keys``, which are sorted by training set."""
        sets, targets, relative, _, _ = (np.array(column) for column in zip(*keys, strict=True))
        fits, penalties = [], []
        for s in np.unique(sets).tolist():
            moments, mine = self._moments.of_set(s, self._n_layers), sets == s
            units = {n: moments.first(n).unit for n in np.unique(depth[mine]).tolist()}
            unit = np.array([units[n] for n in depth[mine].tolist()])
            penalties.append(torch.from_numpy(relative[mine] * unit).float())
            fits.append(reduce(moments, weights[torch.from_numpy(mine)], targets[mine], penalties[-1]))
        held_out = [frozenset(self._sets.cells) - self._sets.members[s] for s in sets]
        return Columns(sets, targets, torch.cat(penalties), held_out), ReducedFit.joined(fits)

    def _shortened(self, candidates: np.ndarray, keys: list[_Key], prediction: np.ndarray) -> np.ndarray:
        """Return the candidates with the least inner errors, per split and target, in their order, some repeated."""
        kept = []
        for k in range(len(candidates)):
            inner, _ = self._inner_predictions(k, candidates, keys, prediction)
            errors = self._inner_errors(k, inner)
            best = np.argsort(errors, axis=0, kind="stable")[:REFINED_CANDIDATES]
            near = np.take_along_axis(errors, best, axis=0) <= NEAR * errors.min(axis=0)
            best = np.sort(np.where(near, best, best[:1]), axis=0)
            kept.append(np.take_along_axis(candidates[k], best.T[:, :, None], axis=1))
        return np.stack(kept)


def make_mixer(
    read: ReadLayer,
    n_layers: int,
    y: np.ndarray,
    *,
    splits: list[Split],
    standardise: bool = True,
    device: str = "cpu",
) -> Mixer | LargeMixer:
    """Return the solver of weighted sums for layers of this size; arguments are those of `Mixer`.

    On a GPU all layers are kept in half of its usable memory if they fit, for each step reads them.
    """
    used = np.unique(np.concatenate([rows for split in splits for rows in (split.train, split.test)]))
    size = 4 * n_layers * len(used) * read(0, used[:1]).shape[1]
    if device == "cpu" and size > MEMORY:
        return LargeMixer(read, n_layers, y, splits=splits, standardise=standardise)
    memory = MEMORY if device == "cpu" else max(MEMORY, int(usable_memory(device) / 2))
    return Mixer(read, n_layers, y, splits=splits, standardise=standardise, memory=memory, device=device)
