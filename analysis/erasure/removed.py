"""What erasing a concept removes from the score of each layer, compared with erasing random directions of equal rank.

A layer may predict a target only through another property of speech: arousal through loudness. The concept is erased
from the layer linearly (Belrose et al., 2023), and the target is probed again. Erasing any directions may lower a
score, so random directions of the same rank are erased, too, several times. All scores are of the same held-out
speakers and the same resamples of them, so that their differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample, Estimate
from layerprobe.analysis.statistics.permutation import is_significant
from layerprobe.analysis.statistics.simultaneous import max_statistic
from layerprobe.probe.results.erased import parse_erased

KEYS = ["encoder", "target", "concept", "layer"]
SCORES = ("plain", "erased", "random")  # with intervals
DIFFERENCES = ("removed", "removed_random", "beyond_random")
FRACTIONS = ("fraction", "fraction_random")
COLUMNS = [
    *KEYS,
    *(f"{name}{end}" for name in (*SCORES, *DIFFERENCES) for end in ("", "_ci_low", "_ci_high")),
    *("random_min", "random_max", "n_random", "p_value", "p_layers", "p_adjusted"),
    *("plain_r2", "is_above_chance"),
    *(f"{name}{end}" for name in FRACTIONS for end in ("", "_ci_low", "_ci_high")),
]
FEWEST_ERRORS = 3.0  # standard errors by which R² is above 0 at least: below 2 a ratio has no interval (Fieller, 1954)
SEED = 1  # of the deviates that stand for random directions, other than those that resample speakers


@dataclass(frozen=True)
class Erased:
    """Scores ``(n_layers,)`` of an encoder and target: plain, with a concept erased, and with random directions."""

    plain: BootstrapSample
    erased: BootstrapSample
    random: tuple[BootstrapSample, ...]  # one for each repeat

    @property
    def random_mean(self) -> BootstrapSample:
        """The mean over the repeats of erasing random directions."""
        names = ("estimate", "resamples", "left_out")
        estimate, resamples, left_out = (
            np.mean([getattr(sample, name) for sample in self.random], axis=0) for name in names
        )
        return BootstrapSample(estimate, resamples, left_out, self.random[0].n_speakers)


def concepts_of(keys: pd.DataFrame) -> list[str]:
    """Return the names of the concepts that were erased, without random directions, in the order of their rows."""
    names = dict.fromkeys(map(str, keys["erased"]))
    return [name for name in names if name and parse_erased(name)[1] is None]


def random_names(keys: pd.DataFrame, concept: str) -> list[str]:
    """Return the names of the repeated erasures of random directions of a concept's rank, in their order."""
    found = {name: parse_erased(name) for name in dict.fromkeys(map(str, keys["erased"]))}
    repeats = {name: number for name, (of, number) in found.items() if of == concept and number is not None}
    return sorted(repeats, key=lambda name: repeats[name])


def erased_scores(
    bootstrap: BootstrapScores, layers: Sequence[str], *, encoder: str, target: str, concept: str
) -> Erased | None:
    """Return the scores of an encoder's layers with and without a concept; None where any is missing.

    Args:
        bootstrap: scores whose keys have a column ``erased``: "", a concept, or ``random K of CONCEPT``
        layers: of the encoder, in order
        encoder: its name
        target: its name
        concept: name of one concept, or of several that were erased together
    """
    labels, keys = {"encoder": encoder, "target": target, "probe": "ridge", "control": "none"}, bootstrap.keys
    own = replace(bootstrap, keys=keys[((keys["encoder"] == encoder) & (keys["target"] == target)).to_numpy()])
    plain, erased = (own.of(layers, **labels, erased=name) for name in ("", concept))
    repeats = [own.of(layers, **labels, erased=name) for name in random_names(own.keys, concept)]
    random = tuple(sample for sample in repeats if sample is not None)
    return None if plain is None or erased is None or not random else Erased(plain, erased, random)


