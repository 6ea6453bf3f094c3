"""What the transcript's words leave of each rating, so that a layer can be asked for what lies beyond the text."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.solvers.ridge import NestedRidge
from layerprobe.probe.splits import Split


def text_residuals(
    words: np.ndarray, ratings: np.ndarray, *, splits: list[Split], alphas: tuple[float, ...]
) -> np.ndarray:
    """Ratings less what ridge on the words predicts of them, for each split.

    Every prediction is of speakers that its fit has not heard: a training row's comes from the inner folds that hold
    it out, a test row's from all training rows, and the penalty is chosen on the inner folds. A fit that had seen the
    training rows would leave too little of them, the less the more words there are, and no residual of a test row
    would look like them (Chernozhukov et al., 2018, on cross-fitting).

    Args:
        words: ``(n_utterances, n_features)``, as `probe.tasks.bag_of_words.word_counts` gives them
        ratings: ``(n_utterances, n_targets)``
        splits: rows of both
        alphas: relative penalties, rising

    Returns:
        ``(n_utterances, n_splits, n_targets)``; rows that a split neither trains on nor tests keep their ratings less
        their mean in its training rows
    """
    fits = NestedRidge(words, splits=splits, alphas=alphas).fit(ratings, inner_predictions=True)
    rest = np.empty((len(ratings), len(splits), ratings.shape[1]))
    for k, (split, fit) in enumerate(zip(splits, fits, strict=True)):
        assert fit.inner_prediction is not None
        rest[:, k] = ratings - ratings[split.train].mean(axis=0)
        rest[split.train, k] = ratings[split.train] - fit.inner_prediction
        rest[split.test, k] = ratings[split.test] - fit.prediction
    return rest
