"""Which estimator's weights recover planted layers, and which predicts unseen speakers as well.

Layers are a simulated residual stream, or those of a real encoder (`--real FILE`, an array of layers, utterances and
features with speakers). A rating is the sum of signals of equal variance in the carrying layers and of noise; the true
weight of a layer is its fraction of the signal's variance.

    PYTHONPATH=tests python tests/benchmarks/layer_weight_recovery.py            # about a minute
    PYTHONPATH=tests python tests/benchmarks/layer_weight_recovery.py --full     # everything, hours
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import benchmarks.layer_weight_estimators as heads
import benchmarks.layer_weight_kernels as kernels
import benchmarks.layer_weight_stacking as stacks
import numpy as np
import pandas as pd
from benchmarks.layer_weight_estimators import Estimate, Problem
from scipy.stats import spearmanr

N_TEST_SPEAKERS, PER_SPEAKER, N_FOLDS = 40, 25, 4
SLOW = {
    *("gradient_descent", "softmax_entropy", "softmax_bagged", "softmax_l2_bagged"),
    *("kernels_simplex", "kernels_simplex_fractions", "kernels_l2"),
}
ESTIMATORS: dict[str, Callable[[Problem], Estimate]] = {
    f.__name__: f
    for f in (
        heads.package_softmax, heads.package_weighted_sum, heads.gradient_descent, heads.softmax_mix,
        heads.softmax_entropy, heads.softmax_l2, heads.softmax_bagged, heads.softmax_l2_bagged, heads.softmax_evidence,
        kernels.kernels_simplex, kernels.kernels_simplex_fractions, kernels.kernels_l2,
        kernels.concatenated, kernels.without_layer, kernels.variance_components,
        kernels.components_of_projections, kernels.alignment,
        stacks.stacking, stacks.stacking_free, stacks.stacking_l2, stacks.stacking_entropy, stacks.stacking_bagged,
        stacks.stacking_l2_bagged, stacks.stacking_free_bagged, stacks.stacking_l2_oob, stacks.stacking_l2_oob_each,
        stacks.softmax_of_errors, stacks.best_layer, stacks.leave_one_out, stacks.shapley, stacks.uniform,
    )
}  # fmt: skip


def carrying(where: str, n_layers: int) -> np.ndarray:
    """Return the layers that carry the signal."""
    if where == "one":
        return np.array([round(0.6 * n_layers)])
    if where == "two":
        return np.array([round(0.2 * n_layers), round(0.8 * n_layers)])
    if where == "band":
        first = round(0.5 * n_layers)
        return np.arange(first, first + max(2, round(n_layers / 4)))
    return np.arange(n_layers)


def stream(n_layers: int, dim: int, adjacent: float, speakers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a simulated residual stream, ``(n_layers, n, dim)``: adjacent layers correlate, spectra fall."""
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * np.arange(1, dim + 1) ** -0.5
    names, speaker = np.unique(speakers, return_inverse=True)

    def draw() -> np.ndarray:
        raw = rng.normal(size=(len(speakers), dim)) * 0.8 + rng.normal(size=(len(names), dim))[speaker] * 0.6
        return raw @ rotation.T

    layers = [draw()]
    for _ in range(n_layers - 1):
        layers.append(adjacent * layers[-1] + np.sqrt(1 - adjacent**2) * draw())
    return np.stack(layers)


def simulate(
    layers: np.ndarray, speakers: np.ndarray, n_train: int, where: str, own: bool, r: float, rng: np.random.Generator
) -> tuple[Problem, np.ndarray, np.ndarray]:
    """Plant a signal, and return the training and test rows, the test ratings and the true weights."""
    n_layers, _, dim = layers.shape
    train = np.arange(len(speakers)) < n_train
    z = (layers - layers[:, train].mean(axis=1, keepdims=True)) / layers[:, train].std(axis=1, keepdims=True)
    chosen, direction, signal = carrying(where, n_layers), rng.normal(size=dim), 0.0
    for k in chosen:
        one = z[k] @ (rng.normal(size=dim) if own else direction)
        signal = signal + one / one.std()
    noise = rng.normal(size=len(speakers)) * 0.9
    noise += 0.4359 * rng.normal(size=speakers.max() + 1)[speakers]
    y = r * signal / np.std(signal) + np.sqrt(1 - r**2) * noise
    names = rng.permutation(np.unique(speakers[train]))
    fold_of = np.empty(speakers.max() + 1, dtype=int)
    fold_of[names] = np.arange(len(names)) % N_FOLDS
    mean = y[train].mean()
    problem = Problem(z[:, train], y[train] - mean, fold_of[speakers[train]], speakers[train], z[:, ~train], rng)
    truth = np.zeros(n_layers)
    truth[chosen] = 1 / len(chosen)
    return problem, y[~train] - mean, truth


def measure(p: Problem, y_test: np.ndarray, truth: np.ndarray, names: list[str]) -> list[dict[str, object]]:
    """Return a row of criteria for each estimator."""
    rows, depth = [], np.linspace(0, 1, len(truth))
    for name in names:
        began = time.process_time()
        w, b = ESTIMATORS[name](p)
        seconds = time.process_time() - began
        predicted = p.shared["prediction"] if np.isnan(b).any() else np.einsum("lnd,ld->n", p.test, b)
        # the deviation of unlabelled test predictions serves all alike, as some have no inner predictions
        predicted = (predicted - predicted.mean()) * (p.y.std() / max(predicted.std(), 1e-12))
        gap = (predicted.mean() - y_test.mean()) ** 2
        concordance = 2 * np.mean((predicted - predicted.mean()) * (y_test - y_test.mean()))
        rank = np.nan if np.ptp(truth) == 0 else (spearmanr(w, truth)[0] if np.ptp(w) > 0 else 0.0)
        rows.append({
            "estimator": name, "spearman": rank, "distance": np.abs(w - truth).sum() / 2,
            "near": float(w @ (smear(len(w)) @ truth > 0.02)), "depth": w @ depth - truth @ depth, "top": w.max(),
            "ccc": concordance / (predicted.var() + y_test.var() + gap), "seconds": seconds,
        })  # fmt: skip
    return rows


