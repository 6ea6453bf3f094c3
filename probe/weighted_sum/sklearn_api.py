"""The weighted sum of layers as a scikit-learn estimator, for notebooks and pipelines."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, NestedRidge, fit_ridge
from layerprobe.probe.solvers.sklearn_api import _Probe
from layerprobe.probe.weighted_sum.stacking import stack


class LayerWeightedSum(_Probe):
    """Weighted sum of the ridge regressions of single layers, with weights of 0 or more that sum to 1.

    Alpha of each layer is chosen as in `LayerRidge`; the weights are those of stacking (Breiman, 1996) on inner
    held-out predictions, means over resamples of the groups.

    Args:
        n_layers: layers that are side by side in the features, all equally wide
        alphas: penalties in rising order, relative to the mean eigenvalue of a standardised layer's Gram matrix
        n_folds: folds that choose alpha and the weights, at least 2; groups (speakers) are never divided
        seed: of the resamples, and of the order of groups of equal size when they are assigned to folds

    Attributes:
        layer_weights_: ``(n_layers,)``, or ``(n_targets, n_layers)`` for several targets; each row sums to 1
        layer_weights_interval_: 2.5th and 97.5th percentile of the weights over the resamples, ``(2, n_layers)`` or
            ``(n_targets, 2, n_layers)``
        coef_: ``(n_features,)``, or ``(n_targets, n_features)``, of the features as they are
        intercept_: a number, or ``(n_targets,)``
    """

    def __init__(
        self, n_layers: int = 1, alphas: tuple[float, ...] = DEFAULT_ALPHAS, n_folds: int = 5, seed: int = 0
    ) -> None:
        self.n_layers = n_layers
        self.alphas = alphas
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LayerWeightedSum:  # noqa: N803
        """Choose penalties and weights over folds of groups, then fit all rows.

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
        inner, heads, intercepts = [], [], []
        for layer in np.split(X, self.n_layers, axis=1):
            ridge = NestedRidge(layer, splits=[split], alphas=tuple(self.alphas))
            (chosen,) = ridge.fit(y, inner_predictions=True)
            coefficients, intercept = fit_ridge(layer, y, alpha=chosen.alpha)
            inner.append(chosen.inner_prediction)
            heads.append(coefficients)
            intercepts.append(intercept)
        speakers = np.arange(len(X)) if groups is None else np.asarray(groups)
        predictions = np.stack(inner, axis=1)  # (n_utterances, n_layers, n_targets)
        stacks = [
            stack(predictions[:, :, t], y[:, t], speakers, rng=np.random.default_rng(self.seed))
            for t in range(y.shape[1])
        ]
        weights = np.stack([one.weights for one in stacks])
        intervals = np.stack([(one.low, one.high) for one in stacks])
        self.layer_weights_ = weights[0] if one_target else weights
        self.layer_weights_interval_ = intervals[0] if one_target else intervals
        summed = np.einsum("tl,ldt->tld", weights, np.stack(heads)).reshape(len(weights), -1)
        self._store(summed, np.einsum("tl,lt->t", weights, np.stack(intercepts)), one_target=one_target)
        return self
