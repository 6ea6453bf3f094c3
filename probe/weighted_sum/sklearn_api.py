"""The weighted sum of layers as a scikit-learn estimator, for notebooks and pipelines."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.solvers.sklearn_api import _Probe
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, WEIGHT_PENALTIES, Mixer


class LayerWeightedSum(_Probe):
    """Softmax-weighted sum of standardised layers with a linear head, both fitted for each target.

    The weighted sum is that of speech benchmarks (Yang et al., 2021, SUPERB), with a deterministic solver in place of
    gradient descent, and a penalty on uneven weights, without which they mostly select a single layer.

    Args:
        n_layers: layers that are side by side in the features, all equally wide
        penalties: of the head in rising order, relative to the mean eigenvalue of the uniform weighted sum
        weight_penalties: of the weights, on their squared distance from equal ones; ``(0.0,)`` for none
        n_folds: folds over which the penalties are chosen, at least 2; groups (speakers) are never divided
        max_iterations: of the solver
        seed: of the initial weights, and of the order of groups of equal size when they are assigned to folds

    Attributes:
        layer_weights_: ``(n_layers,)``, or ``(n_targets, n_layers)`` for several targets; each row sums to 1
        coef_: ``(n_features,)``, or ``(n_targets, n_features)``, of the features as they are
        intercept_: a number, or ``(n_targets,)``
    """

    def __init__(
        self,
        n_layers: int = 1,
        penalties: tuple[float, ...] = DEFAULT_PENALTIES,
        weight_penalties: tuple[float, ...] = WEIGHT_PENALTIES,
        n_folds: int = 5,
        max_iterations: int = 60,
        seed: int = 0,
    ) -> None:
        self.n_layers = n_layers
        self.penalties = penalties
        self.weight_penalties = weight_penalties
        self.n_folds = n_folds
        self.max_iterations = max_iterations
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LayerWeightedSum:  # noqa: N803
        """Choose the penalty over folds of groups, then fit all rows.

        Args:
            X: embeddings of all layers, ``(n_utterances, n_layers * dim)``, layer after layer
            y: ratings, ``(n_utterances,)`` or ``(n_utterances, n_targets)``
            groups: ``(n_utterances,)`` the speaker of each row; if None each row is a group by itself

        Raises:
            ValueError: if X or y is not numeric, not finite or of another length, if X is not ``n_layers`` layers wide,
                or if there are fewer than two groups
        """
        X, y, split, one_target = self._inputs(X, y, groups)  # noqa: N806
        if X.shape[1] % self.n_layers:
            raise ValueError(
                f"{X.shape[1]} features can't be {self.n_layers} layers of equal width; "
                "set n_layers to the number of layers."
            )
        layers = X.reshape(len(X), self.n_layers, -1)
        mixer = Mixer(lambda layer, rows: layers[rows, layer], self.n_layers, y, splits=[split])
        chosen = mixer.choose(
            tuple(self.penalties),
            weight_penalties=tuple(self.weight_penalties),
            max_iterations=self.max_iterations,
            seed=self.seed,
        )
        (fit,) = mixer.fit(
            chosen.penalty,
            weight_penalty=chosen.weight_penalty,
            max_iterations=self.max_iterations,
            seeds=(self.seed,),
        )
        ((coefficients, intercept),) = mixer.coefficients(
            chosen, max_iterations=self.max_iterations, seeds=(self.seed,)
        )
        self.layer_weights_ = fit[0].layer_weights[0] if one_target else fit[0].layer_weights
        self._store(coefficients.reshape(len(coefficients), -1), intercept, one_target=one_target)
        return self
