"""Estimators of layer weights in a few lines each, all computed from moments, for `layer_weight_recovery`.

Each returns weights of the layers, which sum to 1, and coefficients of all layers side by side. Hyperparameters are
chosen on inner folds that are disjoint in speakers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.gradient_descent import replay
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, WEIGHT_PENALTIES, Mixer

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
ALPHAS = tuple(10.0**k for k in np.arange(-3, 4.5, 0.5))
N_RESAMPLES, N_ORDERS = 50, 200


@dataclass(frozen=True)
class Moments:
    """Products of layers side by side and of the ratings, over some rows."""

    gram: np.ndarray  # (n_layers * dim, n_layers * dim)
    cross: np.ndarray  # (n_layers * dim,)
    square: float  # of the ratings
    n: int

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.gram - other.gram, self.cross - other.cross, self.square - other.square, self.n - other.n)

    def error(self, b: np.ndarray) -> float:
        """Return the sum of squared errors of coefficients."""
        return float(self.square - 2 * b @ self.cross + b @ self.gram @ b)


@dataclass
class Problem:
    """Training and test rows of one simulated corpus; layers are standardised on the training rows."""

    layers: np.ndarray  # (n_layers, n, dim)
    y: np.ndarray  # (n,), centred
    folds: np.ndarray  # (n,) inner fold of each row
    speakers: np.ndarray  # (n,)
    test: np.ndarray  # (n_layers, n_test, dim)
    rng: np.random.Generator
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers and width."""
        return self.layers.shape[0], self.layers.shape[2]

    def moments(self, rows: np.ndarray | slice = slice(None)) -> Moments:
        """Return the moments of some rows."""
        x = self.layers[:, rows].transpose(1, 0, 2).reshape(-1, self.shape[0] * self.shape[1])
        y = self.y[rows]
        return Moments(x.T @ x, x.T @ y, float(y @ y), len(y))

    @cached_property
    def whole(self) -> Moments:
        """Moments of all rows."""
        return self.moments()

    @cached_property
    def held_out(self) -> list[Moments]:
        """Moments of each inner fold."""
        return [self.moments(np.flatnonzero(self.folds == k)) for k in np.unique(self.folds)]

    @cached_property
    def ridges(self) -> tuple[np.ndarray, np.ndarray]:
        """Inner held-out predictions of each layer's own ridge, ``(n, n_layers)``, and coefficients of all rows."""
        n_layers, dim = self.shape
        predictions, coefficients = np.empty((len(self.y), n_layers)), np.empty((n_layers, dim))
        for k in range(n_layers):
            block = slice(k * dim, (k + 1) * dim)
            inner = np.empty((len(ALPHAS), len(self.y)))
            for fold, part in zip(np.unique(self.folds), self.held_out, strict=True):
                rows = self.folds == fold
                inner[:, rows] = _path(self.whole - part, block) @ self.layers[k, rows].T
            best = ((inner - self.y) ** 2).sum(axis=1).argmin()
            predictions[:, k], coefficients[k] = inner[best], _path(self.whole, block)[best]
        return predictions, coefficients


Estimate = tuple[np.ndarray, np.ndarray]  # weights (n_layers,) and coefficients (n_layers, dim)


def _path(m: Moments, block: slice) -> np.ndarray:
    values, vectors = np.linalg.eigh(m.gram[block, block])
    right = vectors.T @ m.cross[block]
    return np.stack([vectors @ (right / (values + a * values.mean())) for a in ALPHAS])


def _chosen(p: Problem, fit: Callable[[Moments, Any], Estimate], candidates: list[Any]) -> Any:
    """Return the candidate with the least squared error on inner folds."""
    errors = [sum(part.error(fit(p.whole - part, c)[1].ravel()) for part in p.held_out) for c in candidates]
    return candidates[int(np.argmin(errors))]


def package_softmax(p: Problem) -> Estimate:
    """The mix `softmax_mix` of the package: weights and one ridge head, minimised together."""
    return _package(p, (0.0,))


def package_weighted_sum(p: Problem) -> Estimate:
    """The mix `weighted_sum` of the package, with a penalty on uneven weights."""
    return _package(p, WEIGHT_PENALTIES)


def _package(p: Problem, weight_penalties: tuple[float, ...]) -> Estimate:
    n_layers = p.shape[0]
    n, rows = len(p.y), np.concatenate([p.layers, p.test], axis=1).astype(np.float32)
    y = np.concatenate([p.y, np.zeros(p.test.shape[1])])[:, None]
    split = Split("test", np.arange(n), np.arange(n, len(y)), p.folds)
    mixer = Mixer(lambda k, i: rows[k, i], n_layers, y, splits=[split])
    chosen = mixer.choose(DEFAULT_PENALTIES, weight_penalties=weight_penalties, max_iterations=60, seed=0)
    ((coefficients, _),) = mixer.coefficients(chosen, max_iterations=60, seeds=(0,))
    ((fit,),) = mixer.fit(chosen.penalty, weight_penalty=chosen.weight_penalty, max_iterations=60, seeds=(0,))
    return fit.layer_weights[0], coefficients[0]


