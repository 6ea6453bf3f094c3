"""The weighted sum: a softmax mix of layers with a linear head, per target, for all splits and seeds together.

As speech benchmarks mix layers (Yang et al., 2021, SUPERB), but on pooled layers that are standardised first, so a
layer's weight does not measure its scale. Squared error with a penalty on the head takes the place of 1 - CCC: once
mean and spread are matched, as for every probe here, the two ask for the same direction. The weights are a model,
not a measurement: seeds end in different ones, so read them beside the layers' own scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.layers import HOLD, LayerStack, ReadLayer
from layerprobe.probe.weighted_sum.objective import LOGIT_UNIT, Basis, MixProblem, Models

DEFAULT_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
LOGIT_SPREAD = 0.1  # of the first layer logits over seeds: near the uniform mix, from different sides
TOLERANCE = 1e-3  # relative decrease of the error at which a fit counts as settled
COARSE_ROWS = 4096  # on which the search begins where the layers are not held


@dataclass(frozen=True)
class Chosen:
    """What the inner folds say."""

    penalty: np.ndarray  # (n_splits, n_targets)
    inner_prediction: list[np.ndarray]  # (n_train, n_targets) of each split's training speakers, each held out once


@dataclass(frozen=True)
class WeightedSumFit:
    """What one split and one seed give for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    layer_weights: np.ndarray  # (n_targets, n_layers), each row sums to 1
    contributions: np.ndarray  # (n_targets, n_layers), weight times norm of the layer as it is mixed; sums to 1


# A training set, a target, a penalty and a seed: what tells one model from another
_Key = tuple[int, int, float, int]


