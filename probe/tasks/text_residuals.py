"""Residuals of ratings after the text, to measure what a layer predicts beyond the transcript."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.solvers.ridge import NestedRidge
from layerprobe.probe.splits import Split


def text_residuals(
    text_features: np.ndarray,
    ratings: np.ndarray,
    *,
    splits: list[Split],
    alphas: tuple[float, ...],
    inner_selection: str | None = None,
) -> np.ndarray:
    """Return ratings minus the predictions of ridge regression on text features, for each split.

    Every prediction is for unseen speakers: that of a training row is from the inner fit that holds it out, that of a
    test row from all training rows, and the penalty is chosen on the inner folds. A fit to the training rows themselves
    would leave residuals that are too small, the smaller the more features there are, and unlike those of test rows
    (Chernozhukov et al., 2018, on cross-fitting).

    Args:
        text_features: ``(n_utterances, n_features)``, from `probe.tasks.bag_of_words.word_counts`
        ratings: ``(n_utterances, n_targets)``
        splits: rows of both arrays
        alphas: relative penalties in rising order
        inner_selection: as of `probe.solvers.ridge.nested_ridge`

    Returns:
        ``(n_utterances, n_splits, n_targets)``; rows that a split neither trains on nor tests hold their ratings
        minus the mean of its training rows
    """
    ridge = NestedRidge(text_features, splits=splits, alphas=alphas, inner_selection=inner_selection)
    fits = ridge.fit(ratings, inner_predictions=True)
    rest = np.empty((len(ratings), len(splits), ratings.shape[1]))
    for k, (split, fit) in enumerate(zip(splits, fits, strict=True)):
        if fit.inner_prediction is None:
            raise RuntimeError("the fit has no predictions of its inner folds")
        rest[:, k] = ratings - ratings[split.train].mean(axis=0)
        rest[split.train, k] = ratings[split.train] - fit.inner_prediction
        rest[split.test, k] = ratings[split.test] - fit.prediction
    return rest
