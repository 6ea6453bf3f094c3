"""Size and power of measures of depth: which one calls a target deeper that is only weaker.

A corpus has two targets, whose profiles of scores over layers are the same, the same one block deeper, or opposite. The
second target is weaker: attenuated by unreliable ratings (r' = c r), with a weaker signal (s' = c s of the ratio
s = r² / (1 - r²)), or both. Predictions are simulated with speakers, errors in common over layers and targets, and
profiles with a floor as those of real encoders; all measures are tested in the same bootstrap resamples of speakers,
with expanded percentiles. Size is the fraction of corpora of equal profiles with a significant difference in either
direction (nominal .05); power is the fraction where one block deeper is found deeper.

    PYTHONPATH=tests python tests/benchmarks/depth_measures.py                  # about five minutes on one core
    PYTHONPATH=tests python tests/benchmarks/depth_measures.py --quick          # half a minute
    PYTHONPATH=tests python tests/benchmarks/depth_measures.py --features 100   # ridge regressions of simulated layers
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.depth import expected_layer, score_centre
from layerprobe.analysis.layers.shift import detectable_shift, profile_shift, signal_to_noise
from layerprobe.analysis.statistics.bootstrap import (
    pearson,
    resample_speakers,
    speaker_sums,
    without_each_speaker,
)
from layerprobe.analysis.statistics.estimates import BootstrapSample, Estimate
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits

EACH = 15  # utterances of a speaker
FLOORS = {"floor .45": (0.45, 0.75), "floor .65": (0.65, 0.75), "floor .1": (0.1, 0.5)}
WEAKER = ("attenuation", "signal", "both", "equal")
BLOCKS, SPEAKERS = (4, 12, 24), (10, 30, 100)
Profiles = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # deeper, shallower, and both of random initialisation


def shape(name: str, depth: np.ndarray) -> np.ndarray:
    """Return a profile over relative depth, about 0 to 1."""
    bump = lambda centre, width: np.exp(-0.5 * ((depth - centre) / width) ** 2)  # noqa: E731
    return np.asarray({
        "middle": bump(0.5, 0.25), "early": bump(0.25, 0.3), "late": bump(0.75, 0.3),
        "rising": 1 / (1 + np.exp(-(depth - 0.4) / 0.12)), "plateau": np.clip(depth / 0.5, 0, 1),
        "two peaks": bump(0.25, 0.12) + 0.9 * bump(0.8, 0.12), "falling": 1 - 0.6 * depth,
    }[name])  # fmt: skip


SHAPES = ("middle", "early", "late", "rising", "plateau", "two peaks")


def weakened(r: np.ndarray, how: str) -> np.ndarray:
    """Return the profile of a target that is weaker."""
    c = {"attenuation": 1.0, "signal": 0.35, "both": 0.5, "equal": 1.0}[how]
    s = c * signal_to_noise(r)
    return np.asarray({"attenuation": 0.6, "signal": 1.0, "both": 0.75, "equal": 1.0}[how] * np.sqrt(s / (1 + s)))


def true_profiles(name: str, floor: str, how: str, n_blocks: int, blocks_deeper: float) -> np.ndarray:
    """Return the correlations of valence, arousal, and both with random initialisation, ``(4, n_layers)``."""
    depth, (low, high) = np.linspace(0, 1, n_blocks + 1), FLOORS[floor]
    first = shape(name, depth)
    deep = shape(name, depth - blocks_deeper / n_blocks)
    lowest, highest = first.min(), first.max()
    arousal, valence = (
        np.clip(low + (high - low) * (s - lowest) / (highest - lowest), 0.001, 0.98) for s in (first, deep)
    )
    untrained = np.full(n_blocks + 1, 0.8 * low)
    return np.stack([weakened(valence, how), arousal, weakened(untrained, how), untrained])


def simulated(r: np.ndarray, n_speakers: int, rng: np.random.Generator, n_resamples: int) -> BootstrapSample:
    """Return the scores ``(4, n_layers)`` of simulated predictions with these correlations."""
    n, n_layers = n_speakers * EACH, r.shape[1]
    groups = np.repeat(np.arange(n_speakers), EACH)

    def noise(*size: int) -> np.ndarray:  # a third of the variance is the speaker's
        of_speaker = rng.normal(size=(n_speakers, *size))[groups]
        return np.sqrt(0.3) * of_speaker + np.sqrt(0.7) * rng.normal(size=(n, *size))

    common = noise()[:, None]
    ratings = np.sqrt(0.3) * common + np.sqrt(0.7) * noise(2)  # valence and arousal correlate with .3
    ratings = ratings[:, [0, 1, 0, 1]]
    own = noise(n_layers, 4)
    for k in range(1, n_layers):  # errors of adjacent layers have much in common
        own[:, k] = 0.7 * own[:, k - 1] + np.sqrt(1 - 0.7**2) * own[:, k]
    errors = np.sqrt(0.85) * noise(1, 4) + np.sqrt(0.15) * own
    predicted = r.T * ratings[:, None] + np.sqrt(1 - r.T**2) * errors
    predicted, truth = (a.transpose(0, 2, 1).reshape(n, -1) for a in (
        predicted, np.broadcast_to(ratings[:, None], predicted.shape)
    ))  # fmt: skip
    return scored(truth, predicted, groups, r.shape, rng, n_resamples)


def scored(
    truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, shape: tuple[int, ...],
    rng: np.random.Generator, n_resamples: int,
) -> BootstrapSample:  # fmt: skip
    """Return correlations in resamples of the speakers, in this shape."""
    sums, n_speakers = speaker_sums(truth, predicted, groups), int(groups.max()) + 1
    counts = resample_speakers(n_speakers, n_resamples=n_resamples, rng=rng)
    parts = sums.resampled(np.ones((1, n_speakers))), sums.resampled(counts), without_each_speaker(sums)
    estimate, resamples, left_out = (pearson(part).reshape(-1, *shape) for part in parts)
    return BootstrapSample(estimate[0], resamples, left_out)


def standardised_slope(profile: np.ndarray) -> np.ndarray:
    """Return the correlation of a profile with depth: the layer × target interaction of standardised profiles."""
    depth, centred = np.linspace(-1, 1, profile.shape[-1]), profile - profile.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(centred @ depth / np.sqrt(np.square(centred).sum(axis=-1) * np.square(depth).sum()))


def centre(profile: np.ndarray) -> np.ndarray:
    """Return the centre of gravity above 0."""
    return score_centre(profile, np.linspace(0, 1, profile.shape[-1]))


Measure = Callable[[np.ndarray], np.ndarray]  # of (…, 4, n_layers), the difference of depths (…)


def of_each(depth: Measure) -> Measure:
    """Return the difference of a depth between valence and arousal."""
    return lambda s: depth(s[..., 0, :]) - depth(s[..., 1, :])


MEASURES: dict[str, Measure] = {
    "centre above 0": of_each(centre),
    "centre above lowest": of_each(lambda s: centre(s - s.min(axis=-1, keepdims=True))),
    "centre above random init": lambda s: centre(s[..., 0, :] - s[..., 2, :]) - centre(s[..., 1, :] - s[..., 3, :]),
    "expected layer": of_each(lambda s: expected_layer(s, np.linspace(0, 1, s.shape[-1]))),
    "highest layer": of_each(lambda s: s.argmax(axis=-1) / (s.shape[-1] - 1)),
    "standardised slope": of_each(standardised_slope),
    "shift": lambda s: profile_shift(s[..., 0, :], s[..., 1, :]),
}


def side(found: Estimate) -> int:
    """Return 1 or -1 where the interval lies above or below 0, and else 0."""
    return int(found.ci_low > 0) - int(found.ci_high < 0)


def tested(scores: BootstrapSample, n_blocks: int) -> dict[str, float]:
    """Return the significant side by each measure on each scale, and the detectable shift."""
    sides: dict[str, float] = {}
    ratio = scores.map(signal_to_noise)
    for name, measure in MEASURES.items():
        samples = scores.map(measure), ratio.map(measure)
        first, second = (side(sample.percentiles()) for sample in samples)
        sides |= {f"{name}, r": first, f"{name}, s": second, f"{name}, both": first if first == second else 0}
        if name == "centre above 0":
            sides["centre above 0, r, BCa"] = side(samples[0].one())
        if name == "shift":
            bca = [side(sample.one()) for sample in samples]
            sides["shift, both, BCa"] = bca[0] if bca[0] == bca[1] else 0
            sides["detectable"] = detectable_shift(samples, n_blocks=n_blocks) * n_blocks
    return sides


def study(n_null: int, n_deeper: int, n_resamples: int) -> pd.DataFrame:
    """Return one row for each corpus: its conditions, and the side of each measure."""
    rows = []
    for n_blocks, n_speakers, how in itertools.product(BLOCKS, SPEAKERS, WEAKER):
        for deeper, n in ((0, n_null), (1, n_deeper)):
            rng = np.random.default_rng([n_blocks, n_speakers, WEAKER.index(how), deeper])
            for _ in range(n):
                name, floor = rng.choice(SHAPES), rng.choice(list(FLOORS))
                r = true_profiles(name, floor, how, n_blocks, deeper)
                keys = {"n_blocks": n_blocks, "n_speakers": n_speakers, "weaker": how, "shape": name, "floor": floor}
                sides = tested(simulated(r, n_speakers, rng, n_resamples), n_blocks)
                rows.append({**keys, "deeper": deeper, **sides})
    return pd.DataFrame(rows)


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """Return for each measure the size, the highest size of a condition, and the power, in per cent."""
    names = [c for c in rows.columns if "," in c]
    null, deeper = rows[rows["deeper"] == 0], rows[rows["deeper"] == 1]
    found = []
    for name in names:
        of_condition = {
            f"{key} {value}": float((part[name] != 0).mean())
            for key in ("n_blocks", "n_speakers", "weaker", "shape", "floor")
            for value, part in null.groupby(key)
        }
        pairs = null.assign(wrong=null[name] != 0).groupby(["n_blocks", "n_speakers", "weaker"])["wrong"].mean()
        power = {f"power {b} blocks": (p[name] == 1).mean() for b, p in deeper.groupby("n_blocks")}
        power |= {f"power {s} speakers": (p[name] == 1).mean() for s, p in deeper.groupby("n_speakers")}
        size = float((null[name] != 0).mean())
        found.append({
            "measure": name, "size": size, "error": np.sqrt(size * (1 - size) / len(null)),
            "highest": max(of_condition.values()), "where": max(of_condition, key=lambda k: of_condition[k]),
            "highest of a cell": pairs.max(), "power": (deeper[name] == 1).mean(), **power,
            "wrong side": (deeper[name] == -1).mean(),
        })  # fmt: skip
    return pd.DataFrame(found)


def unlike(n: int, n_resamples: int) -> pd.DataFrame:
    """Return how often valence is found deeper, or shallower, if profiles are no shifts of each other.

    Arousal falls over layers and valence rises, or arousal rises and valence is flat, which has no depth.
    """
    rows = []
    for case, n_blocks in itertools.product(("opposite", "flat"), BLOCKS):
        rng, depth = np.random.default_rng([n_blocks, 8]), np.linspace(0, 1, n_blocks + 1)
        arousal = 0.45 + 0.3 * (1 - depth if case == "opposite" else shape("rising", depth))
        valence = np.full(n_blocks + 1, 0.4) if case == "flat" else 0.6 * arousal[::-1]
        untrained = np.full(n_blocks + 1, 0.3)
        r = np.stack([valence, arousal, 0.6 * untrained, untrained])
        found = pd.DataFrame([tested(simulated(r, 30, rng, n_resamples), n_blocks) for _ in range(n)])
        for name in ("centre above 0, both", "centre above lowest, both", "highest layer, both", "shift, both"):
            sides = {"deeper": (found[name] == 1).mean(), "shallower": (found[name] == -1).mean()}
            rows.append({"valence": case, "n_blocks": n_blocks, "measure": name, **sides})
    return pd.DataFrame(rows)


def detected(n: int, n_resamples: int) -> pd.DataFrame:
    """Return the power of the shift at the shift that `detectable_shift` gives, which is to be .8."""
    rows = []
    for n_blocks, n_speakers in itertools.product((12, 24), (30, 100)):
        rng = np.random.default_rng([n_blocks, n_speakers, 7])

        def corpora(blocks: float) -> pd.DataFrame:
            profiles = true_profiles("middle", "floor .45", "both", n_blocks, blocks)  # noqa: B023
            samples = [simulated(profiles, n_speakers, rng, n_resamples) for _ in range(n)]  # noqa: B023
            return pd.DataFrame([tested(sample, n_blocks) for sample in samples])  # noqa: B023

        blocks = float(corpora(0.0)["detectable"].median())
        power = float((corpora(blocks)["shift, both"] == 1).mean())
        rows.append({"n_blocks": n_blocks, "n_speakers": n_speakers, "detectable blocks": blocks, "power": power})
    return pd.DataFrame(rows)


def features_of(
    n_speakers: int, n_layers: int, weaker_signal: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return layers ``(n_layers, n, 24)``, ratings ``(n, 2)`` of valence and arousal, and speakers.

    Both targets are in the layers by the same profile, each in four features of its own. Valence is weaker: its signal,
    or its ratings.
    """
    groups = np.repeat(np.arange(n_speakers), EACH)
    n, dim = len(groups), 24
    signal = np.sqrt(0.3) * rng.normal(size=(n_speakers, 2))[groups] + np.sqrt(0.7) * rng.normal(size=(n, 2))
    gain = 0.35 + 0.35 * shape("middle", np.linspace(0, 1, n_layers))
    layers = np.empty((n_layers, n, dim))
    noise = rng.normal(size=(n, dim))
    for k in range(n_layers):
        noise = 0.8 * noise + 0.6 * rng.normal(size=(n, dim))
        layers[k] = noise
        layers[k, :, :4] += gain[k] * signal[:, :1] * (0.5 if weaker_signal else 1.0)
        layers[k, :, 4:8] += gain[k] * signal[:, 1:]
    of_raters = np.array([0.0 if weaker_signal else 1.3, 0.0])
    return layers, signal + of_raters * rng.normal(size=signal.shape), groups


