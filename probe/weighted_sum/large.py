"""The weighted sum of layers that are too large to be multiplied in every step of a search.

The weights are those of the layers' moments (`probe.weighted_sum.moments`), so a step costs the same for any number of
utterances; then heads are refined on all features and utterances in a few readings (`probe.weighted_sum.refine`).
"""

from __future__ import annotations

import numpy as np
import torch

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.layers import COMPACT_MEMORY, MEMORY, CompactStack, ReadLayer
from layerprobe.probe.weighted_sum.moments import LayerMoments
from layerprobe.probe.weighted_sum.reduced import Mixes, ReducedFit, fit_weights
from layerprobe.probe.weighted_sum.refine import Columns, predict_held_out
from layerprobe.probe.weighted_sum.solver import Mixer, _Fitting, _Key, initial_logits

STEPS = 3  # of the refinement
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

    def _solve(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[np.ndarray, np.ndarray]:
        n_rows, n_features = len(self._sets.order), self._moments.stack.n_features
        each = 4 * (3 * n_rows + 3 * self._n_layers * n_features + 3 * self._moments.n_leading**2)
        at_once = max(16, REFINED_BYTES // each)
        order = sorted(range(len(keys)), key=lambda i: keys[i][0])  # a training set's moments are summed once
        prediction = np.empty((n_rows, len(keys)))
        weights = np.empty((len(keys), self._n_layers))
        for begin in range(0, len(keys), at_once):
            chosen = order[begin : begin + at_once]
            columns, reduced = self._reduce([keys[i] for i in chosen], max_iterations, learns)
            prediction[:, chosen] = predict_held_out(self._moments, columns, reduced, n_steps=STEPS)
            weights[chosen] = reduced.weights.double().numpy()
        return prediction, weights

    def _reduce(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[Columns, ReducedFit]:
        """Return the weights of mixes in the order of ``keys``, which are sorted by training set."""
        sets, targets, relative, strengths, seeds = (np.array(column) for column in zip(*keys, strict=True))
        logits = initial_logits(seeds, self._n_layers, learns=learns)
        fits, penalties = [], []
        for s in np.unique(sets).tolist():
            moments, mine = self._moments.of_set(s, self._n_layers), sets == s
            penalties.append(torch.from_numpy(relative[mine] * moments.unit).float())
            mixes = Mixes(targets[mine], penalties[-1], logits[mine], learns, square=strengths[mine])
            fits.append(fit_weights(moments, mixes, max_iterations=max_iterations, tolerance=TOLERANCE))
        held_out = [frozenset(self._sets.cells) - self._sets.members[s] for s in sets]
        return Columns(sets, targets, torch.cat(penalties), held_out), ReducedFit.joined(fits)


def make_mixer(
    read: ReadLayer,
    n_layers: int,
    y: np.ndarray,
    *,
    splits: list[Split],
    standardise: bool = True,
    device: str = "cpu",
) -> Mixer | LargeMixer:
    """Return the solver of weighted sums for layers of this size; arguments are those of `Mixer`."""
    used = np.unique(np.concatenate([rows for split in splits for rows in (split.train, split.test)]))
    size = 4 * n_layers * len(used) * read(0, used[:1]).shape[1]
    if device == "cpu" and size > MEMORY:
        return LargeMixer(read, n_layers, y, splits=splits, standardise=standardise)
    return Mixer(read, n_layers, y, splits=splits, standardise=standardise, device=device)
