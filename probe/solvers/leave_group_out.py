"""Nested ridge from one decomposition of each outer training set, for leave-one-speaker-out and other many folds.

The penalty is chosen on the same inner speaker-disjoint folds as by refitting, from residuals that are those of refits
(`probe.solvers.smoothers`). What differs is where the features are standardised: on all outer training rows, so once
for all inner folds, and a penalty is relative to the mean eigenvalue of their Gram matrix. Nothing of the outer test
rows is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.gram import predict_rows
from layerprobe.probe.solvers.ridge_fit import RidgeFit, least
from layerprobe.probe.solvers.smoothers import Smoother
from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.splits import Split

REFIT, LEAVE_GROUP_OUT = "refit", "leave_group_out"
INNER_SELECTIONS = {
    REFIT: "each inner fold is predicted by a fit to the others, standardised on the others",
    LEAVE_GROUP_OUT: "each inner fold is left out of one fit, standardised on all outer training rows",
}
REFITTED_FOLDS = 5  # inner folds up to which each is refitted
COLUMNS_AT_ONCE = 48  # ratings times penalties up to which a product takes little longer than that of one
LONGEST_FOLD = 150  # mean utterances of an inner fold up to which it is left out


def choose_inner_selection(n_inner_folds: float, utterances_per_fold: float) -> str:
    """Return the faster of `INNER_SELECTIONS` for folds of this number and length.

    Refits take a decomposition for each pair of folds, or where there are fewer utterances than features for each inner
    fold of each outer one. Leaving a fold out takes the square of its utterances for each feature and penalty. With 768
    features and more utterances than features both take as long at about 130 utterances per fold; with fewer utterances
    leaving out takes a tenth or less. Of 90 and more speakers, the sums and solutions for all pairs would take
    gigabytes, too. One choice serves every width of layer.

    Args:
        n_inner_folds: mean over splits
        utterances_per_fold: mean over inner folds

    >>> choose_inner_selection(23, 60), choose_inner_selection(9, 550), choose_inner_selection(4, 100)
    ('leave_group_out', 'refit', 'refit')
    """
    return LEAVE_GROUP_OUT if n_inner_folds > REFITTED_FOLDS and utterances_per_fold <= LONGEST_FOLD else REFIT


def inner_selection_of(splits: list[Split]) -> str:
    """Return the faster of `INNER_SELECTIONS` for the inner folds of splits."""
    n_folds = sum(len(np.unique(split.inner_folds)) for split in splits)
    return choose_inner_selection(n_folds / len(splits), sum(len(split.train) for split in splits) / n_folds)


def check_inner_selection(name: str) -> str:
    """Return the name of one of `INNER_SELECTIONS`.

    Raises:
        InputError: if it is none
    """
    if name not in INNER_SELECTIONS:
        raise InputError("LP531", f"inner_selection {name!r} is unknown; choose from {', '.join(INNER_SELECTIONS)}.")
    return name


@dataclass(frozen=True)
class Search:
    """Which penalties are tried, and the precision of products with ratings."""

    rises: int | None  # successive penalties without improvement, from the strongest on, that end it; None tries all
    dtype: type  # also of predictions


OF_RATINGS = Search(rises=None, dtype=np.float64)


@dataclass(frozen=True)
class _Tried:
    """Moments of the inner held-out predictions of one split, less the mean rating; each ``(n_candidates, n_targets)``.

    Candidates are every alpha for the first scale, then for the next.
    """

    mean: np.ndarray
    std: np.ndarray
    error: np.ndarray  # mean squared; infinite for a penalty that was not tried
    prediction: np.ndarray | None  # (n_train, n_targets) of the best candidate so far, if requested

    @classmethod
    def empty(cls, n_candidates: int, prediction: np.ndarray | None, n_targets: int) -> _Tried:
        zeros = np.zeros((n_candidates, n_targets))
        return cls(zeros, zeros.copy(), np.full_like(zeros, np.inf), prediction)

    def run(
        self,
        smoother: Smoother,
        ratings: tuple[np.ndarray, np.ndarray],
        penalties: np.ndarray,
        *,
        first: int,
        shared: np.ndarray | None,
        search: Search,
    ) -> None:
        """Try absolute penalties, which are the candidates from ``first`` on, from the strongest to the weakest.

        Args:
            smoother: of the training rows
            ratings: less their mean, ``(n_train, n_targets)``, and the same in the basis of the smoother
            penalties: ``(n_alphas,)``, rising
            first: candidate of the first penalty
            shared: as of `fit_split`
            search: when to stop
        """
        exact, turned = ratings
        centred: np.ndarray = exact.astype(search.dtype, copy=False)
        searching = np.ones(centred.shape[1], dtype=bool)
        n_at_once = max(1, COLUMNS_AT_ONCE // max(1, centred.shape[1]))
        for stop in range(len(penalties), 0, -n_at_once):
            begin, columns = max(0, stop - n_at_once), np.flatnonzero(searching)
            some = slice(None) if searching.all() else columns
            residuals = smoother.residuals(penalties[begin:stop], centred[:, some], turned[:, some])
            for k in reversed(range(begin, stop)):
                left_out = smoother.left_out(float(penalties[k]), residuals[:, k - begin])
                self._add(first + k, columns, centred[:, some] - left_out, left_out, shared)
                if search.rises is not None:
                    searching &= least(self.error[first : first + len(penalties)], shared) < k + search.rises
                if not searching.any():
                    return

    def _add(
        self,
        candidate: int,
        columns: np.ndarray,
        prediction: np.ndarray,
        residuals: np.ndarray,
        shared: np.ndarray | None,
    ) -> None:
        self.mean[candidate, columns] = prediction.mean(axis=0, dtype=np.float64)
        self.std[candidate, columns] = prediction.std(axis=0, dtype=np.float64)
        self.error[candidate, columns] = np.square(residuals).mean(axis=0, dtype=np.float64)
        if self.prediction is not None:
            is_best = least(self.error, shared)[columns] == candidate
            self.prediction[:, columns[is_best]] = prediction[:, is_best]


def fit_split(
    x: np.ndarray,
    y: np.ndarray,
    split: Split,
    *,
    alphas: tuple[float, ...],
    scales: np.ndarray,
    shared: np.ndarray | None,
    search: Search,
    inner_predictions: bool = False,
) -> RidgeFit:
    """Choose each target's penalty by leaving out the inner folds of a split, and predict its test rows.

    Args:
        x: ``(n_utterances, n_features)``
        y: ``(n_utterances, n_targets)``, finite
        split: rows of both
        alphas: relative penalties in rising order
        scales: ``(n_scales, n_features)`` factors of standardised features, with a decomposition each
        shared: ``(n_targets,)``, targets with the same number have one alpha in common; None for one each
        search: which penalties are tried
        inner_predictions: whether the fit holds predictions of the training rows
    """
    order = np.argsort(split.inner_folds, kind="stable")
    train, ends = split.train[order], np.cumsum(np.unique(split.inner_folds, return_counts=True)[1]).tolist()
    folds = [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    rows, y_mean = x[train], y[train].mean(axis=0, dtype=np.float64)
    standardiser = Standardiser.learn(rows)
    z = standardiser(rows)
    centred, n_targets = y[train] - y_mean, y.shape[1]
    kept = np.empty_like(centred) if inner_predictions else None
    tried = _Tried.empty(len(scales) * len(alphas), kept, n_targets)
    prediction, chosen = np.empty((len(split.test), n_targets)), np.full(n_targets, -1)
    for first, scale in zip(range(0, len(tried.error), len(alphas)), scales, strict=True):
        smoother = Smoother.from_rows(z if (scale == 1).all() else z * scale, folds)
        turned, penalties = smoother.turned(centred), np.array(alphas) * smoother.mean_eigenvalue
        tried.run(smoother, (centred, turned), penalties, first=first, shared=shared, search=search)
        before, chosen = chosen, least(tried.error, shared)
        new = np.flatnonzero(chosen != before)
        w = smoother.coefficients(penalties[chosen[new] - first], turned[:, new])
        w *= (standardiser.scale * scale)[:, None]
        prediction[:, new] = predict_rows(x, split.test, standardiser.mean, w) + y_mean[new]
    at = (chosen, np.arange(n_targets))
    inner_prediction = None if kept is None else (kept + y_mean)[np.argsort(order)]
    return RidgeFit(
        prediction=prediction.astype(search.dtype, copy=False),
        inner_mean=tried.mean[at] + y_mean,
        inner_std=tried.std[at],
        inner_error=tried.error[at],
        alpha=np.array(alphas)[chosen % len(alphas)],
        ratio=chosen // len(alphas),
        inner_errors=tried.error,
        inner_prediction=inner_prediction,
    )
