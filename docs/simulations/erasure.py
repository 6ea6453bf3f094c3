"""Erasures of concepts that have nothing to do with the target, and of one that the target consists of in part.

Corpora of 24 speakers with ten utterances each and two layers, which carry the target. Concepts are erased by the
training speakers of each fold, and so are random directions. A concept of numbers differs within and between speakers,
one of classes between speakers alone.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from layerprobe.analysis.erasure.removed import erased_scores, erasure_table
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.probe.results.erased import random_name
from layerprobe.probe.results.run_folder import CONDITIONS, Predictions
from layerprobe.probe.solvers.erased_ridge import SplitRidge
from layerprobe.probe.splits import fold_splits

N_SPEAKERS, EACH, LAYERS, DIM, N_FOLDS, REPEATS, N_RESAMPLES = 24, 10, ["0", "1"], 24, 5, 5, 1000
N_NULL, N_PLANTED = 50, 40
CONCEPTS = ("numbers", "classes")
GROUPS = np.repeat(np.arange(N_SPEAKERS), EACH)
SPLITS = fold_splits(GROUPS, n_folds=N_FOLDS, n_inner_folds=4, rng=np.random.default_rng(0))
KEYS = {"encoder": "e", "probe": "ridge", "target": "t", "control": "none", "seed": 0, **dict.fromkeys(CONDITIONS, "")}


def corpus(rng: np.random.Generator, *, encoded: float, planted: float) -> Predictions:
    """Return held-out predictions of a corpus, with nothing erased, without concepts, and without random directions.

    Args:
        rng: of the corpus
        encoded: how strongly layers carry the concept of numbers
        planted: correlation of that concept with what is rated
    """
    n = len(GROUPS)
    numbers, rest = (0.6 * rng.normal(size=N_SPEAKERS)[GROUPS] + 0.8 * rng.normal(size=n) for _ in range(2))
    values = {"numbers": numbers[:, None], "classes": (rng.permutation(N_SPEAKERS) % 2)[GROUPS]}
    y = planted * numbers + np.sqrt(1 - planted**2) * rest + 0.5 * rng.normal(size=n)
    columns, predicted = [], []
    for layer in LAYERS:
        x = rng.normal(size=(n, DIM)) + 0.5 * rng.normal(size=(N_SPEAKERS, DIM))[GROUPS]
        x += 0.35 * np.outer(rest, rng.normal(size=DIM)) + encoded * np.outer(numbers, rng.normal(size=DIM))
        found: dict[str, np.ndarray] = {}
        for split in SPLITS:
            ridge = SplitRidge(x, split, alphas=(0.01, 0.1, 1.0, 10.0))
            erased = {"": None, **{name: ridge.leace(values[name]) for name in CONCEPTS}}
            erased |= {f"random {k}": ridge.random(1, np.random.default_rng(k)) for k in range(REPEATS)}
            for name, directions in erased.items():
                fit = ridge.fit(y[:, None], erased=directions)
                found.setdefault(name, np.empty(n))[split.test] = fit.prediction[:, 0]
        random = {random_name(c, k): found[f"random {k}"] for c in CONCEPTS for k in range(REPEATS)}  # of the same rank
        every = {name: found[name] for name in ("", *CONCEPTS)} | random
        columns += [{**KEYS, "layer": layer, "erased": name} for name in every]
        predicted += list(every.values())
    names, kept = np.array([f"{g:02d}" for g in GROUPS]), np.stack(predicted, axis=1).astype(np.float32)
    ids, folds = np.arange(n).astype(str), np.zeros(n).astype(str)
    return Predictions(ids, names, folds, np.array(["t"]), y[:, None], pd.DataFrame(columns), kept, kept)


def outcome(predictions: Predictions) -> np.ndarray:
    """Return three p-values of each concept, ``(n_concepts, 3)``.

    That of the table, adjusted for layers and concepts, the least of both layers; the unadjusted one of the first
    layer; and there that of the difference to the mean of random directions by resamples of the speakers alone.
    """
    scores = bootstrap_scores(predictions, metric="pearson", n_resamples=N_RESAMPLES)
    n_test = [N_SPEAKERS / N_FOLDS] * N_FOLDS
    inflation = training_inflation(n_test, [N_SPEAKERS - n for n in n_test])
    table = erasure_table(scores, None, layers={"e": LAYERS}, targets=["t"], p_chance={}, inflation=inflation)
    found = []
    for name in CONCEPTS:
        rows, one = (
            table[table["concept"] == name],
            erased_scores(scores, LAYERS, encoder="e", target="t", concept=name),
        )
        by_speakers = (one.random_mean - one.erased).estimated()[0].p_value
        found.append([rows["p_adjusted"].min(), rows["p_value"].iloc[0], by_speakers])
    return np.array(found)


rng = np.random.default_rng(0)
kinds = {
    "not encoded": (N_NULL, {"encoded": 0.0, "planted": 0.0}),
    "encoded, not rated": (N_NULL, {"encoded": 0.5, "planted": 0.0}),
    "encoded and rated": (N_PLANTED, {"encoded": 0.5, "planted": 0.8}),
}
found = {name: np.array([outcome(corpus(rng, **kind)) for _ in range(n)]) for name, (n, kind) in kinds.items()}
print("corpora in which a concept removes more or less than random directions, p at most .05")
for name, p in found.items():
    table, alone, speakers = (p[:, 0, :] <= 0.05).sum(axis=0)
    print(f"numbers {name}: {table} of {len(p)} in the table, {alone} in one layer, {speakers} by speakers alone")
p = np.concatenate([p[:, 1] for p in found.values()])
table, alone, speakers = (p <= 0.05).sum(axis=0)
print(f"classes, never encoded: {table} of {len(p)} in the table, {alone} in one layer, {speakers} by speakers alone")

figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
ax.plot([0, 1], [0, 1], color="0.75", lw=1)
levels = np.linspace(0, 1, 201)
for (name, p), colour in zip(found.items(), ("#1b6ca8", "#d1702f", "#3a8f4d"), strict=True):
    for k, line, text in ((1, "-", ""), (2, ":", ", by speakers alone")):
        fraction = [(p[:, 0, k] <= level).mean() for level in levels]
        ax.step(levels, fraction, where="post", color=colour, ls=line, label=f"{name}{text}")
ax.legend(frameon=False, fontsize=8, loc="lower right")
ax.set(xlabel="p-value of numbers in one layer", ylabel="fraction of corpora with at most that p")
ax.set(xlim=(0, 1), ylim=(0, 1))
