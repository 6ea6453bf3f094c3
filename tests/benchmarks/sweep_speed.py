"""The nested ridge against the same search with scikit-learn, on the same splits, in one process, taking turns.

scikit-learn can't choose alpha per target under group folds, so it searches once per target. The machine's own limit,
the float64 products that the Gram matrices need, is measured in between.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probe.ridge import DEFAULT_ALPHAS, nested_ridge
from probe.splits import Split, fold_splits


def search(x: np.ndarray, y: np.ndarray, splits: list[Split]) -> None:
    for split in splits:
        for target in range(y.shape[1]):
            GridSearchCV(
                make_pipeline(StandardScaler(), Ridge()),
                {"ridge__alpha": np.array(DEFAULT_ALPHAS) * len(split.train)},
                cv=PredefinedSplit(split.inner_folds),
                scoring="neg_mean_squared_error",
            ).fit(x[split.train], y[split.train, target]).predict(x[split.test])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n, p = options.utterances, options.features
    x = (rng.normal(size=(n, 32)) @ rng.normal(size=(32, p)) + rng.normal(size=(n, p))).astype(np.float32)
    y = x[:, :3] + rng.normal(size=(n, 3))
    splits = fold_splits(np.arange(n) // 10, n_folds=5, n_inner_folds=4, rng=rng)
    print(f"one layer: {n} utterances, {p} features, 3 targets, {len(DEFAULT_ALPHAS)} alphas, 5 x 4 nested folds")
    flops = 2 * n * p * p * (5 * 0.8 + 20 * 0.6)  # every training set's Gram matrix, outer and inner
    ratios = []
    for _ in range(options.repeats):
        began = time.perf_counter()
        for split in splits:
            nested_ridge(x, y, split=split, alphas=DEFAULT_ALPHAS)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        search(x, y, splits)
        theirs = time.perf_counter() - began
        z = x.astype(np.float64)
        began = time.perf_counter()
        z.T @ z
        limit = flops * (time.perf_counter() - began) / (2 * n * p * p)
        ratios.append(theirs / ours)
        print(
            f"nested ridge {ours:.2f} s, GridSearchCV {theirs:.2f} s, ratio {ratios[-1]:.1f}; "
            f"the Gram matrices' products alone {limit:.2f} s"
        )
    print(f"median ratio to scikit-learn: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
