"""The weighted sum of layers: softmax weights and a linear head, per target, for all splits and seeds in parallel.

It follows speech benchmarks (Yang et al., 2021, SUPERB), but on pooled layers that are standardised first, so that a
layer's weight does not measure its scale. Squared error with a penalty on the head repositions 1 - CCC: after moment
matching, as for every probe here, both have the same optimal direction. The weights are a model and not a measurement:
compare them with the scores of single layers. A penalty on uneven weights, chosen with that of the head on inner folds,
keeps them from selecting a single layer wherever several carry the ratings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.layers import MEMORY, LayerStack, ReadLayer
from layerprobe.probe.weighted_sum.objective import LOGIT_UNIT, Basis, MixProblem, Models
from layerprobe.probe.weighted_sum.scaling import Scaling, contributions

DEFAULT_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
# On the squared distance of the weights from equal ones, in units of a rating's variance. Without it, or at 0, the
# penalty on the head alone moves the weights to a single layer: a mix of many layers has less variance, so it needs a
# larger head (`tests/benchmarks/layer_weight_recovery.py`).
WEIGHT_PENALTIES = (0.0, 0.1, 1.0)
LOGIT_STD = 0.1  # standard deviation of the initial layer logits over seeds: close to uniform weights
TOLERANCE = 1e-3  # relative decrease of the error at which a fit counts as converged
SUBSET_ROWS = 4096  # rows on which the solver starts if the layers are not in memory


@dataclass(frozen=True)
class Chosen:
    """Penalties that the inner folds choose, with the inner held-out predictions."""

    penalty: np.ndarray  # (n_splits, n_targets), of the head
    weight_penalty: np.ndarray  # (n_splits, n_targets), of the weights
    inner_prediction: list[np.ndarray]  # (n_train, n_targets) of each split's training speakers, each held out once
    inner_weights: list[np.ndarray]  # (n_inner_folds, n_targets, n_layers) of each split, fitted without that fold

    def half_widths(self) -> list[np.ndarray]:
        """Return half of the 95 % interval of each weight, ``(n_targets, n_layers)`` of each split.

        It is that of a delete-a-group jackknife over the training speakers, whose groups are the inner folds, with
        Student's t of one degree of freedom less than there are folds.
        """
        found = []
        for weights in self.inner_weights:
            n = len(weights)
            variance = (n - 1) / n * ((weights - weights.mean(axis=0)) ** 2).sum(axis=0)
            found.append(float(stdtrit(n - 1, 0.975)) * np.sqrt(variance))
        return found


@dataclass(frozen=True)
class WeightedSumFit:
    """Predictions and layer weights of one split and one seed for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    layer_weights: np.ndarray  # (n_targets, n_layers), each row sums to 1
    # (n_targets, n_layers), weight times norm of the scaled layer; each row sums to 1, or is 0 where all are constant
    contributions: np.ndarray


# Training set, target, penalties of head and weights, and seed, which identify a model
_Key = tuple[int, int, float, float, int]


