"""Maps of layers and bins of time in corpora without any effect, with a peak, and with the same effect in all bins.

Corpora of 16 speakers with twelve utterances each, fewer and fewer of which reach the later bins. Each cell is a ridge
regression on held-out speakers, and so is each of its permutations.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.permutation import max_statistic_p
from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.analysis.time.maps import BinScores, time_map
from layerprobe.analysis.time.peaks import time_peaks
from layerprobe.analysis.time.scores import bin_bootstrap, bin_counts
from layerprobe.probe.metrics import pearson
from layerprobe.probe.results.run_folder import CONDITIONS, Predictions
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits

N_SPEAKERS, EACH, N_LAYERS, N_BINS, DIM, N_PERMUTATIONS, N_FOLDS, N_CORPORA = 16, 12, 2, 6, 3, 39, 4, 40
GROUPS = np.repeat(np.arange(N_SPEAKERS), EACH)
BINS = TimeBins("onset", tuple(f"{k}–{k + 1}" for k in range(N_BINS)), tuple((k, k + 1.0) for k in range(N_BINS)))
REACHED = np.linspace(EACH, 3, N_BINS).astype(int)  # utterances of a speaker that are so long
KEYS = {"encoder": "e", "probe": "ridge", "target": "t", **dict.fromkeys(CONDITIONS, "")}


def corpus(rng: np.random.Generator, strength: np.ndarray) -> tuple[BinScores, np.ndarray, np.ndarray]:
    """Return the scores of a corpus whose bins carry the rating so strongly, also as arrays, real and permuted."""
    n = len(GROUPS)
    rating = rng.normal(size=n)
    every = np.column_stack([rating, *(rng.permutation(rating) for _ in range(N_PERMUTATIONS))])
    rows, columns, predicted = [], [], []
    for b, name in enumerate(BINS.names):
        kept = np.arange(n) % EACH < REACHED[b]
        splits = fold_splits(GROUPS[kept], n_folds=N_FOLDS, n_inner_folds=3, rng=np.random.default_rng(0))
        x = rng.normal(size=(N_LAYERS, n, DIM))
        x[..., 0] += strength[b] * rating
        for layer in range(N_LAYERS):
            y, found = every[kept], np.empty((kept.sum(), every.shape[1]))
            fits = nested_ridge(x[layer][kept], y, splits=splits, alphas=(1.0, 10.0, 100.0))
            for split, fit in zip(splits, fits, strict=True):
                found[split.test] = fit.prediction
            key = {**KEYS, "layer": str(layer), "bin": name, "fold": "pooled", "metric": "pearson"}
            for k in range(every.shape[1]):
                control = {"control": "none" if k == 0 else "permuted", "seed": max(k - 1, 0)}
                rows.append({**key, **control, "value": pearson(y[:, k], found[:, k])})
            columns.append({**KEYS, "layer": str(layer), "bin": name, "control": "none", "seed": 0})
            predicted.append(np.full(n, np.nan))
            predicted[-1][kept] = found[:, 0]
    names, values = np.array([f"{g:02d}" for g in GROUPS]), np.stack(predicted, axis=1).astype(np.float32)
    ids, folds = np.arange(n).astype(str), np.zeros(n).astype(str)
    held_out = Predictions(ids, names, folds, np.array(["t"]), rating[:, None], pd.DataFrame(columns), values, values)
    scores = pd.DataFrame(rows)
    layers = {"e": [str(k) for k in range(N_LAYERS)]}
    bootstrap = bin_bootstrap(held_out, metric="pearson")
    given = BinScores(BINS, layers, ["t"], "pearson", scores, bootstrap, bin_counts(held_out))
    value = scores["value"].to_numpy().reshape(-1, N_PERMUTATIONS + 1)
    return given, value[:, 0], value[:, 1:].T


def outcome(rng: np.random.Generator, strength: np.ndarray) -> tuple[float, float, float]:
    """Return p-values of the map, by standardised scores and by others, and that of the difference of bins."""
    given, real, permuted = corpus(rng, strength)
    table = time_map(given)
    inflation = training_inflation([N_SPEAKERS // N_FOLDS] * N_FOLDS, [N_SPEAKERS - N_SPEAKERS // N_FOLDS] * N_FOLDS)
    peak = time_peaks(table, given, inflation=inflation)
    (best,) = peak[peak["is_best"]].to_dict("records")
    raw = float(max_statistic_p(real, permuted).min())
    return float(table["p_adjusted"].min()), raw, float(best["p_difference"])


rng = np.random.default_rng(0)
first = np.eye(N_BINS)[0]
found = {
    "no effect": [outcome(rng, 0 * first) for _ in range(N_CORPORA)],
    "a peak in the first bin": [outcome(rng, 0.25 * first) for _ in range(N_CORPORA)],
    "the same effect in all bins": [outcome(rng, np.full(N_BINS, 0.5)) for _ in range(N_CORPORA)],
}
print(f"corpora: {N_CORPORA} of each kind; p at most .05 in")
for name, outcomes in found.items():
    p, raw, difference = np.array(outcomes).T
    counts = [int(np.sum(values <= 0.05)) for values in (p, raw, difference)]
    print(f"{name}: map {counts[0]}, by unstandardised scores {counts[1]}, difference of bins {counts[2]}")

figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
levels = np.arange(1, N_PERMUTATIONS + 2) / (N_PERMUTATIONS + 1)
ax.plot([0, 1], [0, 1], color="0.75", lw=1)
for (name, outcomes), colour in zip(list(found.items())[:2], ("#1b6ca8", "#d1702f"), strict=True):
    for k, line in ((0, "-"), (1, ":")):
        values = np.array([o[k] for o in outcomes])
        label = f"{name}, {'standardised' if k == 0 else 'not standardised'}"
        ax.step(levels, [(values <= v + 1e-9).mean() for v in levels], where="post", color=colour, ls=line, label=label)
ax.legend(frameon=False, fontsize=8, loc="lower right")
ax.set(xlabel="p-value of the best cell", ylabel="fraction of corpora with at most that p", xlim=(0, 1), ylim=(0, 1))