def gradient_descent(p: Problem) -> Estimate:
    """Gradient descent with early stopping; its predictions stand in for coefficients."""
    n, rows = len(p.y), np.concatenate([p.layers, p.test], axis=1).astype(np.float32)
    y = np.concatenate([p.y, np.zeros(p.test.shape[1])])[:, None]
    split = Split("test", np.arange(n), np.arange(n, len(y)), p.folds)
    ((fit,),) = replay(lambda k, i: rows[k, i], p.shape[0], y, splits=[split], seeds=(0,))
    p.shared["prediction"] = fit.prediction[:, 0]
    return fit.layer_weights[0], np.full(p.shape, np.nan)


def _softmax_mix(p: Problem, *, penalised: str = "", evidence: bool = False) -> Callable[[Moments, Any], Estimate]:
    n_layers, dim = p.shape

    def fit(m: Moments, candidate: tuple[float, float]) -> Estimate:
        penalty, strength = candidate
        gram, cross = m.gram.reshape(n_layers, dim, n_layers, dim), m.cross.reshape(n_layers, dim)
        uniform = gram.mean(axis=(0, 2))
        unit = np.trace(uniform) / dim

        def evaluate(s: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
            w = np.exp(s[:n_layers] - s[:n_layers].max())
            w /= w.sum()
            lam = unit * np.exp(s[n_layers]) if evidence else unit * penalty
            half = np.tensordot(w, gram, (0, 0))  # (dim, n_layers, dim)
            mixed = np.tensordot(half, w, (1, 0))
            factor = cho_factor(mixed + lam * np.eye(dim))
            v = cho_solve(factor, w @ cross)
            rest = m.square - v @ (w @ cross)
            g = -2 * (cross @ v - np.einsum("d,dle,e->l", v, half, v))
            if evidence:
                inverse = cho_solve(factor, np.eye(dim))
                value = 2 * np.log(np.diag(factor[0])).sum() - dim * np.log(lam) + m.n * np.log(rest)
                g = m.n * g / rest + 2 * np.einsum("de,dle->l", inverse, half)
                g_lam = lam * (np.trace(inverse) + m.n * (v @ v) / rest) - dim
            else:
                value, g_lam = rest / m.square, 0.0
                g = g / m.square
            if penalised == "entropy":
                value, g = value + strength * (w @ np.log(w + 1e-300)), g + strength * (np.log(w + 1e-300) + 1)
            if penalised == "l2":
                value, g = value + strength * (w @ w), g + 2 * strength * w
            return value, np.append(w * (g - w @ g), g_lam), w, v

        start = 0.1 * np.random.default_rng(0).normal(size=n_layers + 1)
        start[n_layers] = 0.0
        found = minimize(lambda s: evaluate(s)[:2], start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
        _, _, w, v = evaluate(found.x)
        return w, w[:, None] * v

    return fit


def _bagged(p: Problem, fit: Callable[[Moments, Any], Estimate], candidate: Any) -> Estimate:
    fits = []
    speakers, speaker = np.unique(p.speakers, return_inverse=True)
    for _ in range(10):
        sampled = np.bincount(p.rng.integers(len(speakers), size=len(speakers)), minlength=len(speakers))
        rows = np.repeat(np.arange(len(p.y)), sampled[speaker])
        fits.append(fit(p.moments(rows), candidate))
    return np.mean([w for w, _ in fits], axis=0), np.mean([b for _, b in fits], axis=0)


def softmax_mix(p: Problem) -> Estimate:
    """The same model as the package's, solved from moments to convergence."""
    fit = _softmax_mix(p)
    p.shared["softmax"] = chosen = _chosen(p, fit, [(a, 0.0) for a in PENALTIES])
    return fit(p.whole, chosen)


def softmax_entropy(p: Problem) -> Estimate:
    """The softmax mix with an entropy penalty on the weights."""
    fit = _softmax_mix(p, penalised="entropy")
    return fit(p.whole, _chosen(p, fit, [(a, t) for a in PENALTIES[1:4] for t in (0.0, 0.001, 0.01, 0.1)]))


def softmax_l2(p: Problem) -> Estimate:
    """The softmax mix with an L2 penalty on the weights."""
    fit = _softmax_mix(p, penalised="l2")
    chosen = _chosen(p, fit, [(a, t) for a in PENALTIES for t in (0.0, 0.1, 1.0)])
    p.shared["softmax_l2"] = chosen
    return fit(p.whole, chosen)


def softmax_l2_bagged(p: Problem) -> Estimate:
    """The softmax mix with an L2 penalty, averaged over resamples of speakers."""
    return _bagged(p, _softmax_mix(p, penalised="l2"), p.shared["softmax_l2"])


def softmax_bagged(p: Problem) -> Estimate:
    """The softmax mix averaged over resamples of speakers, at the penalty of the whole."""
    return _bagged(p, _softmax_mix(p), p.shared["softmax"])


def softmax_evidence(p: Problem) -> Estimate:
    """The softmax mix whose head is integrated out: weights and penalty maximise the marginal likelihood."""
    return _softmax_mix(p, evidence=True)(p.whole, (1.0, 0.0))