class _Fitting(ABC):
    """What weighted sums of all layers of one encoder have in common, however they are fitted."""

    _sets: TrainingSets
    _splits: list[Split]
    _y: np.ndarray
    _scaling: Scaling
    _n_layers: int

    @abstractmethod
    def _solve(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions of every row, ``(n_rows, n_models)``, and layer weights, ``(n_models, n_layers)``.

        Rows are in the order of the training sets; those that a model neither trains on nor holds out may be NaN.
        """

    @abstractmethod
    def first(self, n_layers: int) -> _Fitting:
        """Return the weighted sums of the lowest ``n_layers`` layers (Tenney et al., 2019, cumulative scoring)."""

    def choose(
        self,
        penalties: tuple[float, ...] | np.ndarray,
        *,
        max_iterations: int,
        seed: int,
        weight_penalties: tuple[float, ...] | np.ndarray = (0.0,),
        learns: bool = True,
    ) -> Chosen:
        """Choose the penalties with the smallest squared error on inner folds, per split and target.

        Args:
            penalties: candidates relative to the mean eigenvalue of the uniform weighted sum, ``(n,)`` for all or
                ``(n_splits, n_targets, n)`` for each
            max_iterations: of the solver
            seed: of the initial layer logits
            weight_penalties: candidates of the penalty on the weights, as ``penalties``, each tried with each of these
            learns: False keeps the weights uniform
        """
        candidates = self._candidates(penalties, weight_penalties)
        keys = self._inner_keys(candidates, seed)
        return self._best(candidates, keys, *self._solve(keys, max_iterations, learns))

    def cumulative(
        self, chosen: Chosen, *, max_iterations: int, seed: int
    ) -> list[tuple[list[WeightedSumFit], Chosen]]:
        """For each l fit the weighted sums of layers 0 to l (Tenney et al., 2019, cumulative scoring).

        Args:
            chosen: penalties of the weighted sum of all layers, which serve every l, so that only the layers differ
            max_iterations: of the solver
            seed: of the initial layer logits

        Returns:
            For each l the fits of all splits, and ``chosen`` with inner held-out predictions of these layers.
        """
        found, strength = [], chosen.weight_penalty
        for n_layers in range(1, self._n_layers + 1):
            part = self.first(n_layers)
            candidates = part._candidates(chosen.penalty[:, :, None], strength[:, :, None])
            keys = part._inner_keys(candidates, seed)
            inner = part._best(candidates, keys, *part._solve(keys, max_iterations, True))
            (fits,) = part.fit(chosen.penalty, weight_penalty=strength, max_iterations=max_iterations, seeds=(seed,))
            found.append((fits, inner))
        return found

    def _candidates(
        self, penalties: tuple[float, ...] | np.ndarray, weight_penalties: tuple[float, ...] | np.ndarray
    ) -> np.ndarray:
        return _pairs(penalties, weight_penalties, len(self._splits), self._y.shape[1])

    def _inner_keys(self, candidates: np.ndarray, seed: int) -> list[_Key]:
        """Return the models of all inner folds, each once."""
        keys: dict[_Key, None] = {}
        for k, t, p in np.ndindex(candidates.shape[:3]):
            for s, _ in self._sets.inner[k]:
                keys[s, t, *candidates[k, t, p].tolist(), seed] = None
        return list(keys)

    def _inner_predictions(
        self, k: int, candidates: np.ndarray, keys: list[_Key], prediction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions ``(n_candidates, n_train, n_targets)`` of one split, each row held out once, and models.

        The models ``(n_inner_folds, n_candidates, n_targets)`` are positions in ``keys``.
        """
        column, folds, n_targets = {key: i for i, key in enumerate(keys)}, self._sets.inner[k], self._y.shape[1]
        seed = keys[0][-1]
        inner = np.empty((candidates.shape[2], len(self._y), n_targets))
        of_fold = np.empty((len(folds), candidates.shape[2], n_targets), dtype=int)
        for fold, (s, cells) in enumerate(folds):
            positions = self._sets.positions(cells)
            for t, p in np.ndindex(n_targets, candidates.shape[2]):
                one = of_fold[fold, p, t] = column[s, t, *candidates[k, t, p].tolist(), seed]
                inner[p, self._sets.order[positions], t] = prediction[positions, one]
        return inner[:, self._splits[k].train], of_fold

    def _inner_errors(self, k: int, inner: np.ndarray) -> np.ndarray:
        """Return mean squared errors ``(n_candidates, n_targets)`` of one split."""
        return np.asarray(((inner - self._y[self._splits[k].train]) ** 2).mean(axis=1))

    def _best(self, candidates: np.ndarray, keys: list[_Key], prediction: np.ndarray, weights: np.ndarray) -> Chosen:
        n_splits, n_targets = candidates.shape[:2]
        chosen, inner_predictions, inner_weights = np.empty((n_splits, n_targets, 2)), [], []
        targets = np.arange(n_targets)
        for k in range(n_splits):
            inner, of_fold = self._inner_predictions(k, candidates, keys, prediction)
            best = self._inner_errors(k, inner).argmin(axis=0)
            chosen[k] = candidates[k, targets, best]
            inner_predictions.append(inner[best, :, targets].T)
            inner_weights.append(weights[of_fold[:, best, targets]])
        return Chosen(chosen[..., 0], chosen[..., 1], inner_predictions, inner_weights)

    def fit(
        self,
        penalty: np.ndarray,
        *,
        max_iterations: int,
        seeds: tuple[int, ...],
        weight_penalty: np.ndarray | None = None,
        learns: bool = True,
    ) -> list[list[WeightedSumFit]]:
        """For each seed and split fit the weighted sums of all targets on all training rows.

        Args:
            penalty: ``(n_splits, n_targets)``, as `choose` returns them
            max_iterations: of the solver
            seeds: of the initial layer logits
            weight_penalty: ``(n_splits, n_targets)``; 0 if None
            learns: False keeps the weights uniform
        """
        strength = np.zeros_like(penalty) if weight_penalty is None else weight_penalty
        keys = self._outer_keys(penalty, strength, seeds)
        return self._fits(seeds, *self._solve(keys, max_iterations, learns))

    def _outer_keys(self, penalty: np.ndarray, strength: np.ndarray, seeds: tuple[int, ...]) -> list[_Key]:
        return [
            (outer, t, float(penalty[k, t]), float(strength[k, t]), s)
            for s in seeds
            for k, outer in enumerate(self._sets.outer)
            for t in range(self._y.shape[1])
        ]

    def _fits(self, seeds: tuple[int, ...], prediction: np.ndarray, weights: np.ndarray) -> list[list[WeightedSumFit]]:
        """Return the fits of each seed and split, of models in the order of `_outer_keys`."""
        position = np.full(len(self._y), -1)
        position[self._sets.order] = np.arange(len(self._sets.order))
        fits: list[list[WeightedSumFit]] = []
        columns = iter(np.arange(len(weights)).reshape(-1, self._y.shape[1]))
        for _ in seeds:
            fits.append([])
            for k, split in enumerate(self._splits):
                chosen = next(columns)
                norms = self._scaling.norm[self._sets.outer[k], : weights.shape[1]].cpu().numpy()
                fits[-1].append(
                    WeightedSumFit(
                        prediction=prediction[np.ix_(position[split.test], chosen)],
                        layer_weights=weights[chosen],
                        contributions=contributions(weights[chosen], norms),
                    )
                )
        return fits


class Mixer(_Fitting):
    """Weighted sums of layers that fit in memory, or are small enough to be read again in every step."""

    def __init__(
        self,
        read: ReadLayer,
        n_layers: int,
        y: np.ndarray,
        *,
        splits: list[Split],
        standardise: bool = True,
        memory: int = MEMORY,
        device: str = "cpu",
    ) -> None:
        """Read the layers, learn their scaling in each training set, and decompose its uniform weighted sum.

        Args:
            read: returns rows of a layer, ``(n_rows, n_features)``
            n_layers: number of layers of the encoder
            y: ratings, ``(n_utterances, n_targets)``, finite
            splits: rows of ``y``
            standardise: whether each layer and feature is standardised; otherwise one scale serves all layers
            memory: bytes of layers that may be kept in memory; larger ones are read again for each step
            device: the torch device
        """
        sets = TrainingSets.from_splits(splits, len(y))
        self._open(LayerStack(read, n_layers, sets.order, memory=memory, device=device), sets, y, splits, standardise)

    def first(self, n_layers: int) -> Mixer:
        """Return the weighted sums of the lowest ``n_layers`` layers."""
        part = Mixer.__new__(Mixer)
        part._open(self._stack.first(n_layers), self._sets, self._y, self._splits, self._standardise)
        return part

    def coefficients(
        self, chosen: Chosen, *, max_iterations: int, seeds: tuple[int, ...], learns: bool = True
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return per split coefficients ``(n_targets, n_layers, n_features)`` of raw layers, and intercepts.

        They are those of the first of ``seeds``. All are fitted together, as `fit` does, for the sums of a product
        depend on how many models it serves, and where a search ends on these.
        """
        keys = self._outer_keys(chosen.penalty, chosen.weight_penalty, seeds)
        models, parameters = self._minimise(keys, max_iterations, learns=learns)
        n_targets = self._y.shape[1]
        parts = (slice(k * n_targets, (k + 1) * n_targets) for k in range(len(self._splits)))
        return [self._problem.coefficients(models.some(part), parameters[part], self._basis) for part in parts]

    def _open(
        self, stack: LayerStack, sets: TrainingSets, y: np.ndarray, splits: list[Split], standardise: bool
    ) -> None:
        self._stack, self._sets, self._y, self._splits, self._standardise = stack, sets, y, splits, standardise
        if stack.in_memory:
            self._first_problem = self._problem = MixProblem(stack, y[sets.order], sets, standardise=standardise)
        else:  # start on some of the rows, so that few passes over all of them are needed
            some, positions = sets.thinned(SUBSET_ROWS)
            self._first_problem = MixProblem(stack.some(positions), y[some.order], some, standardise=standardise)
            self._problem = MixProblem(stack, y[sets.order], sets, standardise=standardise)
        self._basis, self._scaling = Basis(self._first_problem), self._problem.scaling
        self._n_layers = stack.n_layers

    def _solve(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[np.ndarray, np.ndarray]:
        models, parameters = self._minimise(keys, max_iterations, learns)
        weights = torch.softmax(LOGIT_UNIT * parameters[:, : self._stack.n_layers], dim=1)
        return self._problem.predict(models, parameters, self._basis), weights.double().cpu().numpy()

    def _minimise(self, keys: list[_Key], max_iterations: int, learns: bool) -> tuple[Models, torch.Tensor]:
        sets, targets, penalties, strengths, seeds = (np.array(column) for column in zip(*keys, strict=True))
        logits = initial_logits(seeds, self._stack.n_layers, learns=learns)
        models = Models(sets, targets, penalties, logits, learns, strengths)
        parameters = self._basis.start(models)
        for problem in dict.fromkeys((self._first_problem, self._problem)):
            parameters = problem.minimise(
                models, parameters, self._basis, max_iterations=max_iterations, tolerance=TOLERANCE
            ).parameters
        return models, parameters


def _pairs(
    penalties: tuple[float, ...] | np.ndarray,
    weight_penalties: tuple[float, ...] | np.ndarray,
    n_splits: int,
    n_targets: int,
) -> np.ndarray:
    """Return every pair of candidates, ``(n_splits, n_targets, n_candidates, 2)``, the largest weight penalty first."""
    heads, weights = (
        np.broadcast_to(grid, (n_splits, n_targets, np.shape(grid)[-1])) for grid in (penalties, weight_penalties)
    )
    weights = np.sort(weights, axis=2)[:, :, ::-1]  # of equal errors the first is chosen
    n_heads, n_weights = heads.shape[2], weights.shape[2]
    return np.stack([np.repeat(heads, n_weights, axis=2), np.tile(weights, (1, 1, n_heads))], axis=3)


def initial_logits(seeds: np.ndarray, n_layers: int, *, learns: bool) -> np.ndarray:
    """Return the logits ``(n_models, n_layers)`` that a search starts with; all 0 where the weights are not learnt."""
    if not learns:
        return np.zeros((len(seeds), n_layers))
    initial = {s: np.random.default_rng(s).normal(size=n_layers) for s in set(seeds.tolist())}
    return LOGIT_STD * np.stack([initial[s] for s in seeds.tolist()])
