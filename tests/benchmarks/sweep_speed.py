"""Ridge of one layer over a grid of alphas and speaker-disjoint folds, against peers, in one process, taking turns.

* ours, one level: five folds choose alpha per target, then a fit on everything; what a grid search does
* ours, nested: five outer folds, each choosing alpha on the other four, and its held-out predictions
* scikit-learn: GridSearchCV(Ridge) over the same five folds, for all targets jointly; it can't choose per target
* himalaya (if installed and requested): RidgeCV with the same splits and an intercept, on its torch backend with its
  only solver for one group of features, which decomposes the rows of each training set; on its numpy backend it takes
  a little longer, and its kernel ridge would decompose matrices of utterances, which are far larger

Every contender has one thread, as each process of a sweep has. Times are of the processor, so that others who use the
machine change them little; those of the wall are printed, too.

The limit is the multiplications alone: half of the Gram matrix of all rows in float32, and six tridiagonal forms in
float64 (4/3 of the cube of the number of features each), at the rates of products of two matrices measured in the same
round. The two must differ: of ``a.T @ a`` numpy computes half, and a rate from it is up to twice the machine's. Earlier
versions measured that rate; the limit that it gives is printed, too, so that their figures can be compared. No program
reaches either limit: half of a tridiagonal form is products of a matrix and a vector, which wait for memory. What the
routines of LAPACK take for the same is ``ssyrk`` and six times ``dsytrd``. Exactness is against a float64 fit by normal
equations.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.linalg import lapack
from scipy.linalg.blas import ssyrk
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from threadpoolctl import threadpool_limits

from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.solvers.ridge import nested_ridge, ridge_path
from layerprobe.probe.solvers.ridge_fit import RidgeFit
from layerprobe.probe.splits import Split, fold_splits

ALPHAS = tuple(np.logspace(-4, 4, 20))
ROWS = 4096  # of a product whose rate is measured
N_FORMS = 6  # five inner training sets, and all rows
N_PERMUTATIONS = 98


def layer(n: int, p: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with shared directions and offsets, and three ratings that some of them explain."""
    x = rng.normal(size=(n, 64)) @ rng.normal(size=(64, p)) * 0.3 + 0.3 * rng.normal(size=(n, p)) + rng.normal(size=p)
    return x.astype(np.float32), x[:, :3] + 2 * rng.normal(size=(n, 3))


