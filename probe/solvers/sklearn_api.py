"""The probes as scikit-learn estimators, for notebooks and pipelines; needs scikit-learn, which nothing else here does.

>>> X = np.random.default_rng(0).normal(size=(40, 3))
>>> LayerRidge().fit(X, X[:, 0], groups=np.arange(40) // 4).score(X, X[:, 0]) > 0.99
True
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, fit_ridge, nested_ridge
from layerprobe.probe.splits import Split, speaker_folds


class _Probe(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A linear probe whose penalty is chosen per target on folds that keep groups apart."""

    n_folds: int
    seed: int

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Ratings of embeddings ``(n_utterances, n_features)``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)  # noqa: N806
        return np.asarray(X @ self.coef_.T + self.intercept_)

    def _inputs(self, X: Any, y: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, Split, bool]:  # noqa: N803
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=[np.float64, np.float32])  # noqa: N806
        speakers = np.arange(len(X)) if groups is None else np.unique(groups, return_inverse=True)[1]
        if len(speakers) != len(X):
            raise ValueError(f"groups has {len(speakers)} entries and X has {len(X)} rows")
        n_folds = min(self.n_folds, len(np.unique(speakers)))
        if n_folds < 2:
            raise ValueError(f"n_samples = {len(X)} in 1 group: choosing the penalty takes two groups")
        folds = speaker_folds(speakers, n_folds=n_folds, rng=np.random.default_rng(self.seed))
        split = Split("all", np.arange(len(X)), np.arange(0), folds)
        return X, y.reshape(len(X), -1).astype(np.float64), split, y.ndim == 1

    def _keep(self, coefficients: np.ndarray, intercept: np.ndarray, *, one_target: bool) -> None:
        self.coef_ = coefficients[0] if one_target else coefficients
        self.intercept_ = float(intercept[0]) if one_target else intercept


class LayerRidge(_Probe):
    """Ridge on one layer, standardised, with an alpha for each target.

    Args:
        alphas: penalties relative to the mean eigenvalue of the standardised features' products, rising
        n_folds: over which alpha is chosen, at least 2; groups (speakers) are never divided
        seed: deals groups into folds
    """

    def __init__(self, alphas: tuple[float, ...] = DEFAULT_ALPHAS, n_folds: int = 5, seed: int = 0) -> None:
        self.alphas = alphas
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LayerRidge:  # noqa: N803
        """Choose alpha on folds of ``groups`` ``(n_utterances,)``, each row its own if None, and fit all rows."""
        X, y, split, one_target = self._inputs(X, y, groups)  # noqa: N806
        (chosen,) = nested_ridge(X, y, splits=[split], alphas=tuple(self.alphas))
        coefficients, intercept = fit_ridge(X, y, alpha=chosen.alpha)
        self.alpha_ = float(chosen.alpha[0]) if one_target else chosen.alpha
        self._keep(coefficients.T, intercept, one_target=one_target)
        return self
