"""The p-value of a corpus in which no layer predicts anything, by two ways to permute, and what Holm's adjustment does.

Corpora of 16 speakers with six utterances each; ratings and embeddings both depend on the speaker, and not on each
other. The p-value is that of the best of four layers.
"""

import matplotlib.pyplot as plt
import numpy as np

from layerprobe.analysis.statistics.permutation import holm, max_statistic_p
from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.tasks.controls import CONTROLS

N_SPEAKERS, EACH, N_LAYERS, DIM, N_PERMUTATIONS, N_CORPORA, N_TESTS = 16, 6, 4, 3, 39, 80, 12
WAYS = {"permuted": "utterances permuted", "permuted_by_speaker": "permuted by speaker"}
GROUPS = np.repeat(np.arange(N_SPEAKERS), EACH)


def p_values(rng: np.random.Generator) -> list[float]:
    """Return the best layer's p-value of one corpus by each way to permute."""
    ratings = (1.5 * rng.normal(size=N_SPEAKERS)[GROUPS] + rng.normal(size=len(GROUPS)))[:, None]
    voices = rng.normal(size=(N_SPEAKERS, N_LAYERS, DIM))[GROUPS]
    layers = voices + 0.7 * rng.normal(size=voices.shape)
    splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=rng)
    permuted = [CONTROLS[way](ratings, GROUPS, rng) for way in WAYS for _ in range(N_PERMUTATIONS)]
    y = np.column_stack([ratings, *permuted])
    scores = np.empty((y.shape[1], N_LAYERS))
    for layer in range(N_LAYERS):
        predicted = np.empty_like(y)
        fits = nested_ridge(layers[:, layer], y, splits=splits, alphas=(0.1, 1.0, 10.0))
        for split, fit in zip(splits, fits, strict=True):
            predicted[split.test] = fit.prediction
        scores[:, layer] = [pearson(y[:, k], predicted[:, k]) for k in range(y.shape[1])]
    nulls = np.split(scores[1:], len(WAYS))
    return [float(max_statistic_p(scores[0], null).min()) for null in nulls]


rng = np.random.default_rng(0)
p = np.array([p_values(rng) for _ in range(N_CORPORA)])
tests = np.ceil(rng.uniform(size=(2000, N_TESTS)) * 240) / 240  # p-values of 239 permutations without any effect
unadjusted = np.mean((tests <= 0.05).any(axis=1))
adjusted = np.mean([(holm(one) <= 0.05).any() for one in tests])

for k, name in enumerate(WAYS.values()):
    print(f"{name}: p at most .05 in {np.sum(p[:, k] <= 0.05)} of {N_CORPORA} corpora without any effect")
print(f"{N_TESTS} tests without any effect, at least one p at most .05: {unadjusted:.0%} of studies")
print(f"the same after Holm's adjustment: {adjusted:.0%} of studies")

figure, ax = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
ax.plot([0, 1], [0, 1], color="0.75", lw=1)
levels = np.arange(1, N_PERMUTATIONS + 2) / (N_PERMUTATIONS + 1)
for k, (name, colour) in enumerate(zip(WAYS.values(), ("#d1702f", "#1b6ca8"), strict=True)):
    ax.step(levels, [(p[:, k] <= level + 1e-9).mean() for level in levels], where="post", color=colour)
    ax.text(0.97, 0.16 - 0.08 * k, name, color=colour, ha="right", transform=ax.transAxes)
ax.text(0.66, 0.57, "uniform", color="0.5", va="top")
ax.set(xlabel="p-value of the best layer", ylabel="fraction of corpora with at most that p", xlim=(0, 1), ylim=(0, 1))
