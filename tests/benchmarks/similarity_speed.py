"""A table of all layers; then debiased CKA from products of features, against the textbook's whole Gram matrices.

Both sides are float64 and get the same arrays; ratios are of medians of rounds in which the two take turns.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np
import pandas as pd

from layerprobe.analysis.similarity.cka import debiased_cka
from layerprobe.analysis.similarity.table import similarity_table


def textbook(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. (2012), equation 5, on n x n Gram matrices."""
    n = len(x)
    grams = [x @ x.T, y @ y.T]
    for gram in grams:
        np.fill_diagonal(gram, 0.0)
    sums = [gram.sum(axis=0) for gram in grams]

    def hsic(a: int, b: int) -> float:
        whole = sums[a].sum() * sums[b].sum() / ((n - 1) * (n - 2))
        return float(np.vdot(grams[a], grams[b]) + whole - 2 / (n - 2) * (sums[a] @ sums[b]))

    return hsic(0, 1) / float(np.sqrt(hsic(0, 0) * hsic(1, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=25, help="of the table")
    parser.add_argument("--layer-dim", type=int, default=1024, help="of the table")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n, dim = 20_000, options.layer_dim
    shared = rng.normal(size=(n, 64)).astype(np.float32)

    def read(layer: str, rows: np.ndarray) -> np.ndarray:
        own = np.random.default_rng(int(layer))
        mixed = shared[rows] @ own.normal(size=(64, dim)).astype(np.float32)
        return np.asarray(mixed + own.normal(size=mixed.shape).astype(np.float32))

    ratings = pd.DataFrame(shared[:, :3], columns=["arousal", "valence", "dominance"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    table = similarity_table(
        {"encoder": ([str(k) for k in range(options.layers)], read)}, ratings, rng.integers(200, size=n), seed=0
    )
    took = time.perf_counter() - began
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(
        f"the table of {options.layers} layers of {dim} and 3 ratings, 4,000 of {n} utterances: {len(table)} rows in "
        f"{took:.0f} s; the peak of memory rose by {more:.1f} GiB"
    )

    for n in options.utterances:
        x = rng.normal(size=(n, options.dim))
        y = 0.5 * x + rng.normal(size=x.shape)
        seconds: dict[str, list[float]] = {"ours": [], "textbook": []}
        values = {}
        for _ in range(options.repeats):
            for name, measure in (("ours", debiased_cka), ("textbook", textbook)):
                began = time.perf_counter()
                values[name] = measure(x, y)
                seconds[name].append(time.perf_counter() - began)
        ours, theirs = (statistics.median(seconds[name]) for name in ("ours", "textbook"))
        difference = abs(values["ours"] - values["textbook"])
        print(
            f"{n} utterances: ours {ours:.3f} s, n x n {theirs:.3f} s, n x n / ours {theirs / ours:.1f}, "
            f"difference {difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