def smear(n: int, width: int = 1) -> np.ndarray:
    """Return the matrix that spreads a weight over a layer and its adjacent."""
    near = (np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= width).astype(float)
    return np.asarray(near / near.sum(axis=1, keepdims=True))


def study(arguments: argparse.Namespace) -> pd.DataFrame:
    """Measure the estimators in all scenarios."""
    rows, real = [], None
    if arguments.real:
        with np.load(arguments.real) as file:
            real = file["layers"].astype(float), file["speakers"]
    names = (
        [n for n in ESTIMATORS if n in arguments.only.split(",")]
        if arguments.only
        else [n for n in ESTIMATORS if arguments.full or n not in SLOW]
    )
    grid = itertools.product(
        arguments.layers, arguments.adjacent, arguments.n, arguments.r, ("one", "two", "band", "all"), (False, True)
    )
    for k, (n_layers, adjacent, n, r, where, own) in enumerate(grid):
        for seed in range(arguments.seeds):
            rng = np.random.default_rng([seed, k, arguments.offset])
            if real is None:
                n_speakers = max(8, n // 30)
                speakers = np.concatenate([
                    np.arange(n) % n_speakers, n_speakers + np.repeat(np.arange(N_TEST_SPEAKERS), PER_SPEAKER)
                ])  # fmt: skip
                layers, n_train = stream(n_layers, arguments.dim, adjacent, speakers, rng), n
            else:
                layers, speakers = real
                order = rng.permutation(np.unique(speakers))
                held_out = np.isin(speakers, order[: len(order) // 3])
                rows_in_order = np.argsort(held_out, kind="stable")
                layers, n_train = layers[:, rows_in_order], int((~held_out).sum())
                speakers = np.unique(speakers[rows_in_order], return_inverse=True)[1]
            problem, y_test, truth = simulate(layers, speakers, n_train, where, own, r, rng)
            keys = {"n_layers": n_layers, "adjacent": adjacent, "n": n, "r": r, "where": where, "own": own}
            rows += [{**keys, "seed": seed, **row} for row in measure(problem, y_test, truth, names)]
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> None:
    """Print means by place of the signal, and mean ranks over scenarios."""
    pd.set_option("display.width", 250, "display.max_rows", 500, "display.max_columns", 60)
    scenario = ["n_layers", "adjacent", "n", "r", "where", "own"]
    means = table.groupby([*scenario, "estimator"], sort=False).mean(numeric_only=True).reset_index()
    means["bias"] = means["depth"].abs()
    for criterion in ("distance", "spearman", "near", "bias", "top", "ccc"):
        print(f"\n{criterion}")
        print(means.pivot_table(index="estimator", columns=["where", "own"], values=criterion, sort=False).round(3))
    for column in ("n", "r"):
        print(f"\ndistance by {column}, and CCC")
        print(means.pivot_table(index="estimator", columns=column, values=["distance", "ccc"], sort=False).round(3))
    ranks = pd.DataFrame({
        "distance": means.groupby(scenario)["distance"].rank(),
        "spearman": means.groupby(scenario)["spearman"].rank(ascending=False),
        "bias": means.groupby(scenario)["bias"].rank(),
        "ccc": means.groupby(scenario)["ccc"].rank(ascending=False),
    })  # fmt: skip
    summary = ranks.groupby(means["estimator"], sort=False).mean()
    summary["mean_rank"] = summary.mean(axis=1)
    # the worst place of the signal: uniform weights win where all layers carry it and lose where one does
    by_place = means.groupby(["estimator", "where"])["distance"].mean().unstack()
    summary["worst_distance"], summary["mean_distance"] = by_place.max(axis=1), by_place.mean(axis=1)
    summary["mean_ccc"] = means.groupby("estimator")["ccc"].mean()
    summary["seconds"] = table.groupby("estimator")["seconds"].mean()
    print("\nmean ranks over scenarios, distance by place of the signal, CCC, CPU seconds")
    print(summary.sort_values("mean_distance").round(3))


def main() -> None:
    """Parse the arguments, run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="every estimator and scenario")
    parser.add_argument("--real", type=Path, help="a .npz file with layers (n_layers, n, dim) and speakers (n,)")
    parser.add_argument("--only", default="", help="names of estimators, with commas")
    parser.add_argument("--layers", type=int, nargs="+", default=[13])
    parser.add_argument("--adjacent", type=float, nargs="+", default=[0.95], help="correlation of adjacent layers")
    parser.add_argument("--n", type=int, nargs="+", default=[1000])
    parser.add_argument("--r", type=float, nargs="+", default=[0.6], help="best possible correlation with the rating")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--offset", type=int, default=0, help="added to the seeds")
    parser.add_argument("--out", type=Path, help="table of all results")
    arguments = parser.parse_args()
    if arguments.full and arguments.n == [1000] and arguments.r == [0.6]:
        arguments.n, arguments.r, arguments.layers = [300, 1000, 3000], [0.3, 0.6, 0.9], [13, 25]
        arguments.adjacent = [0.9, 0.95, 0.98]
    table = study(arguments)
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    report(table)


if __name__ == "__main__":
    main()
