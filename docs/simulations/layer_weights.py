"""Layer weights, the layers' own scores, and the truth: the signal is planted in known layers.

Corpora of 20 speakers with 30 utterances each, 13 layers that resemble the adjacent ones (correlation .95 of adjacent
ones, as in a residual stream), and a rating whose signal is in layer 4, or in equal parts in layers 5 to 8.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

import layerprobe as lp
from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits

N_SPEAKERS, EACH, N_LAYERS, DIM, ADJACENT, REACHABLE, N_CORPORA = 20, 30, 13, 8, 0.95, 0.6, 5
PLACES = {"layer 4": [4], "layers 5 to 8": [5, 6, 7, 8]}
PENALTIES = {"without the penalty": {"weight_penalties": (0.0,)}, "with the penalty": {}}
GROUPS = np.repeat(np.arange(N_SPEAKERS), EACH)


def corpus(carrying: list[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return layers ``(n_utterances, n_layers, dim)`` and ratings."""
    layers = np.empty((len(GROUPS), N_LAYERS, DIM))
    layers[:, 0] = rng.normal(size=(len(GROUPS), DIM))
    for k in range(1, N_LAYERS):
        new = rng.normal(size=(len(GROUPS), DIM))
        layers[:, k] = ADJACENT * layers[:, k - 1] + np.sqrt(1 - ADJACENT**2) * new
    direction = rng.normal(size=DIM)
    signal = np.sum([layers[:, k] @ direction for k in carrying], axis=0)
    rating = REACHABLE * signal / signal.std() + np.sqrt(1 - REACHABLE**2) * rng.normal(size=len(GROUPS))
    return layers, rating


def weights(layers: np.ndarray, rating: np.ndarray, options: dict[str, tuple[float, ...]]) -> np.ndarray:
    """Return the layer weights of the weighted sum."""
    mix = lp.LayerWeightedSum(n_layers=N_LAYERS, n_folds=4, **options)
    return np.asarray(mix.fit(layers.reshape(len(layers), -1), rating, groups=GROUPS).layer_weights_)


def own_scores(layers: np.ndarray, rating: np.ndarray) -> np.ndarray:
    """Return the held-out correlation of each layer alone."""
    splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=np.random.default_rng(0))
    predicted = np.empty((N_LAYERS, len(rating)))
    for k in range(N_LAYERS):
        fits = nested_ridge(layers[:, k], rating[:, None], splits=splits, alphas=(0.01, 0.1, 1.0))
        for split, fit in zip(splits, fits, strict=True):
            predicted[k, split.test] = fit.prediction[:, 0]
    return np.array([pearson(rating, p) for p in predicted])


warnings.simplefilter("ignore")  # that one layer has most of the weight
rng = np.random.default_rng(0)
figure, axes = plt.subplots(2, 2, figsize=(7.4, 5), layout="constrained", sharex=True, sharey="row")
for (upper, lower), (place, carrying) in zip(axes.T, PLACES.items(), strict=True):
    truth = np.zeros(N_LAYERS)
    truth[carrying] = 1 / len(carrying)
    corpora = [corpus(carrying, rng) for _ in range(N_CORPORA)]
    scores = np.mean([own_scores(*one) for one in corpora], axis=0)
    others = np.delete(scores, carrying)
    print(
        f"signal in {place}: mean score of its layers {scores[carrying].mean():.2f}, "
        f"of the next best {others.max():.2f}"
    )
    upper.plot(scores, "o-", color="0.35", ms=4)
    upper.set(title=f"signal in {place}", ylim=(0, 0.7))
    lower.bar(range(N_LAYERS), truth, color="#e3e3e3", width=0.9, label="the truth")
    for (name, options), colour in zip(PENALTIES.items(), ("#d1702f", "#1b6ca8"), strict=True):
        w = np.array([weights(*one, options) for one in corpora])
        lower.plot(w.T, color=colour, lw=0.5, alpha=0.4)
        lower.plot(w.mean(axis=0), "o-", color=colour, ms=4, label=name)
        distance, largest = np.abs(w - truth).sum(axis=1).mean() / 2, w.max(axis=1).mean()
        print(f"  weights {name}: {distance:.2f} from the truth, largest weight {largest:.2f} on average")
    lower.set(xlabel="layer", xticks=range(0, N_LAYERS, 2))
axes[0, 0].set_ylabel("score of the layer alone (r)")
axes[1, 0].set_ylabel("weight")
axes[1, 1].legend(frameon=False)