def beyond_random(scores: Erased, *, lower_is_better: bool = False) -> BootstrapSample:
    """Return how much more the concept removes than random directions do, ``(n_layers,)``, with the variance of both.

    The concept is one erasure, and random directions differ from one another. Resamples of speakers alone would let a
    concept that has nothing to do with the target differ significantly from the mean of some random directions, as any
    other direction does. The resamples have deviates of the variance over repeats s² (1 + 1 / m) added, where m is the
    number of repeats, and the number of speakers is that of the degrees of freedom of the sum of both variances
    (Satterthwaite, 1946). One repeat has no variance, so that nothing is tested.
    """
    pair = scores.random_mean, scores.erased
    difference = pair[1] - pair[0] if lower_is_better else pair[0] - pair[1]
    m, n_layers = len(scores.random), len(difference.estimate)
    if m < 2:
        return replace(difference, n_speakers=np.zeros(n_layers))
    of_repeats = np.var([sample.estimate for sample in scores.random], axis=0, ddof=1) * (1 + 1 / m)
    of_speakers = np.nanvar(difference.resamples, axis=0)
    n = difference.counted.astype(float)
    total = of_speakers + of_repeats
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (of_speakers**2 / (n - 1) + of_repeats**2 / (m - 1))
    deviates = np.random.default_rng(SEED).normal(size=difference.resamples.shape) * np.sqrt(of_repeats)
    is_same = difference.estimate == 0  # up to rounding, in all resamples
    return BootstrapSample(
        difference.estimate,
        difference.resamples + np.where(is_same, 0.0, deviates),
        difference.left_out,
        np.where(np.isfinite(freedom) & ~is_same, 1 + freedom, n),
    )


def erasure_table(
    bootstrap: BootstrapScores,
    r2: BootstrapScores | None,
    *,
    layers: Mapping[str, Sequence[str]],
    targets: Sequence[str],
    p_chance: Mapping[tuple[str, str, str], float],
    inflation: float,
    lower_is_better: bool = False,
) -> pd.DataFrame:
    """Return what erasing each concept removes from the score of each layer.

    Args:
        bootstrap: scores with a key ``erased``; see `erased_scores`
        r2: R² of the same predictions, for the fraction that is removed; None of classes
        layers: for each encoder its layers in order
        targets: in order
        p_chance: p-value of the plain score of an encoder, target and layer against chance; a layer without one is
            judged by the interval of R² alone
        inflation: factor of standard errors for the training speakers (`training_inflation`)
        lower_is_better: whether the metric is an error

    Returns:
        `COLUMNS`, a row for each encoder, target, concept and layer, each number with its 95 % interval:

        * ``plain, erased, random``: scores of the layer, without the concept, and without random directions of its
          rank (mean over ``n_random`` repeats, whose range is ``random_min, random_max``)
        * ``removed, removed_random``: by how much the score is worse than the plain one, above 0 also for errors
        * ``beyond_random``: their difference. Its interval and its p-values include the variance over random directions
          (`beyond_random`), and p-values also that over training speakers. ``p_value`` is of 0 for the row alone,
          ``p_layers`` is adjusted for the layers of the concept by `max_statistic`, and ``p_adjusted`` by Bonferroni's
          method for the concepts of the encoder and target as well
        * ``plain_r2``, and ``fraction, fraction_random`` of it that are removed: NaN where the plain score is not
          above chance (``is_above_chance``), or R² less than `FEWEST_ERRORS` standard errors above 0, since a ratio to
          noise has no meaning. A fraction is above 1 where the score without the concept is worse than that of the
          mean rating
    """
    rows: list[dict[str, Any]] = []
    for encoder, names in layers.items():
        for target in targets:
            for concept in concepts_of(bootstrap.keys):
                same = {"encoder": encoder, "target": target, "concept": concept}
                scores = erased_scores(bootstrap, names, **same)
                if scores is None:
                    continue
                sample = beyond_random(scores, lower_is_better=lower_is_better)
                estimates = sample.estimated()
                found = _differences(scores, lower_is_better=lower_is_better) | _columns("beyond_random", estimates)
                found |= {**_p_values(sample, estimates, inflation=inflation), "layer": list(names)}
                of_r2 = None if r2 is None else erased_scores(r2, names, **same)
                p = [p_chance.get((encoder, target, name), np.nan) for name in names]
                found |= _fractions(of_r2, p)
                rows += [{**same, **{key: values[k] for key, values in found.items()}} for k in range(len(names))]
    table = pd.DataFrame(rows, columns=COLUMNS)
    n_concepts = table.groupby(["encoder", "target"])["concept"].transform("nunique")
    table["p_adjusted"] = np.minimum(1.0, n_concepts * table["p_layers"].astype(float))
    return table


