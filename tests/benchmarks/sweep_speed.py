"""Ridge of one layer over a grid of alphas and speaker-disjoint folds, against peers, in one process, taking turns.

* ours, one level: five folds choose alpha per target, then a fit on everything; what a grid search does
* ours, nested: five outer folds, each choosing alpha on the other four, and its held-out predictions
* scikit-learn: GridSearchCV(Ridge) over the same five folds, for all targets jointly; it can't choose per target
* himalaya (if installed and requested): RidgeCV on the torch backend with the same splits and an intercept

The machine's limit is the multiplications alone: the Gram matrices in float32 and the tridiagonal forms in float64, at
the rates of matrix products measured in the same round. Exactness is against a float64 fit by normal equations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from layerprobe.probe.solvers.ridge import nested_ridge, ridge_path
from layerprobe.probe.solvers.ridge_fit import RidgeFit
from layerprobe.probe.splits import Split, fold_splits

ALPHAS = tuple(np.logspace(-4, 4, 20))


def layer(n: int, p: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with shared directions and offsets, and three ratings that some of them explain."""
    x = rng.normal(size=(n, 64)) @ rng.normal(size=(64, p)) * 0.3 + 0.3 * rng.normal(size=(n, p)) + rng.normal(size=p)
    return x.astype(np.float32), x[:, :3] + 2 * rng.normal(size=(n, 3))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rate(dtype: type, p: int) -> float:
    """FLOP/s of a product of 4096 rows."""
    a = np.ones((4096, p), dtype=dtype)
    return 3 * 2 * 4096 * p * p / seconds(lambda: [a.T @ a for _ in range(3)])


def search(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> None:
    grid = {"alpha": np.array(ALPHAS) * len(x)}
    GridSearchCV(Ridge(), grid, cv=PredefinedSplit(folds), scoring="neg_mean_squared_error").fit(x, y)


def search_himalaya(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> None:
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV

    set_backend("torch")
    cv = PredefinedSplit(folds)
    alphas = (np.array(ALPHAS) * len(x)).astype(np.float32)
    RidgeCV(alphas=alphas, cv=cv, fit_intercept=True, solver="svd").fit(x, y.astype(np.float32))


def greatest_error(x: np.ndarray, y: np.ndarray, split: Split, fit: RidgeFit) -> float:
    """Of the predictions of the first target, in standard deviations of its ratings."""
    alpha = float(fit.alpha[0])
    exact = ridge_path(x[split.train].astype(np.float64), y[split.train, :1], x[split.test], alphas=(alpha,))[0, :, 0]
    return float(np.abs(fit.prediction[:, 0] - exact).max() / y[:, 0].std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--himalaya", action="store_true", help="takes minutes a round")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n, p = options.utterances, options.features
    x, y = layer(n, p, rng)
    splits = fold_splits(np.arange(n) // 100, n_folds=5, n_inner_folds=4, rng=rng)
    folds = np.empty(n, dtype=int)
    for split in splits:
        folds[split.test] = int(split.name)
    everything = Split("all", np.arange(n), np.arange(0), folds)
    contenders: dict[str, Callable[[], object]] = {
        "one level": lambda: nested_ridge(x, y, splits=[everything], alphas=ALPHAS),
        "nested": lambda: nested_ridge(x, y, splits=splits, alphas=ALPHAS),
        "scikit-learn": lambda: search(x, y, folds),
    }
    if options.himalaya:
        contenders["himalaya"] = lambda: search_himalaya(x, y, folds)
    print(f"one layer: {n} utterances, {p} features, 3 targets, {len(ALPHAS)} alphas, 5 folds")
    taken: dict[str, list[float]] = {name: [] for name in [*contenders, "limit"]}
    for _ in range(options.repeats):
        gram, forms = n * p * p / rate(np.float32, p), 4 / 3 * p**3 / rate(np.float64, p)
        taken["limit"].append(gram + 6 * forms)
        for name, work in contenders.items():
            taken[name].append(seconds(work))
        print("; ".join(f"{name} {times[-1]:.2f} s" for name, times in taken.items()), flush=True)

    def ratio(a: str, b: str) -> float:
        return statistics.median(s / t for s, t in zip(taken[a], taken[b], strict=True))

    for peer in list(contenders)[2:]:
        print(f"{peer} / ours, one level: {ratio(peer, 'one level'):.1f}")
    print(f"nested / one level: {ratio('nested', 'one level'):.2f}")
    print(f"one level / the multiplications alone: {ratio('one level', 'limit'):.2f}")
    fit = nested_ridge(x, y, splits=splits[:1], alphas=ALPHAS)[0]
    print(f"greatest error against float64: {greatest_error(x, y, splits[0], fit):.1e} of the ratings' SD")


if __name__ == "__main__":
    main()