def study_features(n: int, n_resamples: int) -> pd.DataFrame:
    """Return the sides of all measures for ridge regressions of simulated layers, whose targets have one profile."""
    rows = []
    for n_speakers, n_layers, weaker_signal in itertools.product((20, 60), (5, 13), (True, False)):
        rng = np.random.default_rng([n_speakers, n_layers, weaker_signal])
        for _ in range(n):
            layers, ratings, groups = features_of(n_speakers, n_layers, weaker_signal, rng)
            splits = fold_splits(groups, n_folds=5, n_inner_folds=4, rng=rng)
            predicted = np.empty((len(groups), 2, n_layers))
            for k, x in enumerate(layers):
                for fit, split in zip(
                    nested_ridge(x, ratings, splits=splits, alphas=(0.01, 0.1, 1.0)), splits, strict=True
                ):
                    predicted[split.test, :, k] = fit.prediction
            truth = np.repeat(ratings[:, :, None], n_layers, axis=2)
            columns = (a.reshape(len(groups), -1) for a in (truth, predicted))
            scores = scored(*columns, groups, (2, n_layers), rng, n_resamples)
            untrained = scores.map(lambda s: np.concatenate([s, np.zeros_like(s)], axis=-2))
            condition = {
                "n_speakers": n_speakers,
                "n_layers": n_layers,
                "weaker": "signal" if weaker_signal else "ratings",
            }
            rows.append({**condition, **tested(untrained, n_layers - 1)})
    return pd.DataFrame(rows)


