"""Similarity by its textbook definitions, slow and obvious."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr


def textbook_cka(x, y):
    """From whole Gram matrices, word for word: Song et al. (2012), equation 5."""

    def hsic(k, m):
        n, ones = len(k), np.ones(len(k))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        last = 2 / (n - 2) * (ones @ k @ m @ ones)
        return (np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - last) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def textbook_rho(x, y, speakers):
    """Spearman's rho over the dissimilarities of utterances of different speakers."""
    differs = squareform(speakers[:, None] != speakers, checks=False)
    far = [pdist(side, "euclidean" if side.shape[1] < 3 else "correlation")[differs] for side in (x, y)]
    return spearmanr(*far).statistic
