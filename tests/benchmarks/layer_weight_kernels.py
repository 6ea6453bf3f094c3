"""Estimators of layer weights with a head for each layer, fitted jointly, for `layer_weight_recovery`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.layer_weight_estimators import PENALTIES, Estimate, Moments, Problem, _chosen
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize, nnls


def _fractions(p: Problem, b: np.ndarray) -> np.ndarray:
    """Return fractions of the prediction's variance, negative ones as 0."""
    along = np.maximum((b.ravel() * (p.whole.gram @ b.ravel())).reshape(b.shape).sum(axis=1), 0)
    return along / max(along.sum(), 1e-300)


def _kernels(p: Problem, norm: float) -> Callable[[Moments, Any], Estimate]:
    n_layers, dim = p.shape

    def fit(m: Moments, penalty: float) -> Estimate:
        eta = np.full(n_layers, n_layers ** (-1 / norm))
        lam = penalty * np.trace(m.gram) / (n_layers * dim)
        for _ in range(25 if norm < np.inf else 1):
            root = np.repeat(np.sqrt(eta), dim)
            factor = cho_factor(root[:, None] * m.gram * root + lam * np.eye(len(root)))
            b = (root * cho_solve(factor, root * m.cross)).reshape(n_layers, dim)
            if norm == np.inf:
                break
            size = np.linalg.norm(b, axis=1) ** (2 / (norm + 1))
            new = np.maximum(size / np.sum(size**norm) ** (1 / norm), 1e-9)
            done, eta = np.abs(new - eta).max() < 1e-3, new
            if done:
                break
        return eta / eta.sum(), b

    return fit


def kernels_simplex(p: Problem) -> Estimate:
    """Multiple-kernel ridge with kernel weights on the simplex."""
    fit = _kernels(p, 1.0)
    p.shared["kernels"] = found = fit(p.whole, _chosen(p, fit, list(PENALTIES)))
    return found


def kernels_simplex_fractions(p: Problem) -> Estimate:
    """The same, with fractions of the prediction's variance as weights."""
    b = p.shared["kernels"][1]
    return _fractions(p, b), b


def kernels_l2(p: Problem) -> Estimate:
    """Multiple-kernel ridge with kernel weights of L2 norm 1 (Kloft et al., 2011)."""
    fit = _kernels(p, 2.0)
    return fit(p.whole, _chosen(p, fit, list(PENALTIES)))


def concatenated(p: Problem) -> Estimate:
    """Ridge on all layers side by side; weights are fractions of the prediction's variance."""
    fit = _kernels(p, np.inf)
    p.shared["concatenated"] = penalty = _chosen(p, fit, [*PENALTIES, 1000.0])
    b = fit(p.whole, penalty)[1]
    return _fractions(p, b), b


def without_layer(p: Problem) -> Estimate:
    """The rise of the held-out error of that ridge when a layer is left out."""
    n_layers, dim = p.shape
    penalty = p.shared["concatenated"]
    lam = penalty * np.trace(p.whole.gram) / (n_layers * dim)
    errors = np.zeros(n_layers + 1)
    for part in p.held_out:
        m = p.whole - part
        for k in range(n_layers + 1):
            kept = np.repeat(np.arange(n_layers), dim) != k
            b = np.zeros(len(kept))
            gram = m.gram[np.ix_(kept, kept)]
            b[kept] = cho_solve(cho_factor(gram + lam * np.eye(len(gram))), m.cross[kept])
            errors[k] += part.error(b)
    loss = np.maximum(errors[:-1] - errors[-1], 0)
    w = loss / loss.sum() if loss.sum() > 0 else np.full(n_layers, 1 / n_layers)
    return w, _kernels(p, np.inf)(p.whole, penalty)[1]


def variance_components(p: Problem, m: Moments | None = None) -> Estimate:
    """Variance components of a random effect for each layer, by maximum likelihood."""
    n_layers = p.shape[0]
    m = m or p.whole
    dim = len(m.cross) // n_layers
    unit = np.trace(m.gram) / (n_layers * dim)

    def evaluate(s: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        root = np.repeat(np.exp(s / 2) / np.sqrt(unit), dim)
        lower = np.linalg.cholesky(root[:, None] * m.gram * root + np.eye(len(root)))
        u = solve_triangular(lower, root * m.cross, lower=True)
        b = root * solve_triangular(lower.T, u, lower=False)
        rest = m.square - u @ u
        t = solve_triangular(lower, root[:, None] * m.gram, lower=True)
        traces = (np.diag(m.gram) - (t**2).sum(axis=0)).reshape(n_layers, dim).sum(axis=1)
        q = (m.cross - m.gram @ b).reshape(n_layers, dim)
        value = 2 * np.log(np.diag(lower)).sum() + m.n * np.log(rest)
        gradient = (traces - m.n / rest * (q**2).sum(axis=1)) * np.exp(s) / unit
        return value, gradient, b

    start = np.full(n_layers, np.log(1.0 / n_layers))
    found = minimize(
        lambda s: evaluate(s)[:2],
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-14, 10)] * n_layers,
        options={"maxiter": 60},
    )
    w = np.exp(found.x) - np.exp(-14)
    w = w / w.sum() if w.sum() > 0 else np.full(n_layers, 1 / n_layers)
    return w, evaluate(found.x)[2].reshape(n_layers, dim)


def components_of_projections(p: Problem, rank: int = 10) -> Estimate:
    """Variance components of the first principal components of each layer."""
    n_layers, dim = p.shape
    basis = np.zeros((n_layers, dim, rank))
    for k in range(n_layers):
        block = slice(k * dim, (k + 1) * dim)
        basis[k] = np.linalg.eigh(p.whole.gram[block, block])[1][:, -rank:]
    gram = p.whole.gram.reshape(n_layers, dim, n_layers, dim)
    small = np.einsum("ldr,ldme,mes->lrms", basis, gram, basis, optimize=True).reshape(n_layers * rank, -1)
    cross = np.einsum("ldr,ld->lr", basis, p.whole.cross.reshape(n_layers, dim)).ravel()
    w, b = variance_components(p, Moments(small, cross, p.whole.square, p.whole.n))
    return w, np.einsum("ldr,lr->ld", basis, b)


def alignment(p: Problem) -> Estimate:
    """Kernel weights by nonnegative regression of the ratings' products on the kernels (Haseman and Elston, 1972)."""
    n_layers, dim = p.shape
    blocks = p.whole.gram.reshape(n_layers, dim, n_layers, dim)
    products = (blocks**2).sum(axis=(1, 3))
    squares = (p.layers**2).sum(axis=2)  # the diagonal holds the noise, so it is left out
    products -= squares @ squares.T
    along = (p.whole.cross.reshape(n_layers, dim) ** 2).sum(axis=1) - squares @ p.y**2
    root = np.linalg.cholesky(products + 1e-9 * np.trace(products) * np.eye(n_layers))
    w, _ = nnls(root.T, np.linalg.solve(root, along))
    w = w / w.sum() if w.sum() > 0 else np.full(n_layers, 1 / n_layers)

    def fit(m: Moments, penalty: float) -> Estimate:
        eta = np.repeat(np.sqrt(w), dim)
        lam = penalty * (eta**2 @ np.diag(m.gram)) / dim
        b = eta * cho_solve(cho_factor(eta[:, None] * m.gram * eta + lam * np.eye(len(eta))), eta * m.cross)
        return w, b.reshape(n_layers, dim)

    return fit(p.whole, _chosen(p, fit, list(PENALTIES)))
