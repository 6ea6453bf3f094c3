"""Nested leave-one-speaker-out ridge of one layer against scikit-learn's grid search, on one core, taking turns.

* ours: each speaker is held out in turn, and alpha is chosen per target on the other speakers, each left out in turn
* scikit-learn: `cross_val_predict` of a `GridSearchCV` of scaler and ridge, both with `LeaveOneGroupOut`. Its fits take
  as long as each other, so a few are timed and multiplied by their number, outer folds x (inner folds x alphas
  + 1); it chooses one alpha for all targets.
* refits: ours with a fit for every inner fold, a few outer folds timed and multiplied
* permutations: the same layer with permuted copies of the ratings, fitted after them

Seconds are of the process on its core, medians of rounds. Exactness is the largest relative difference of inner errors
of one outer fold from those of refitting each inner fold by scikit-learn with the same standardisation and penalty.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from benchmarks.sweep_speed import processor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from layerprobe.probe.solvers.leave_group_out import OF_RATINGS, REFIT, fit_split
from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.splits import Split

TIMED_SPEAKERS, TIMED_ALPHAS = 4, 2  # of the grid search


@dataclass(frozen=True)
class Corpus:
    name: str
    n_utterances: int
    n_features: int
    n_speakers: int
    n_permutations: int  # of each of three targets
    n_outer: int  # outer folds that are fitted in a round; times are multiplied by speakers / n_outer

    def problem(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embeddings with shared directions and an offset per speaker, three ratings, and speakers."""
        n, p = self.n_utterances, self.n_features
        speakers = np.arange(n) * self.n_speakers // n
        x = rng.normal(size=(n, 64)) @ rng.normal(size=(64, p)) * 0.3 + 0.3 * rng.normal(size=(n, p))
        x += 0.2 * rng.normal(size=(self.n_speakers, p))[speakers] + rng.normal(size=p)
        return x.astype(np.float32), x[:, :3] + 2 * rng.normal(size=(n, 3)), speakers


RAVDESS = Corpus("RAVDESS", 1440, 1536, 24, 98, 24)
SMALL = Corpus("15 speakers", 675, 768, 15, 99, 15)
CREMA_D = Corpus("CREMA-D", 7442, 768, 91, 98, 6)


def held_out_in_turn(speakers: np.ndarray) -> list[Split]:
    return [
        Split(str(s), np.flatnonzero(speakers != s), np.flatnonzero(speakers == s), speakers[speakers != s])
        for s in np.unique(speakers)
    ]


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def grid_search_seconds(x: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> float:
    """Seconds of a whole nested search, from a few of its fits, each to all speakers but two."""
    few = np.unique(speakers)[:TIMED_SPEAKERS]
    kept = np.flatnonzero(speakers != few[0])
    # the first of few groups is left out by itself: all others but it are one group, which is left out in no timed fit
    fold = np.where(np.isin(speakers[kept], few), speakers[kept], -1)
    cv = [(a, b) for a, b in LeaveOneGroupOut().split(kept, groups=fold) if fold[b[0]] != -1]
    grid = {"ridge__alpha": np.array(DEFAULT_ALPHAS[8 : 8 + TIMED_ALPHAS]) * len(kept)}
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()), grid, cv=cv, scoring="neg_mean_squared_error", refit=False
    )
    taken = seconds(lambda: search.fit(x[kept], y[kept]))
    n = len(np.unique(speakers))
    return taken / (len(cv) * TIMED_ALPHAS) * n * ((n - 1) * len(DEFAULT_ALPHAS) + 1)


def largest_error(x: np.ndarray, y: np.ndarray, split: Split) -> float:
    """Relative difference of inner errors from refits, at a few alphas."""
    alphas = DEFAULT_ALPHAS[::8]
    ones = np.ones((1, x.shape[1]))
    fit = fit_split(x, y, split, alphas=alphas, scales=ones, shared=None, search=OF_RATINGS)
    z = StandardScaler().fit_transform(x[split.train].astype(np.float64))
    errors = np.zeros_like(fit.inner_errors)
    for k, alpha in enumerate(alphas):
        ridge = Ridge(alpha=alpha * np.square(z).sum() / min(z.shape))
        for fold in np.unique(split.inner_folds):
            out = split.inner_folds == fold
            predicted = ridge.fit(z[~out], y[split.train][~out]).predict(z[out])
            errors[k] += np.square(predicted - y[split.train][out]).sum(axis=0) / len(split.train)
    return float(np.abs(fit.inner_errors / errors - 1).max())


def compare(corpus: Corpus, repeats: int, *, peer: bool) -> None:
    rng = np.random.default_rng(0)
    x, y, speakers = corpus.problem(rng)
    every = held_out_in_turn(speakers)
    splits, times = every[: corpus.n_outer], len(every) / corpus.n_outer
    permuted = np.concatenate([y[rng.permutation(len(y))] for _ in range(corpus.n_permutations)], axis=1)
    shared, of_split = np.arange(permuted.shape[1]), np.full(permuted.shape[1], -1)

    def ours() -> None:
        nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS)

    def with_permutations() -> None:
        ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
        ridge.fit(y)
        ridge.fit_permuted(permuted, shared=shared, of_split=of_split)

    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: times * seconds(ours),
        f"ours with {corpus.n_permutations} permutations": lambda: times * seconds(with_permutations),
    }
    if peer:
        contenders["scikit-learn"] = lambda: grid_search_seconds(x, y, speakers)
    if corpus.n_utterances <= x.shape[1] * 2:  # refits of more take an hour
        refitted = every[:2]
        contenders["ours with refits"] = lambda: (
            len(every)
            / len(refitted)
            * seconds(lambda: nested_ridge(x, y, splits=refitted, alphas=DEFAULT_ALPHAS, inner_selection=REFIT))
        )
    print(f"{corpus.name} size: {len(x)} utterances, {x.shape[1]} features, {len(every)} speakers, 3 targets")
    if times > 1:
        print(f"  {corpus.n_outer} outer folds are timed, and the time multiplied by {times:.1f}")
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, work in contenders.items():
            taken[name].append(work())
        print("  " + "; ".join(f"{name} {found[-1]:.1f} s" for name, found in taken.items()), flush=True)
    for name in list(contenders)[1:]:
        ratio = statistics.median(a / b for a, b in zip(taken[name], taken["ours"], strict=True))
        print(f"  {name} / ours: {ratio:.1f}")
    print(f"  ours: {statistics.median(taken['ours']):.1f} s a layer on one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="also CREMA-D's size; minutes a round")
    options = parser.parse_args()
    print(f"{processor()}; one thread each")
    with threadpool_limits(limits=1):
        for corpus in (SMALL, RAVDESS, *([CREMA_D] if options.all else [])):
            compare(corpus, options.repeats, peer=corpus is not CREMA_D)
        x, y, speakers = SMALL.problem(np.random.default_rng(1))
        error = largest_error(x, y, held_out_in_turn(speakers)[0])
        print(f"largest relative difference of an inner error from refits, of both kinds: {error:.1e}", end=", ")
        print(f"{largest_error(x[:, :300], y, held_out_in_turn(speakers)[0]):.1e}")


if __name__ == "__main__":
    main()
