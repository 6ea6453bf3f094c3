"""CCC of ridge predictions as they are, and after their moments were matched on training speakers.

Corpora of 60 speakers with 20 utterances each; the rating is a linear function of eight features and noise, so that
the highest correlation that any prediction can have is known.
"""

import matplotlib.pyplot as plt
import numpy as np

from layerprobe.probe.metrics import MomentMatching, ccc, pearson
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits

N_SPEAKERS, EACH, DIM, N_CORPORA = 60, 20, 8, 10
REACHABLE = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # highest correlation that a prediction can have


def scores(reachable: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return Pearson's r, CCC and moment-matched CCC of held-out ridge predictions of one corpus."""
    groups = np.repeat(np.arange(N_SPEAKERS), EACH)
    layer = rng.normal(size=(len(groups), DIM))
    signal = layer @ rng.normal(size=DIM)
    rating = 4 + reachable * signal / signal.std() + np.sqrt(1 - reachable**2) * rng.normal(size=len(groups))
    splits = fold_splits(groups, n_folds=5, n_inner_folds=4, rng=rng)
    raw, matched = np.empty(len(rating)), np.empty(len(rating))
    fits = nested_ridge(layer, rating[:, None], splits=splits, alphas=(0.001, 0.01, 0.1, 1.0, 10.0))
    for split, fit in zip(splits, fits, strict=True):
        train = rating[split.train]
        scale = train.std() / fit.inner_std[0]
        match = MomentMatching(scale, train.mean() - scale * fit.inner_mean[0])
        raw[split.test] = fit.prediction[:, 0]
        matched[split.test] = match(fit.prediction[:, 0])
    return pearson(rating, raw), ccc(rating, raw), ccc(rating, matched)


rng = np.random.default_rng(0)
found = np.array([np.mean([scores(r, rng) for _ in range(N_CORPORA)], axis=0) for r in REACHABLE])

print("reachable r   Pearson r   CCC   moment-matched CCC")
for reachable, (r, raw, matched) in zip(REACHABLE, found, strict=True):
    print(f"{reachable:11.2f} {r:11.2f} {raw:5.2f} {matched:20.2f}")

r = np.linspace(0, 1, 100)
figure, ax = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
ax.plot(r, r, color="0.75", lw=1)
ax.plot(r, 2 * r**2 / (1 + r**2), color="0.75", lw=1, ls="--")
ax.plot(REACHABLE, found[:, 2], "o", color="#1b6ca8")
ax.plot(REACHABLE, found[:, 1], "s", color="#d1702f")
ax.text(0.52, 0.60, "moment-matched CCC", color="#1b6ca8", ha="right")
ax.text(0.58, 0.40, "CCC of the same\npredictions", color="#d1702f", va="top")
ax.text(0.97, 0.90, "r", color="0.4", va="top")
ax.text(0.20, 0.015, "$2r^2/(1+r^2)$", color="0.4", ha="left")
ax.set(xlabel="highest correlation that a prediction can have", ylabel="mean score on held-out speakers")
ax.set(xlim=(0, 1), ylim=(0, 1))