def _p_values(sample: BootstrapSample, estimates: list[Estimate], *, inflation: float) -> dict[str, np.ndarray]:
    """Return the p-values of the layers of one concept, ``(n_layers,)`` each: alone, and adjusted for the layers.

    BCa knows how resamples are skewed and standard errors can be inflated for the training speakers: the p-value is
    the larger of both. Without the inflation 12 % of concepts that a layer lacks differed from random directions in a
    simulation, since the directions of several folds are alike where most of their training speakers are the same.
    """
    bca = np.array([estimate.p_value for estimate in estimates])
    alone = np.array(
        [max_statistic(sample[np.array([k])], inflation=inflation)[0] for k in range(len(sample.estimate))]
    )
    alone = np.maximum(bca, alone)
    return {"p_value": alone, "p_layers": np.maximum(max_statistic(sample, inflation=inflation), alone)}


def _differences(scores: Erased, *, lower_is_better: bool) -> dict[str, Any]:
    """Return scores and what is removed from them, a list for each column."""
    random = scores.random_mean
    found: dict[str, Any] = {}
    for name, sample in zip(SCORES, (scores.plain, scores.erased, random), strict=True):
        found |= _ends(name, sample)
    for name, other in (("removed", scores.erased), ("removed_random", random)):
        found |= _ends(name, other - scores.plain if lower_is_better else scores.plain - other)
    repeats = np.array([sample.estimate for sample in scores.random])
    found |= {"random_min": repeats.min(axis=0), "random_max": repeats.max(axis=0)}
    return found | {"n_random": np.full(len(random.estimate), len(scores.random))}


def _fractions(scores: Erased | None, p_chance: Sequence[float]) -> dict[str, Any]:
    """Return the fractions of R² that are removed, NaN where the plain score is not above chance, or too uncertain."""
    nothing = np.full(len(p_chance), np.nan)
    if scores is None:  # of classes
        ends = {f"{name}{end}": nothing for name in FRACTIONS for end in ("", "_ci_low", "_ci_high")}
        return {"plain_r2": nothing, "is_above_chance": _is_above(p_chance, None), **ends}
    is_above = _is_above(p_chance, [e.ci_low for e in scores.plain.estimated()])
    is_sure = is_above & (scores.plain.estimate > FEWEST_ERRORS * np.nanstd(scores.plain.resamples, axis=0))
    found: dict[str, Any] = {"plain_r2": scores.plain.estimate, "is_above_chance": is_above}
    for name, other in zip(FRACTIONS, (scores.erased, scores.random_mean), strict=True):
        ends = _ends(name, _ratio(scores.plain - other, scores.plain))
        found |= {key: np.where(is_sure, values, np.nan) for key, values in ends.items()}
    return found


def _ratio(part: BootstrapSample, whole: BootstrapSample) -> BootstrapSample:
    """Return the ratio of two samples, resample by resample."""
    names = ("estimate", "resamples", "left_out")
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate, resamples, left_out = (getattr(part, name) / getattr(whole, name) for name in names)
    return BootstrapSample(estimate, resamples, left_out, part.n_speakers)


def _is_above(p_chance: Sequence[float], r2_ci_low: Sequence[float] | None) -> np.ndarray:
    """Return which layers predict above chance: by the permutation test where there is one, and by the interval of R².

    An R² whose interval holds 0 is no denominator, whatever the permutations are.
    """
    p = np.array(p_chance, dtype=float)
    by_test = np.array([np.isnan(value) or is_significant(value) for value in p], dtype=bool)
    return by_test if r2_ci_low is None else by_test & (np.array(r2_ci_low) > 0)


def _ends(name: str, sample: BootstrapSample) -> dict[str, Any]:
    """Return estimates and the ends of their intervals, ``(n_layers,)`` each, as columns."""
    return _columns(name, sample.estimated())


def _columns(name: str, estimates: list[Estimate]) -> dict[str, Any]:
    return {
        name: [e.estimate for e in estimates],
        f"{name}_ci_low": [e.ci_low for e in estimates],
        f"{name}_ci_high": [e.ci_high for e in estimates],
    }