def main() -> None:
    """Parse the arguments, simulate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the corpora")
    parser.add_argument("--corpora", type=int, default=40, help="of equal profiles in each of 36 conditions")
    parser.add_argument("--features", type=int, default=0, help="corpora of simulated layers in each of 8 conditions")
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--out", type=Path, help="JSON of the tables")
    arguments = parser.parse_args()
    pd.set_option("display.width", 250, "display.max_rows", 500, "display.max_columns", 60)
    n = max(2, arguments.corpora // 10) if arguments.quick else arguments.corpora
    began, tables = time.process_time(), {}
    if arguments.features:
        rows = study_features(arguments.features, arguments.resamples)
        names = [c for c in rows.columns if "," in c]
        condition = rows["weaker"] + rows["n_layers"].map(", {} layers".format) + rows["n_speakers"].map(", {}".format)
        wrong = (rows[names] != 0).groupby(condition).mean().T.assign(all=(rows[names] != 0).mean())
        tables["false positives of ridge regressions, by weakness, layers and speakers"] = wrong
    else:
        tables["size and power"] = summarised(study(n, n // 2, arguments.resamples)).set_index("measure")
        tables["profiles that are no shifts of each other"] = unlike(n, arguments.resamples)
        tables["power at the detectable shift"] = detected(2 * n, arguments.resamples)
    for title, table in tables.items():
        print(f"\n{title}\n{table.round(3).to_string()}")
    print(f"\n{time.process_time() - began:.0f} CPU seconds")
    if arguments.out:
        content = {title: json.loads(table.reset_index().to_json(orient="records")) for title, table in tables.items()}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
