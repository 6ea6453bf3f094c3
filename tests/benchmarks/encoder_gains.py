"""Size and power of the tests between two encoders with the same layers: gains of layers, and the shift of depth.

A null pair is two encoders whose layers carry the target equally well: their features are sampled from one model, each
encoder with noise of its own, and each layer is read by the project's ridge regression on held-out speakers. Size is
the fraction of null pairs in which any layer differs (adjusted p of at most .05), and in which the target has moved
(p of at most .05). For power the profile of the second encoder lies some blocks deeper, or all its layers carry more.

    PYTHONPATH=tests python tests/benchmarks/encoder_gains.py            # 200 null pairs, about three minutes
    PYTHONPATH=tests python tests/benchmarks/encoder_gains.py --pairs 40 --metric ccc
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import binom

from layerprobe.analysis.layers.encoder_gains import EncoderPair, encoder_gains, encoder_shifts
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.probe.metrics import DEFAULT_METRIC, LOWER_IS_BETTER, RATING_METRICS, MomentMatching
from layerprobe.probe.results.run_folder import CONDITIONS, Predictions
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits

EACH, DIM, N_FOLDS = 10, 12, 5  # utterances of a speaker, features of a layer
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
ENCODERS = ("frozen", "tuned")
LEVEL = 0.05
Profile = Callable[[np.ndarray], np.ndarray]  # of relative depth


def bump(depth: np.ndarray) -> np.ndarray:
    """Return how strongly layers carry a target, strongest at a relative depth of .35."""
    return np.asarray(0.25 + 0.75 * np.exp(-0.5 * ((depth - 0.35) / 0.22) ** 2))


def deeper(blocks: float, n_blocks: int) -> Profile:
    """Return `bump` so many blocks deeper."""
    return lambda depth: bump(depth - blocks / n_blocks)


def stronger(factor: float) -> Profile:
    """Return `bump` with all layers stronger."""
    return lambda depth: factor * bump(depth)


def simulated_pair(
    rng: np.random.Generator, profiles: tuple[Profile, Profile], *, n_blocks: int = 8, n_speakers: int = 24
) -> Predictions:
    """Return held-out predictions of ridge regressions on all layers of two encoders.

    A third of the variance of ratings and features is the speaker's. Layers of one encoder and both encoders have half
    of their noise in common, as encoders of the same audio have.
    """
    n, depth = n_speakers * EACH, np.linspace(0, 1, n_blocks + 1)
    groups = np.repeat(np.arange(n_speakers), EACH)

    def noise(*size: int) -> np.ndarray:
        return np.sqrt(0.3) * rng.normal(size=(n_speakers, *size))[groups] + np.sqrt(0.7) * rng.normal(size=(n, *size))

    ratings, direction = noise(1), rng.normal(size=DIM) / np.sqrt(DIM)
    shared = noise(DIM)
    splits = fold_splits(groups, n_folds=N_FOLDS, n_inner_folds=4, rng=rng)
    folds = np.empty(n, dtype=int)
    for k, split in enumerate(splits):
        folds[split.test] = k
    columns, values, matched = [], [], []
    for encoder, profile in zip(ENCODERS, profiles, strict=True):
        own, strength = noise(DIM), profile(depth)
        for layer in range(n_blocks + 1):
            rest = np.sqrt(0.5) * shared + np.sqrt(0.25) * own + np.sqrt(0.25) * noise(DIM)
            x = strength[layer] * ratings * direction + rest
            prediction, of_same_moments = np.empty(n), np.empty(n)
            for fit, split in zip(nested_ridge(x, ratings, splits=splits, alphas=ALPHAS), splits, strict=True):
                prediction[split.test] = fit.prediction[:, 0]
                train = ratings[split.train, 0]
                scale = train.std() / fit.inner_std[0]
                match = MomentMatching(scale, train.mean() - scale * fit.inner_mean[0])
                of_same_moments[split.test] = match(fit.prediction[:, 0])
            key = {"encoder": encoder, "probe": "ridge", "layer": str(layer), "target": "valence", "control": "none"}
            columns.append(key | {"seed": 0} | dict.fromkeys(CONDITIONS, ""))
            values.append(prediction)
            matched.append(of_same_moments)
    prediction = np.stack(values, axis=1).astype(np.float32)
    return Predictions(
        utterance_id=np.array([f"u{i}" for i in range(n)]),
        speaker_id=np.array([f"s{g:03d}" for g in groups]),
        fold=folds.astype(str),
        targets=np.array(["valence"]),
        ratings=ratings,
        columns=pd.DataFrame(columns),
        prediction=prediction,
        matched=np.stack(matched, axis=1).astype(np.float32),
        gender=np.full(n, ""),
        corpus=np.full(n, ""),
        unit=np.full(n, ""),
    )


def outcome(predictions: Predictions, *, n_resamples: int = 2000, metric: str = "pearson") -> tuple[bool, bool, float]:
    """Return whether any layer differs in a metric, whether the target moved, and the shift on relative depth."""
    correlations = bootstrap_scores(predictions, metric="pearson", n_resamples=n_resamples)
    same = metric == "pearson"
    bootstrap = correlations if same else bootstrap_scores(predictions, metric=metric, n_resamples=n_resamples)
    names = [
        c for c, e in zip(predictions.columns["layer"], predictions.columns["encoder"], strict=True) if e == "tuned"
    ]
    choices = {"layers": dict.fromkeys(ENCODERS, names), "targets": ["valence"]}
    inflation = training_inflation([1] * N_FOLDS, [N_FOLDS - 1] * N_FOLDS)
    pairs = [EncoderPair("tuned", "frozen")]
    lower = metric in LOWER_IS_BETTER
    gains = encoder_gains(bootstrap, pairs, **choices, inflation=inflation, lower_is_better=lower)
    (shift,) = encoder_shifts(correlations, pairs, **choices).to_dict("records")
    return bool(gains["p_adjusted"].min() <= LEVEL), bool(shift["p_value"] <= LEVEL), float(shift["estimate"])


def fractions(
    n_pairs: int, profiles: tuple[Profile, Profile], *, seed: int, n_resamples: int = 2000, n_blocks: int = 8,
    n_speakers: int = 24, metric: str = "pearson",
) -> tuple[int, int, float]:  # fmt: skip
    """Return in how many pairs a layer differs, in how many the target moved, and the median shift in blocks."""
    found = []
    for k in range(n_pairs):
        predictions = simulated_pair(
            np.random.default_rng([seed, k]), profiles, n_blocks=n_blocks, n_speakers=n_speakers
        )
        found.append(outcome(predictions, n_resamples=n_resamples, metric=metric))
    layers, moved, shifts = zip(*found, strict=True)
    return sum(layers), sum(moved), float(np.nanmedian(shifts)) * n_blocks


def main() -> None:
    """Print size and power, and the largest number of false positives that a size of .05 has with probability .95."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--metric", choices=[DEFAULT_METRIC, *RATING_METRICS], default=DEFAULT_METRIC, help="of gains")
    requested = parser.parse_args()
    n = requested.pairs
    print(f"of {n} pairs of encoders; a size of .05 has at most {int(binom.ppf(0.95, n, LEVEL))} with probability .95")
    print("pair                                    blocks speakers  layer differs  moved  median shift (blocks)")
    for n_blocks, n_speakers in ((8, 24), (12, 40)):
        cases = {
            "null: the same profile": (bump, bump),
            "null of the shift: all layers stronger": (bump, stronger(1.5)),
            "two blocks deeper": (bump, deeper(2, n_blocks)),
            "four blocks deeper": (bump, deeper(4, n_blocks)),
        }
        for name, profiles in cases.items():
            layers, moved, shift = fractions(
                n, profiles, seed=0, n_blocks=n_blocks, n_speakers=n_speakers, metric=requested.metric
            )
            print(
                f"{name:<40}{n_blocks:>5}{n_speakers:>9}{layers / n:>14.3f}{moved / n:>9.3f}{shift:>10.2f}", flush=True
            )


if __name__ == "__main__":
    main()
