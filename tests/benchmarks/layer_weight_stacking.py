"""Stacking and other estimators of layer weights from the layers' own inner held-out predictions alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from benchmarks.layer_weight_estimators import N_ORDERS, N_RESAMPLES, Estimate, Problem
from scipy.optimize import nnls

TEMPERATURES = tuple(np.logspace(-1, 3, 13))
STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


def resamples(p: Problem, n: int) -> Iterator[np.ndarray]:
    """Yield how often each speaker is sampled, ``(n_speakers,)``."""
    n_speakers = len(np.unique(p.speakers))
    for _ in range(n):
        yield np.bincount(p.rng.integers(n_speakers, size=n_speakers), minlength=n_speakers)


def simplex(c: np.ndarray, strength: float = 0.0) -> np.ndarray:
    """Return the weights on the simplex that minimise ``w'Cw + strength * tr(C) / L * w'w``.

    At the optimum ``C w`` is constant on the support and no smaller elsewhere, so w is the direction of the nonnegative
    least squares of ``u'Cu / 2 - sum(u)``.
    """
    n = len(c)
    root = np.linalg.cholesky(c + (strength + 1e-9) * np.trace(c) / n * np.eye(n))
    u, _ = nnls(root.T, np.linalg.solve(root, np.ones(n)), maxiter=50 * n)
    return u / u.sum()


def free(c: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Return nonnegative weights, unconstrained in their sum, then scaled to sum to 1."""
    n = len(c)
    root = np.linalg.cholesky(c + 1e-9 * np.trace(c) / n * np.eye(n))
    u, _ = nnls(root.T, np.linalg.solve(root, cross), maxiter=50 * n)
    return u / u.sum() if u.sum() > 0 else np.full(n, 1 / n)


def _errors(p: Problem, groups: np.ndarray) -> np.ndarray:
    """Return the moments of the layers' errors by group, ``(n_groups, n_layers, n_layers)``."""
    e = p.ridges[0] - p.y[:, None]
    return np.stack([e[groups == g].T @ e[groups == g] for g in np.unique(groups)])


def _stack(p: Problem, w: np.ndarray) -> Estimate:
    return w, w[:, None] * p.ridges[1]


def _strength(p: Problem, fit: Callable[[np.ndarray, float], np.ndarray], candidates: tuple[float, ...]) -> float:
    parts = _errors(p, p.folds)
    whole, errors = parts.sum(axis=0), []
    for s in candidates:
        errors.append(sum(w @ c @ w for c in parts for w in [fit(whole - c, s)]))
    return candidates[int(np.argmin(errors))]


def stacking(p: Problem) -> Estimate:
    """Weights on the simplex of the inner held-out predictions (Wolpert, 1992; Breiman, 1996)."""
    return _stack(p, simplex(_errors(p, p.folds).sum(axis=0)))


def stacking_free(p: Problem) -> Estimate:
    """Nonnegative weights of any sum, scaled to sum to 1."""
    q = p.ridges[0] - p.ridges[0].mean(axis=0)
    return _stack(p, free(q.T @ q, q.T @ p.y))


def stacking_l2(p: Problem) -> Estimate:
    """Stacking with an L2 penalty that the folds choose."""
    return _stack(p, simplex(_errors(p, p.folds).sum(axis=0), _strength(p, simplex, STRENGTHS)))


def stacking_bagged(p: Problem) -> Estimate:
    """Stacking averaged over resamples of speakers."""
    by_speaker = _errors(p, p.speakers)
    return _stack(p, np.mean([simplex(np.tensordot(n, by_speaker, 1)) for n in resamples(p, N_RESAMPLES)], axis=0))


def stacking_l2_bagged(p: Problem) -> Estimate:
    """Stacking with the chosen L2 penalty, averaged over resamples of speakers."""
    by_speaker, s = _errors(p, p.speakers), _strength(p, simplex, STRENGTHS)
    return _stack(p, np.mean([simplex(np.tensordot(n, by_speaker, 1), s) for n in resamples(p, N_RESAMPLES)], axis=0))


def stacking_free_bagged(p: Problem) -> Estimate:
    """Nonnegative weights of any sum, averaged over resamples of speakers."""
    names, fits = np.unique(p.speakers), []
    q = p.ridges[0] - p.ridges[0].mean(axis=0)
    grams = np.stack([q[p.speakers == g].T @ q[p.speakers == g] for g in names])
    crosses = np.stack([q[p.speakers == g].T @ p.y[p.speakers == g] for g in names])
    for n in resamples(p, N_RESAMPLES):
        fits.append(free(np.tensordot(n, grams, 1), np.tensordot(n, crosses, 1)))
    return _stack(p, np.mean(fits, axis=0))


