"""The weighted sum of layers: stacking of the layers' own ridge predictions, with weights of 0 or more that sum to 1.

Stacking (Wolpert, 1992; Breiman, 1996) weights predictions of training speakers that were held out in inner folds, so
that no layer gains by fitting its training rows closely. Each weight is an average over resamples of the training
speakers, which localises the layers without declaring one of several alike to be the only one; it comes with the
interval of these resamples. An L2 penalty on the weights, chosen by the error on the speakers left out of the
resamples, spreads them where the data can't distinguish layers. `tests/benchmarks/layer_weight_recovery.py` compares it
with other estimators on layers in which a signal was planted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

N_RESAMPLES = 50
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 0.0)  # relative to the mean squared error of a layer; of equals the first
MAX_GROUPS = 500  # more speakers are resampled in as many groups
INTERVAL = (0.025, 0.975)
ROUNDING = 1e-9  # relative; makes equal layers share their weight


@dataclass(frozen=True)
class Stack:
    """Weights of the layers in one training set."""

    weights: np.ndarray  # (n_layers,), 0 or more, sum 1; means over resamples of the training speakers
    low: np.ndarray  # (n_layers,), 2.5th percentile over these resamples
    high: np.ndarray  # (n_layers,), 97.5th percentile
    contributions: np.ndarray  # (n_layers,), weight times standard deviation of the layer's predictions; sum 1
    penalty: float  # that was chosen, of `PENALTIES`


def stack(predictions: np.ndarray, y: np.ndarray, speakers: np.ndarray, *, rng: np.random.Generator) -> Stack:
    """Return the weights that predict the ratings of training speakers best.

    Args:
        predictions: ``(n_train, n_layers)``, of each training row by layers fitted without that row's speaker
        y: ratings, ``(n_train,)``
        speakers: ``(n_train,)``, the speaker of each row, or another unit that is held out as a whole
        rng: of the resamples
    """
    moments = error_moments(predictions - y[:, None], speakers)
    n_groups, n_layers = moments.shape[:2]
    drawn = np.stack(
        [np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups) for _ in range(N_RESAMPLES)]
    )
    weights, errors = np.empty((len(PENALTIES), N_RESAMPLES, n_layers)), np.zeros(len(PENALTIES))
    for k, counts in enumerate(drawn):
        inside, outside = np.tensordot(counts, moments, 1), moments[counts == 0].sum(axis=0)
        for p, penalty in enumerate(PENALTIES):
            weights[p, k] = w = simplex_weights(inside, penalty)
            errors[p] += w @ outside @ w
    best = int(errors.argmin())
    low, high = np.quantile(weights[best], INTERVAL, axis=0)
    mean = weights[best].mean(axis=0)
    sizes = mean * predictions.std(axis=0)
    contributions = sizes / (sizes.sum() or 1.0)
    return Stack(mean, low, high, contributions, PENALTIES[best])


def error_moments(errors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the products of the layers' errors, summed over the rows of each group.

    Args:
        errors: ``(n, n_layers)``
        groups: ``(n,)``; beyond `MAX_GROUPS` several are taken together

    Returns:
        ``(n_groups, n_layers, n_layers)``
    """
    group = np.unique(groups, return_inverse=True)[1] % MAX_GROUPS
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))[:-1]
    return np.stack([part.T @ part for part in np.split(errors[order], ends)])


def simplex_weights(moments: np.ndarray, penalty: float = 0.0) -> np.ndarray:
    """Return the w of 0 or more with sum 1 that minimises ``w' C w + penalty * trace(C) / n_layers * w' w``.

    At the minimum ``C w`` is the same for all layers with a weight and no smaller for others, so w has the direction of
    the u of 0 or more that minimises ``u' C u / 2 - sum(u)``, a nonnegative least squares problem.

    Args:
        moments: C, ``(n_layers, n_layers)``, of the layers' errors
        penalty: 0 or more
    """
    n = len(moments)
    scale = np.trace(moments) / n
    if not scale > 0:  # no layer has any error
        return np.full(n, 1 / n)
    root = np.linalg.cholesky(moments / scale + (penalty + ROUNDING) * np.eye(n))
    u, _ = nnls(root.T, np.linalg.solve(root, np.ones(n)), maxiter=50 * n)
    return np.asarray(u / u.sum())
