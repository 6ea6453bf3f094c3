"""Nested ridge regression of one layer on its ratings, then on hundreds of permutations of them.

A permutation is fitted like the ratings: standardised features, a penalty chosen on the same inner folds, a refit on
all training rows. Three things make many of them cheap. The decompositions of the fit to the ratings are reused.
Products are in float32, like those of rows. And penalties are tried from the strongest to the weakest until the inner
error has increased twice in a row, so that most permutations, in which there is nothing to learn, try a third of the
grid. An error that increases twice and then falls below all others is missed: in 1 of 1,600 fits on seven synthetic
corpora.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import strmm

from layerprobe.probe.solvers.backends import HOST, Algebra, Factor, HostAlgebra, HostFactor
from layerprobe.probe.solvers.gram import BLOCK, Moments, RatingSums, sum_cells, sum_ratings
from layerprobe.probe.solvers.leave_group_out import LEAVE_GROUP_OUT, Search, fit_split
from layerprobe.probe.solvers.ridge import NestedRidge
from layerprobe.probe.solvers.ridge_fit import RidgeFit, least
from layerprobe.probe.solvers.tridiagonal import solve_tridiagonal
from layerprobe.probe.splits import Split

AT_ONCE = 3  # penalties that are tried before the error is checked
RISES = 2  # successive penalties without improvement that end the search
CHEAP = 128  # number of features up to which every penalty is tried


@dataclass(frozen=True)
class _Basis:
    """Decomposition of one training set, for unstandardised features."""

    vectors: np.ndarray  # (n_features, n_features) float32, scales times Q
    diagonal: np.ndarray
    off: np.ndarray
    mean_eigenvalue: float

    @classmethod
    def from_factor(cls, factor: HostFactor) -> _Basis:
        (form,), (scale,), (mean_eigenvalue,) = factor.forms, factor.scales, factor.mean_eigenvalues
        vectors = form.orthogonal()
        vectors *= scale[:, None]
        return cls(np.ascontiguousarray(vectors, dtype=np.float32), form.diagonal, form.off, mean_eigenvalue)

    def turned(self, right: np.ndarray) -> np.ndarray:
        """Return right-hand sides ``(n_features, n_targets)`` in the basis, float32."""
        return np.asarray(self.vectors.T @ right.astype(np.float32))

    def solutions(self, turned: np.ndarray, alphas: np.ndarray) -> np.ndarray:
        """Return coefficients ``(n_alphas, n_targets, n_features)`` float32 for every alpha.

        Args:
            turned: right-hand sides, as of `turned`, ``(n_features, n_targets)``
            alphas: ``(n_alphas,)``
        """
        n_features, n_targets = turned.shape
        right = np.asfortranarray(turned, dtype=np.float64)
        u = np.empty((len(alphas), n_targets, n_features), dtype=np.float32)
        for k, penalty in enumerate(alphas * self.mean_eigenvalue):
            u[k] = solve_tridiagonal(self.diagonal, self.off, right, penalty=penalty).T
        return np.asarray((u.reshape(-1, n_features) @ self.vectors.T).reshape(u.shape))

    def coefficients(self, turned: np.ndarray, alphas: np.ndarray) -> np.ndarray:
        """Return coefficients ``(n_features, n_targets)`` float32 for right-hand sides and one alpha per target."""
        w = np.empty_like(turned)
        for alpha in np.unique(alphas):
            w[:, alphas == alpha] = self.solutions(turned[:, alphas == alpha], np.array([alpha]))[0].T
        return w


@dataclass
class _Tried:
    """Sums over inner held-out predictions of one split for the penalties tried, each ``(n_alphas, n_targets)``."""

    prediction: np.ndarray
    square: np.ndarray
    error: np.ndarray  # squared; infinite for a penalty that was not tried

    @classmethod
    def empty(cls, n_alphas: int, n_targets: int) -> _Tried:
        zeros = np.zeros((n_alphas, n_targets))
        return cls(zeros, zeros.copy(), np.full_like(zeros, np.inf))


class PermutedRidge:
    """Nested ridge of one layer, fitted to its ratings first and then to any number of permutations of them."""

    def __init__(
        self,
        x: np.ndarray,
        *,
        splits: list[Split],
        alphas: tuple[float, ...],
        algebra: Algebra = HOST,
        inner_selection: str | None = None,
    ) -> None:
        """Take arguments as of `probe.solvers.ridge.nested_ridge`."""
        self._bases: dict[frozenset[int], _Basis] = {}
        self._products: dict[frozenset[int], np.ndarray] = {}  # of features of held-out rows, from `_half`
        self._ridge = NestedRidge(
            x,
            splits=splits,
            alphas=alphas,
            algebra=algebra,
            inner_selection=inner_selection,
            on_factor=self._store_basis if isinstance(algebra, HostAlgebra) else None,
        )

    def fit(self, y: np.ndarray, *, shared: np.ndarray | None = None) -> list[RidgeFit]:
        """Fit the ratings ``(n_utterances, n_targets)`` as `probe.solvers.ridge.nested_ridge` does."""
        return self._ridge.fit(y, shared=shared)

    def fit_permuted(self, y: np.ndarray, *, shared: np.ndarray, of_split: np.ndarray) -> list[RidgeFit]:
        """Fit permutations, with the decompositions of the fit to ratings where that left any.

        Those of Gram matrices of utterances are made anew in each call, so many permutations at a time are faster.

        Args:
            y: ``(n_utterances, n_targets)``
            shared: ``(n_targets,)``, targets with the same number have one alpha in common
            of_split: ``(n_targets,)``, the number of the only split in which a target is fitted, -1 for all splits; its
                results in other splits are NaN
        """
        ridge, group = self._ridge, np.unique(shared, return_inverse=True)[1]
        if ridge.inner_selection == LEAVE_GROUP_OUT or ridge.is_dual:
            return [self._fit_split(y, k, shared, of_split) for k in range(len(ridge.splits))]
        if not self._bases:
            ridge.fit(y[:, :1])
        if not self._bases:
            return ridge.fit(y, shared=shared)
        y_shift, rows = y.mean(axis=0), {c: np.flatnonzero(ridge.cell_of_row == c) for c in ridge.cells}
        sums = {
            c: sum_ratings(ridge.x, y, rows_of_cell, shift=ridge.shift, y_shift=y_shift)
            for c, rows_of_cell in rows.items()
        }
        wanted = np.stack([(of_split == -1) | (of_split == k) for k in range(len(ridge.splits))])
        tried = self._search(sums, group, wanted)
        fits = []
        for k, (split, folds) in enumerate(zip(ridge.splits, ridge.folds, strict=True)):
            columns = np.flatnonzero(wanted[k])
            chosen = least(tried[k].error[:, columns], group[columns])
            everything = frozenset(set().union(*folds))
            n, alpha = sum_cells(ridge.cells, everything).n, np.array(ridge.alphas)[chosen]
            turned, y_mean, x_mean = self._right(everything, sums)
            w = self._bases[everything].coefficients(turned[:, columns], alpha)
            intercept = y_mean[columns] - x_mean @ w + y_shift[columns]
            prediction = np.full((len(split.test), y.shape[1]), np.nan, dtype=np.float32, order="F")
            prediction[:, columns] = _predict(ridge.x, split.test, ridge.shift, w) + intercept.astype(np.float32)
            at = (chosen, columns)
            mean = tried[k].prediction[at] / n
            variance = np.maximum(tried[k].square[at] / n - mean**2, 0.0)
            scattered = _scatter(columns, y.shape[1])
            fits.append(
                RidgeFit(
                    prediction=prediction,
                    inner_mean=scattered(mean + y_shift[columns]),
                    inner_std=scattered(np.sqrt(variance)),
                    inner_error=scattered(np.maximum(tried[k].error[at], 0.0) / n),
                    alpha=scattered(alpha),
                    ratio=np.zeros(y.shape[1], dtype=int),
                    inner_errors=tried[k].error / n,
                )
            )
        return fits

    def _fit_split(self, y: np.ndarray, k: int, shared: np.ndarray, of_split: np.ndarray) -> RidgeFit:
        """Fit permutations in one split, without sums that other splits have in common."""
        ridge, split, columns = self._ridge, self._ridge.splits[k], np.flatnonzero((of_split == -1) | (of_split == k))
        if ridge.inner_selection == LEAVE_GROUP_OUT:
            fit = fit_split(
                ridge.x,
                y[:, columns],
                split,
                alphas=ridge.alphas,
                scales=ridge.scales,
                shared=shared[columns],
                search=Search(RISES if ridge.x.shape[1] > CHEAP else None, np.float32),
            )
        else:
            fit = ridge.dual.fit(y[:, columns], k, shared=shared[columns])
        scattered = _scatter(columns, y.shape[1])
        return RidgeFit(
            prediction=scattered(fit.prediction),
            inner_mean=scattered(fit.inner_mean),
            inner_std=scattered(fit.inner_std),
            inner_error=scattered(fit.inner_error),
            alpha=scattered(fit.alpha),
            ratio=np.zeros(y.shape[1], dtype=int),
            inner_errors=scattered(fit.inner_errors),
        )

    def _store_basis(self, training: frozenset[int], factor: Factor) -> None:
        if isinstance(factor, HostFactor):
            self._bases[training] = _Basis.from_factor(factor)

    def _search(self, sums: dict[int, RatingSums], group: np.ndarray, wanted: np.ndarray) -> list[_Tried]:
        """Try penalties from the strongest to the weakest, for each split and target until its error has increased."""
        ridge = self._ridge
        n_alphas, n_targets = len(ridge.alphas), wanted.shape[1]
        uses: dict[frozenset[int], list[tuple[int, frozenset[int]]]] = {}
        for k, folds in enumerate(ridge.folds):
            everything = frozenset(set().union(*folds))
            for fold in map(frozenset, folds):
                uses.setdefault(everything - fold, []).append((k, fold))
        rights = {training: self._right(training, sums) for training in uses}
        held_out = {fold: sum_cells(sums, fold) for fold in {fold for of_set in uses.values() for _, fold in of_set}}
        tried = [_Tried.empty(n_alphas, n_targets) for _ in ridge.folds]
        searching, stop = wanted.copy(), n_alphas
        while stop > 0 and searching.any():
            begin = 0 if ridge.x.shape[1] <= CHEAP else max(0, stop - AT_ONCE)
            alphas = np.array(ridge.alphas[begin:stop])
            for one, selected in zip(tried, searching, strict=True):
                one.error[begin:stop, selected] = 0.0
            columns_of = {t: np.flatnonzero(np.any([searching[k] for k, _ in uses[t]], axis=0)) for t in uses}
            for training, columns in columns_of.items():
                turned, y_mean, x_mean = rights[training]
                w = self._bases[training].solutions(np.take(turned, columns, axis=1), alphas)
                b = y_mean[columns] - w @ x_mean.astype(np.float32)
                for k, fold in uses[training]:
                    selected = np.flatnonzero(searching[k, columns])
                    part = w if len(selected) == len(columns) else np.take(w, selected, axis=1)
                    self._add(tried[k], slice(begin, stop), columns[selected], part, b[:, selected], fold, held_out)
            stop = begin
            for one, selected in zip(tried, searching, strict=True):
                selected &= least(one.error, group) < begin + RISES
        return tried

    def _right(self, training: frozenset[int], sums: dict[int, RatingSums]) -> tuple[np.ndarray, ...]:
        """Return right-hand sides in the basis of a training set, and the means of ratings and features."""
        moments, total = sum_cells(self._ridge.cells, training), sum_cells(sums, training)
        y_mean = total.y / moments.n
        turned = self._bases[training].turned(total.xy - np.outer(moments.x, y_mean))
        return turned, y_mean, moments.x / moments.n

    def _add(
        self,
        tried: _Tried,
        alphas: slice,
        columns: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        fold: frozenset[int],
        held_out: dict[frozenset[int], RatingSums],
    ) -> None:
        """Add sums over the predictions of ``w (n_alphas, n_targets, n_features)`` and ``b`` for the rows of a fold."""
        moments, ratings = sum_cells(self._ridge.cells, fold), held_out[fold]
        if fold not in self._products:
            self._products[fold] = _half(moments)
        rows = w.reshape(-1, w.shape[2])
        quadratic = np.einsum("cf,cf->c", rows, strmm(2.0, self._products[fold], rows.T, lower=1).T)
        sum_x = w @ moments.x.astype(np.float32)
        square = quadratic.reshape(w.shape[:2]) + 2 * b * sum_x + moments.n * b**2
        xy = np.ascontiguousarray(ratings.xy[:, columns].T, dtype=np.float32)
        product = np.einsum("atf,tf->at", w, xy) + b * ratings.y[columns]
        tried.prediction[alphas, columns] += sum_x + moments.n * b
        tried.square[alphas, columns] += square
        tried.error[alphas, columns] += ratings.yy[columns] - 2 * product + square


def _half(moments: Moments) -> np.ndarray:
    """Return a triangle L of the products of features, its diagonal halved, so that w' (L + L') w is 2 w' L w."""
    lower = np.asfortranarray(moments.xx, dtype=np.float32)
    np.einsum("ii->i", lower)[:] *= 0.5
    return lower


def _predict(x: np.ndarray, rows: np.ndarray, shift: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return predictions in float32, ``(n_rows, n_targets)``, contiguous in memory for each target."""
    off = shift.astype(x.dtype)  # float32 for a float32 layer, whose products of rows are in float32, too
    blocks = ((x[rows[k : k + BLOCK]] - off).astype(np.float32, copy=False) for k in range(0, len(rows), BLOCK))
    return np.concatenate([w.T @ block.T for block in blocks], axis=1).T


def _scatter(columns: np.ndarray, n_targets: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that puts values of some columns into all columns, NaN elsewhere."""

    def scatter(values: np.ndarray) -> np.ndarray:
        out = np.full((*values.shape[:-1], n_targets), np.nan, dtype=values.dtype, order="F")
        out[..., columns] = values
        return out

    return scatter