def processor() -> str:
    """Name of the processor, and how many of its cores this process may use."""
    described = Path("/proc/cpuinfo")
    names = [line for line in described.read_text().splitlines() if "model name" in line] if described.exists() else []
    name = names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()
    return f"{name}, {os.process_cpu_count() if hasattr(os, 'process_cpu_count') else os.cpu_count()} cores"


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the wall."""
    began, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - began, time.perf_counter() - wall


def rate(dtype: type, p: int, *, halved: bool) -> float:
    """FLOP/s of a product of two matrices with `ROWS` rows; halved: of a matrix and itself, as if all were done."""
    a, b, out = np.ones((ROWS, p), dtype), np.ones((ROWS, p), dtype), np.empty((p, p), dtype)
    other = a if halved else b
    taken = [seconds(lambda: np.matmul(a.T, other, out=out))[0] for _ in range(4)][1:]
    return 2 * ROWS * p * p / statistics.median(taken)


def multiplications(n: int, p: int, *, halved: bool) -> float:
    """Seconds of the multiplications alone; halved: as of `rate`."""
    gram, form = n * p * p / rate(np.float32, p, halved=halved), 4 / 3 * p**3 / rate(np.float64, p, halved=halved)
    return gram + N_FORMS * form


def routines(x: np.ndarray) -> float:
    """Seconds of LAPACK for the Gram matrix and the tridiagonal forms of a layer."""
    p = x.shape[1]
    gram = np.zeros((p, p), dtype=np.float32, order="F")
    matrix = np.asfortranarray(np.cov(x[:ROWS].T.astype(np.float64)))
    work = int(lapack.dsytrd_lwork(p, lower=1)[0])
    product = [seconds(lambda: ssyrk(1.0, x[:ROWS].T, c=gram, lower=1, overwrite_c=1))[0] for _ in range(4)][1:]
    form = [seconds(lambda: lapack.dsytrd(matrix, lower=1, lwork=work))[0] for _ in range(4)][1:]
    return statistics.median(product) * len(x) / ROWS + N_FORMS * statistics.median(form)


LIMITS: dict[str, Callable[[np.ndarray], float]] = {  # seconds of a layer
    "multiplications alone": lambda x: multiplications(*x.shape, halved=False),
    "multiplications alone, as earlier versions measured": lambda x: multiplications(*x.shape, halved=True),
    "routines of LAPACK": routines,
}


def search(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> None:
    grid = {"alpha": np.array(ALPHAS) * len(x)}
    GridSearchCV(Ridge(), grid, cv=PredefinedSplit(folds), scoring="neg_mean_squared_error").fit(x, y)


def search_himalaya(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> None:
    import torch
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV

    torch.set_num_threads(1)
    set_backend("torch")
    cv = PredefinedSplit(folds)
    alphas = (np.array(ALPHAS) * len(x)).astype(np.float32)
    RidgeCV(alphas=alphas, cv=cv, fit_intercept=True, solver="svd").fit(x, y.astype(np.float32))


def permuted(x: np.ndarray, y: np.ndarray, splits: list[Split]) -> None:
    ridge, rng = PermutedRidge(x, splits=splits, alphas=ALPHAS), np.random.default_rng(1)
    ridge.fit(y)
    copies = np.concatenate([y[rng.permutation(len(y))] for _ in range(N_PERMUTATIONS)], axis=1)
    n = copies.shape[1]
    ridge.fit_permuted(copies, shared=np.arange(n), of_split=np.full(n, -1))


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
    parser.add_argument("--himalaya", action="store_true", help="takes four minutes a round")
    options = parser.parse_args()
    with threadpool_limits(1):
        compare(options)


def compare(options: argparse.Namespace) -> None:
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
        f"nested, with {N_PERMUTATIONS} permutations": lambda: permuted(x, y, splits),
        "scikit-learn": lambda: search(x, y, folds),
    }
    if options.himalaya:
        contenders["himalaya"] = lambda: search_himalaya(x, y, folds)
    print(f"{processor()}; one thread each; seconds of the processor (of the wall)")
    print(f"one layer: {n} utterances, {p} features, 3 targets, {len(ALPHAS)} alphas, 5 folds")
    contenders["one level"]()  # not counted: libraries are loaded
    taken: dict[str, list[float]] = {name: [] for name in [*LIMITS, *contenders]}
    for _ in range(options.repeats):
        for name, limit in LIMITS.items():
            taken[name].append(limit(x))
        parts = [f"{name} {taken[name][-1]:.2f}" for name in LIMITS]
        for name, work in contenders.items():
            processor_time, wall = seconds(work)
            taken[name].append(processor_time)
            parts.append(f"{name} {processor_time:.2f} ({wall:.2f})")
        print("; ".join(parts), flush=True)

    def ratio(a: str, b: str) -> float:
        return statistics.median(s / t for s, t in zip(taken[a], taken[b], strict=True))

    for peer in list(contenders)[3:]:
        print(f"{peer} / ours, one level: {ratio(peer, 'one level'):.1f}")
    print(f"nested / one level: {ratio('nested', 'one level'):.2f}")
    print(f"with permutations / nested: {ratio(list(contenders)[2], 'nested'):.2f}")
    for name in LIMITS:
        print(f"one level / the {name}: {ratio('one level', name):.2f}")
    fit = nested_ridge(x, y, splits=splits[:1], alphas=ALPHAS)[0]
    print(f"greatest error against float64: {greatest_error(x, y, splits[0], fit):.1e} of the ratings' SD")


if __name__ == "__main__":
    main()
