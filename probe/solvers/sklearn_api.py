"""Ridge on one layer as a scikit-learn estimator, for notebooks and pipelines.

>>> X = np.random.default_rng(0).normal(size=(40, 3))
>>> LayerRidge().fit(X, X[:, 0], groups=np.arange(40) // 4).score(X, X[:, 0]) > 0.99
True
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as missing:
    raise ImportError(
        "LayerRidge and LayerWeightedSum need scikit-learn; install it with pip install 'layerprobe[sklearn]'."
    ) from missing

from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, fit_ridge, nested_ridge
from layerprobe.probe.splits import Split, speaker_folds


class _Probe(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear probe whose penalty is chosen per target by cross-validation in which no group is divided."""

    n_folds: int
    seed: int

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the predicted ratings of embeddings ``(n_utterances, n_features)``.

        Returns:
            ``(n_utterances,)``, or ``(n_utterances, n_targets)`` if it was fitted on several targets
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)  # noqa: N806
        return np.asarray(X @ self.coef_.T + self.intercept_)

    def _inputs(self, X: Any, y: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, Split, bool]:  # noqa: N803
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=[np.float64, np.float32])  # noqa: N806
        speakers = np.arange(len(X)) if groups is None else np.unique(groups, return_inverse=True)[1]
        if len(speakers) != len(X):
            raise ValueError(
                f"groups has {len(speakers)} entries and X has {len(X)} rows; give one group (speaker) per row."
            )
        n_folds = min(self.n_folds, len(np.unique(speakers)))
        if n_folds < 2:
            raise ValueError(
                f"n_samples = {len(X)} in 1 group; choosing the penalty takes two groups (speakers) or more, "
                f"and n_folds of at least 2 (it is {self.n_folds})."
            )
        folds = speaker_folds(speakers, n_folds=n_folds, rng=np.random.default_rng(self.seed))
        split = Split("all", np.arange(len(X)), np.arange(0), folds)
        return X, y.reshape(len(X), -1).astype(np.float64), split, y.ndim == 1

    def _store(self, coefficients: np.ndarray, intercept: np.ndarray, *, one_target: bool) -> None:
        self.coef_ = coefficients[0] if one_target else coefficients
        self.intercept_ = float(intercept[0]) if one_target else intercept


class LayerRidge(_Probe):
    """Ridge regression on the embeddings of one layer, standardised, with a penalty for each target.

    It is the probe of a sweep (Hoerl and Kennard, 1970): alpha is chosen by mean squared error over speaker-disjoint
    folds of the training data, then all rows are fitted. In `cross_val_score` pass the speakers as ``groups`` and in
    ``params={"groups": ...}``, with a `SpeakerKFold` as ``cv``; `GridSearchCV` passes them on to `fit` only if metadata
    routing is enabled and requested by ``set_fit_request(groups=True)``.

    Args:
        alphas: penalties in rising order, relative to the mean eigenvalue of the standardised features' Gram matrix
        n_folds: folds over which alpha is chosen, at least 2; groups (speakers) are never divided
        seed: orders groups of equal size when they are assigned to folds

    Attributes:
        coef_: ``(n_features,)``, or ``(n_targets, n_features)`` for several targets, of the features as they are
        intercept_: a number, or ``(n_targets,)``
        alpha_: the chosen penalty, a number or ``(n_targets,)``
    """

    def __init__(self, alphas: tuple[float, ...] = DEFAULT_ALPHAS, n_folds: int = 5, seed: int = 0) -> None:
        self.alphas = alphas
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LayerRidge:  # noqa: N803
        """Choose alpha over folds of groups, then fit all rows.

        Args:
            X: embeddings, ``(n_utterances, n_features)``
            y: ratings, ``(n_utterances,)`` or ``(n_utterances, n_targets)``
            groups: ``(n_utterances,)`` the speaker of each row; if None each row is a group by itself

        Raises:
            ValueError: if X or y is not numeric, not finite or of another length, or if there are fewer than two groups
        """
        X, y, split, one_target = self._inputs(X, y, groups)  # noqa: N806
        (chosen,) = nested_ridge(X, y, splits=[split], alphas=tuple(self.alphas))
        coefficients, intercept = fit_ridge(X, y, alpha=chosen.alpha)
        self.alpha_ = float(chosen.alpha[0]) if one_target else chosen.alpha
        self._store(coefficients.T, intercept, one_target=one_target)
        return self
