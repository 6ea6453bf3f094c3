"""How well a concept can be decoded from embeddings, before and after it was erased.

Two probes answer two questions. One trained on the training speakers, whose eraser left it no covariance with the
concept, shows whether what was erased stays erased in unseen speakers. One trained anew on other held-out speakers
shows what a probe finds there that the training speakers did not show: covariances differ by chance and by speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layerprobe.probe.solvers.erased_ridge import Directions, SplitRidge

ROUNDING = 1e-6  # of a concept's standard deviation: predictions that vary no more are those of coefficients of 0
REFIT_ROWS = 500  # held-out utterances of a fold, evenly spaced, that a fresh probe is trained and scored on at most
REFIT_FOLDS = 5


@dataclass(frozen=True)
class Decoded:
    """Held-out values of a concept, and predictions of them less the mean that the probe was trained with."""

    truth: np.ndarray  # (n, n_columns)
    prediction: np.ndarray  # (n, n_columns)

    @classmethod
    def together(cls, parts: Sequence[Decoded]) -> Decoded:
        """Return the rows of several folds, as many columns as all have."""
        n_columns = min(part.truth.shape[1] for part in parts)
        return cls(
            *(np.concatenate([a[:, :n_columns] for a in arrays]) for arrays in zip(*map(_arrays, parts), strict=True))
        )

    def r(self) -> float:
        """Return Pearson's r, the mean over columns; 0 for predictions that do not vary, NaN for a constant concept."""
        found = []
        for truth, prediction in zip(self.truth.T, self.prediction.T, strict=True):
            scale = float(truth.std()) if len(truth) else 0.0
            if scale <= ROUNDING * float(np.abs(truth).max(initial=0.0)):
                continue
            is_constant = float(prediction.std()) <= ROUNDING * scale
            found.append(0.0 if is_constant else float(np.corrcoef(truth, prediction)[0, 1]))
        return float(np.mean(found)) if found else float("nan")


def _arrays(part: Decoded) -> tuple[np.ndarray, np.ndarray]:
    return part.truth, part.prediction


@dataclass(frozen=True)
class ConceptProbe:
    """Ridge probes of one concept in one outer split; the penalty is chosen before anything is erased."""

    ridge: SplitRidge
    values: np.ndarray  # (n_utterances, n_columns), finite
    known: np.ndarray  # (n_utterances,) bool
    alpha: np.ndarray  # (n_columns,), the same for all columns

    @classmethod
    def train(cls, ridge: SplitRidge, concept: np.ndarray) -> ConceptProbe:
        """Choose the penalty on the inner folds of the training speakers.

        Args:
            ridge: of the split
            concept: ``(n_utterances, n_columns)``, NaN where not known; the mean of the training rows takes its place,
                which leaves their covariance as it is
        """
        known = np.isfinite(concept).all(axis=1)
        rows = ridge.split.train[known[ridge.split.train]]
        values = np.where(known[:, None], concept, concept[rows].mean(axis=0))
        shared = np.zeros(values.shape[1], dtype=int)
        return cls(ridge, values, known, ridge.fit(values, shared=shared).alpha)

    def unseen(self, erased: Directions | None) -> Decoded:
        """Return predictions of the test speakers by a probe of the training speakers.

        Args:
            erased: of the embeddings of both; None for nothing
        """
        split, known = self.ridge.split, self.known[self.ridge.split.test]
        prediction = self.ridge.predict(self.values, self.alpha, erased) - self.values[split.train].mean(axis=0)
        return Decoded(self.values[split.test][known], prediction[known])

    def refitted(self, x: np.ndarray, groups: np.ndarray, erased: Directions | None) -> Decoded | None:
        """Return predictions of test speakers by probes of the other test speakers; None with one speaker.

        Args:
            x: embeddings, ``(n_utterances, n_features)``
            groups: ``(n_utterances,)`` a number per speaker
            erased: as of `unseen`
        """
        ridge, test = self.ridge, self.ridge.split.test
        chosen = np.flatnonzero(self.known[test])
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), REFIT_ROWS)).astype(int)]
        speakers, number = np.unique(groups[test[chosen]], return_inverse=True)
        if len(speakers) < 2:
            return None
        z, values = ridge.standardiser(x[test[chosen]]), self.values[test[chosen]]
        gram = z @ z.T
        if erased is not None and erased.rank:
            rows = ridge.test[chosen]
            seen, written = rows @ erased.read, rows @ erased.write
            gram += seen @ (erased.write.T @ erased.write) @ seen.T - seen @ written.T - written @ seen.T
        prediction, fold = np.empty_like(values), number % min(REFIT_FOLDS, len(speakers))
        for k in np.unique(fold):
            train, out = fold != k, fold == k
            inside, across = gram[np.ix_(train, train)], gram[np.ix_(out, train)]
            level, total = inside.mean(axis=0), inside.mean()
            inside, across = (
                inside - level - level[:, None] + total,
                across - across.mean(axis=1)[:, None] - level + total,
            )
            mean_eigenvalue = float(np.trace(inside)) / min(len(inside), z.shape[1]) or 1.0
            np.einsum("ii->i", inside)[:] += self.alpha[0] * mean_eigenvalue
            prediction[out] = across @ np.linalg.solve(inside, values[train] - values[train].mean(axis=0))
        return Decoded(values, prediction)