def stacking_entropy(p: Problem) -> Estimate:
    """Stacking with an entropy penalty that the folds choose, by exponentiated gradient."""

    def fit(c: np.ndarray, strength: float) -> np.ndarray:
        c = c / np.trace(c) * len(c)
        w, step = np.full(len(c), 1 / len(c)), 1.0 / (2 * np.abs(c).max() + strength)
        for _ in range(500):
            s = np.log(w) - step * (2 * c @ w + strength * np.log(w))
            new = np.exp(s - s.max())
            new /= new.sum()
            done, w = np.abs(new - w).max() < 1e-6, np.maximum(new, 1e-12)
            if done:
                break
        return w

    return _stack(p, fit(_errors(p, p.folds).sum(axis=0), _strength(p, fit, (1e-4, 1e-3, 1e-2, 0.1, 1.0))))


def softmax_of_errors(p: Problem) -> Estimate:
    """Softmax of the layers' own inner errors at a temperature that the folds choose."""

    def fit(c: np.ndarray, temperature: float) -> np.ndarray:
        e = np.diag(c) / np.diag(c).min()
        w = np.exp(-temperature * (e - 1))
        return w / w.sum()

    return _stack(p, fit(_errors(p, p.folds).sum(axis=0), _strength(p, fit, TEMPERATURES)))


def best_layer(p: Problem) -> Estimate:
    """How often a layer has the smallest inner error over resamples of speakers."""
    by_speaker = np.stack([np.diag(c) for c in _errors(p, p.speakers)])
    wins = [np.argmin(n @ by_speaker) for n in resamples(p, 200)]
    return _stack(p, np.bincount(wins, minlength=p.shape[0]) / len(wins))


def leave_one_out(p: Problem) -> Estimate:
    """The rise of stacking's error when a layer is left out; predicts as stacking."""
    c = _errors(p, p.folds).sum(axis=0)
    w = simplex(c)
    loss = np.zeros(len(c))
    for k in np.flatnonzero(w):
        rest = np.delete(np.arange(len(c)), k)
        v = simplex(c[np.ix_(rest, rest)])
        loss[k] = v @ c[np.ix_(rest, rest)] @ v - w @ c @ w
    loss = np.maximum(loss, 0)
    return (loss / loss.sum() if loss.sum() > 0 else w), w[:, None] * p.ridges[1]


def shapley(p: Problem) -> Estimate:
    """Fractions of R2 averaged over orders of layers (Lindeman, Merenda and Gold, 1980), from stacking's moments."""
    q = p.ridges[0] - p.ridges[0].mean(axis=0)
    c, cross, n = q.T @ q, q.T @ p.y, p.shape[0]
    orders = np.argsort(p.rng.random((N_ORDERS, n)), axis=1)
    c = c + 1e-6 * np.trace(c) / n * np.eye(n)
    roots = np.linalg.cholesky(c[orders[:, :, None], orders[:, None, :]])
    gains = np.linalg.solve(roots, cross[orders][:, :, None])[:, :, 0] ** 2
    fraction = np.zeros(n)
    np.add.at(fraction, orders, gains)
    return _stack(p, fraction / fraction.sum())


def uniform(p: Problem) -> Estimate:
    """Equal weights, to compare with."""
    return _stack(p, np.full(p.shape[0], 1 / p.shape[0]))


def _out_of_bag(p: Problem, fit: Callable[[np.ndarray, float], np.ndarray], *, each: bool = False) -> Estimate:
    """Average over resamples of speakers, at the strength with the least error on the speakers left out of each."""
    by_speaker = _errors(p, p.speakers)
    errors, weights = np.zeros((N_RESAMPLES, len(STRENGTHS))), np.zeros((N_RESAMPLES, len(STRENGTHS), p.shape[0]))
    for k, n in enumerate(resamples(p, N_RESAMPLES)):
        c, out = np.tensordot(n, by_speaker, 1), by_speaker[n == 0].sum(axis=0)
        weights[k] = [fit(c, s) for s in STRENGTHS]
        errors[k] = np.einsum("sl,lm,sm->s", weights[k], out, weights[k])
    if each:
        return _stack(p, weights[np.arange(N_RESAMPLES), errors.argmin(axis=1)].mean(axis=0))
    return _stack(p, weights[:, errors.sum(axis=0).argmin()].mean(axis=0))


def stacking_l2_oob(p: Problem) -> Estimate:
    """Stacking averaged over resamples of speakers, with one L2 penalty that the left out speakers choose."""
    return _out_of_bag(p, simplex)


def stacking_l2_oob_each(p: Problem) -> Estimate:
    """Stacking averaged over resamples of speakers, each with the L2 penalty that its left out speakers choose."""
    return _out_of_bag(p, simplex, each=True)
