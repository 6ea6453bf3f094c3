"""Least-squares concept erasure, LEACE (Belrose et al., 2023), in closed form from second moments.

An eraser changes embeddings as little as possible so that no linear probe finds the concept in them: the covariance of
what remains with the concept is 0 on the rows that it was fitted on. With W a whitening of the embeddings and U an
orthonormal basis of the columns of W Cov(x, z), it subtracts the part of whitened embeddings that lies in U.

As in the authors' package concept-erasure, the covariance of the embeddings is shrunk towards a multiple of the
identity (Bodnar, Gupta and Parolya, 2014), without which fewer rows than features would have no oblique projection that
holds on other rows. The package can also pull the projection towards an orthogonal one where shrinkage makes it longer
(``constrain_cov_trace``); that would leave covariance with the concept, and is not done here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Of singular values of the whitened cross-covariance relative to the largest: indicators of classes sum to 1, so one
# of their directions is rounding.
RANK_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Eraser:
    """An affine map of embeddings that removes some directions: ``x - ((x - mean) @ read) @ write.T``."""

    mean: np.ndarray  # (n_features,)
    read: np.ndarray  # (n_features, rank), coordinates of what is removed
    write: np.ndarray  # (n_features, rank), its directions; write.T @ read is the identity

    @property
    def rank(self) -> int:
        """Number of directions that are removed."""
        return int(self.read.shape[1])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return embeddings without the concept, ``(n, n_features)`` float64."""
        return np.asarray(x - ((x - self.mean) @ self.read) @ self.write.T)


@dataclass(frozen=True)
class Whitening:
    """The shrunk covariance of embeddings and its inverse square root, in the basis of its eigenvectors."""

    variances: np.ndarray  # (n_directions,), shrunk eigenvalues of the covariance, positive

    @classmethod
    def from_eigenvalues(cls, eigenvalues: np.ndarray, n: int, n_features: int) -> Whitening:
        """Shrink a covariance by its eigenvalues.

        Args:
            eigenvalues: ``(n_directions,)`` of the covariance with 1/n, positive; those that are 0 may be left out
            n: rows that the covariance is of
            n_features: number of eigenvalues with those that are 0
        """
        weight, ridge = shrinkage(eigenvalues, n, n_features)
        return cls(weight * eigenvalues + ridge)

    def eraser(self, cross: np.ndarray, *, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return what an eraser reads and writes in the basis of the eigenvectors, both ``(n_directions, rank)``.

        Args:
            cross: covariance of the embeddings with the concept, ``(n_directions, n_columns)``
            most: the rank at most; directions with the largest covariance are then taken
        """
        std = np.sqrt(self.variances)
        u, s, _ = np.linalg.svd(cross / std[:, None], full_matrices=False)
        rank = int(np.sum(s > RANK_TOLERANCE * s.max(initial=0.0))) if s.any() else 0
        return self.along(u[:, : rank if most is None else min(rank, most)])

    def along(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what an eraser of orthonormal directions of whitened embeddings reads and writes.

        Whitened embeddings vary alike in all directions, as far as the covariance is known, so that those of a concept
        and random ones differ in what they have to do with the concept alone.

        Args:
            directions: ``(n_directions, rank)``
        """
        std = np.sqrt(self.variances)[:, None]
        return directions / std, directions * std


def shrinkage(eigenvalues: np.ndarray, n: int, n_features: int) -> tuple[float, float]:
    """Return the optimal linear shrinkage of a covariance: its weight in [0, 1], and what is added to its diagonal.

    Args:
        eigenvalues: of the covariance with 1/n; those that are 0 may be left out
        n: rows that it is of
        n_features: its size

    Bodnar, Gupta and Parolya (2014), equation 2.14 with the identity as target. Their weight can be below 0 for few
    rows without structure; it is 0 then.
    """
    trace, square = float(eigenvalues.sum()), float(np.square(eigenvalues).sum())
    excess = square - trace**2 / n_features  # squared distance from a multiple of the identity
    if excess <= 0:
        return 0.0, trace / n_features
    weight = min(1.0, max(0.0, 1 - trace**2 / n / excess))
    return weight, (1 - weight) * trace / n_features


def fit_leace(x: np.ndarray, z: np.ndarray, *, most: int | None = None) -> Eraser:
    """Fit an eraser of a concept.

    Args:
        x: embeddings, ``(n, n_features)``; standardise them before, for shrinkage depends on their scales
        z: the concept, ``(n, n_columns)``: numbers, or an indicator for each class; NaN in rows where it is not known,
            whose embeddings help to whiten
        most: the rank at most

    Returns:
        an eraser of rank ``n_columns`` at most
    """
    mean, known = x.mean(axis=0, dtype=np.float64), np.isfinite(z).all(axis=1)
    centred = x - mean
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    kept = values > max(x.shape) * np.finfo(np.float64).eps * values.max(initial=0.0)
    basis = right[kept].T
    whitening = Whitening.from_eigenvalues(np.square(values[kept]) / len(x), len(x), x.shape[1])
    rows = (left[:, kept] * values[kept])[known]
    cross = rows.T @ (z[known] - z[known].mean(axis=0)) / max(1, known.sum())
    read, write = whitening.eraser(cross, most=most)
    return Eraser(mean, basis @ read, basis @ write)
