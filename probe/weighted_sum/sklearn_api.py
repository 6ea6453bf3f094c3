"""The weighted sum as a scikit-learn estimator; needs scikit-learn, which nothing else here does."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.solvers.sklearn_api import _Probe
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, Mixer


class LayerWeightedSum(_Probe):
    """The weighted sum: a softmax mix of standardised layers with a linear head, for each target.

    Args:
        n_layers: that lie side by side in the features, each as wide as the others
        penalties: of the head, relative to the mean eigenvalue of the uniform mix, rising
        n_folds: over which the penalty is chosen, at least 2; groups (speakers) are never divided
        max_iterations: of the search
        seed: deals groups into folds, and starts the weights
    """

    def __init__(
        self,
        n_layers: int = 1,
        penalties: tuple[float, ...] = DEFAULT_PENALTIES,
        n_folds: int = 5,
        max_iterations: int = 60,
        seed: int = 0,
    ) -> None:
        self.n_layers = n_layers
        self.penalties = penalties
        self.n_folds = n_folds
        self.max_iterations = max_iterations
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LayerWeightedSum:  # noqa: N803
        """Choose penalties on folds of ``groups`` ``(n_utterances,)``, each row its own if None, and fit all rows."""
        X, y, split, one_target = self._inputs(X, y, groups)  # noqa: N806
        if X.shape[1] % self.n_layers:
            raise ValueError(f"{X.shape[1]} features can't be {self.n_layers} layers of equal width")
        layers = X.reshape(len(X), self.n_layers, -1)
        mixer = Mixer(lambda layer, rows: layers[rows, layer], self.n_layers, y, splits=[split])
        chosen = mixer.choose(tuple(self.penalties), max_iterations=self.max_iterations, seed=self.seed)
        (fit,) = mixer.fit(chosen.penalty, max_iterations=self.max_iterations, seeds=(self.seed,))
        ((coefficients, intercept),) = mixer.coefficients(
            chosen.penalty, max_iterations=self.max_iterations, seed=self.seed
        )
        self.layer_weights_ = fit[0].layer_weights[0] if one_target else fit[0].layer_weights
        self._keep(coefficients.reshape(len(coefficients), -1), intercept, one_target=one_target)
        return self