class Mixer:
    """All layers of one encoder, ready to be mixed in several ways."""

    def __init__(
        self,
        read: ReadLayer,
        n_layers: int,
        y: np.ndarray,
        *,
        splits: list[Split],
        standardise: bool = True,
        hold: int = HOLD,
        device: str = "cpu",
    ) -> None:
        """Read the layers, learn how each training set scales them, and decompose its uniform mix.

        Args:
            read: gives rows of a layer, ``(n_rows, n_features)``
            n_layers: of the encoder
            y: ratings, ``(n_utterances, n_targets)``, finite
            splits: rows of ``y``
            standardise: each layer and feature; else layers are mixed as they are, all divided by one number
            hold: bytes of layers that may be kept in memory; more are read again for each step
            device: where torch multiplies
        """
        sets = TrainingSets.of(splits, len(y))
        self._open(LayerStack(read, n_layers, sets.order, hold=hold, device=device), sets, y, splits, standardise)

    def first(self, n_layers: int) -> Mixer:
        """A mixer of the lowest layers alone (Tenney et al., 2019: the cumulative mix)."""
        part = Mixer.__new__(Mixer)
        part._open(self._stack.first(n_layers), self._sets, self._y, self._splits, self._standardise)
        return part

    def choose(
        self, penalties: tuple[float, ...] | np.ndarray, *, max_iterations: int, seed: int, learns: bool = True
    ) -> Chosen:
        """The head's penalty with the least squared error on inner folds, per split and target.

        Args:
            penalties: candidates relative to the mean eigenvalue of the uniform mix, for all alike ``(n,)`` or for each
                ``(n_splits, n_targets, n)``
            max_iterations: of the search
            seed: of the first layer logits
            learns: False keeps the weights uniform
        """
        n_splits, n_targets = len(self._splits), self._y.shape[1]
        candidates = np.broadcast_to(penalties, (n_splits, n_targets, np.shape(penalties)[-1]))
        column: dict[_Key, int] = {}
        for k, t, p in np.ndindex(candidates.shape):
            for s, _ in self._sets.inner[k]:
                column.setdefault((s, t, float(candidates[k, t, p]), seed), len(column))
        prediction, _ = self._solve(list(column), max_iterations, learns)
        chosen, inner_predictions = np.empty((n_splits, n_targets)), []
        for k, folds in enumerate(self._sets.inner):
            inner = np.empty((candidates.shape[2], len(self._y), n_targets))
            for s, cells in folds:
                places = self._sets.places(cells)
                for t, p in np.ndindex(n_targets, candidates.shape[2]):
                    one = column[s, t, float(candidates[k, t, p]), seed]
                    inner[p, self._sets.order[places], t] = prediction[places, one]
            inner = inner[:, self._splits[k].train]
            best = ((inner - self._y[self._splits[k].train]) ** 2).mean(axis=1).argmin(axis=0)
            chosen[k] = candidates[k, np.arange(n_targets), best]
            inner_predictions.append(inner[best, :, np.arange(n_targets)].T)
        return Chosen(chosen, inner_predictions)

    def fit(
        self, penalty: np.ndarray, *, max_iterations: int, seeds: tuple[int, ...], learns: bool = True
    ) -> list[list[WeightedSumFit]]:
        """For each seed and split fit the mixes of all targets on all training rows.

        Args:
            penalty: ``(n_splits, n_targets)``, as `choose` gives them
            max_iterations: of the search
            seeds: of the first layer logits
            learns: False keeps the weights uniform
        """
        targets = range(self._y.shape[1])
        keys = [(o, t, float(penalty[k, t]), s) for s in seeds for k, o in enumerate(self._sets.outer) for t in targets]
        prediction, weights = self._solve(keys, max_iterations, learns)
        fits: list[list[WeightedSumFit]] = []
        columns = iter(np.arange(len(keys)).reshape(-1, len(targets)))
        for _ in seeds:
            fits.append([])
            for k, split in enumerate(self._splits):
                chosen = next(columns)
                share = weights[chosen] * self._problem.scaling.norm[self._sets.outer[k]].cpu().numpy()
                fits[-1].append(
                    WeightedSumFit(
                        prediction=prediction[np.ix_(self._place[split.test], chosen)],
                        layer_weights=weights[chosen],
                        contributions=share / share.sum(axis=1, keepdims=True),
                    )
                )
        return fits

    def coefficients(
        self, penalty: np.ndarray, *, max_iterations: int, seed: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each split coefficients ``(n_targets, n_layers, n_features)`` of layers as they are, and intercepts."""
        targets = range(self._y.shape[1])
        fits = []
        for k, outer in enumerate(self._sets.outer):
            keys = [(outer, t, float(penalty[k, t]), seed) for t in targets]
            models, parameters = self._search(keys, max_iterations, learns=True)
            fits.append(self._problem.coefficients(models, parameters, self._basis))
        return fits

    def _open(
        self, stack: LayerStack, sets: TrainingSets, y: np.ndarray, splits: list[Split], standardise: bool
    ) -> None:
        self._stack, self._sets, self._y, self._splits, self._standardise = stack, sets, y, splits, standardise
        self._place = np.full(len(y), -1)
        self._place[sets.order] = np.arange(len(sets.order))
        if stack.is_held:
            self._mixed_precision = self._problem = MixProblem(stack, y[sets.order], sets, standardise=standardise)
        else:  # begin on some of the rows, so that few passes over all of them are needed
            some, places = sets.thinned(COARSE_ROWS)
            self._mixed_precision = MixProblem(stack.some(places), y[some.order], some, standardise=standardise)
            self._problem = MixProblem(stack, y[sets.order], sets, standardise=standardise)
        self._basis = Basis(self._mixed_precision)

    def _solve(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of every row, ``(n_rows, n_models)``, and layer weights, ``(n_models, n_layers)``."""
        models, parameters = self._search(keys, max_iterations, learns)
        weights = torch.softmax(LOGIT_UNIT * parameters[:, : self._stack.n_layers], dim=1)
        return self._problem.predict(models, parameters, self._basis), weights.double().cpu().numpy()

    def _search(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[Models, torch.Tensor]:
        sets, targets, penalties, seeds = (np.array(column) for column in zip(*keys, strict=True))
        logits = np.zeros((len(keys), self._stack.n_layers))
        if learns:
            drawn = {s: np.random.default_rng(s).normal(size=self._stack.n_layers) for s in set(seeds.tolist())}
            logits = LOGIT_SPREAD * np.stack([drawn[s] for s in seeds.tolist()])
        models = Models(sets, targets, penalties, logits, learns)
        parameters = self._basis.start(models)
        for problem in dict.fromkeys((self._mixed_precision, self._problem)):
            parameters = problem.minimise(
                models, parameters, self._basis, max_iterations=max_iterations, tolerance=TOLERANCE
            ).parameters
        return models, parameters
