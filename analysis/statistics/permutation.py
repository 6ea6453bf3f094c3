"""Permutation tests against chance, and Holm's adjustment of p-values."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.probe.metrics import LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.tasks.controls import CHANCE

BY_SPEAKER = CHANCE[0]
ALPHA = 0.05  # level of significance


def max_statistic_p(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return each layer's p-value against the maximum over layers of each permutation, ``(n_layers,)``.

    The smallest of them is the p-value of "no layer predicts above chance", corrected for the number of layers and
    their correlation (Westfall and Young, 1993; Nichols and Holmes, 2002). None is below 1 / (n_permutations + 1),
    because the original ratings count as one permutation (Phipson and Smyth, 2010).

    Args:
        observed: scores ``(n_layers,)``, higher is better
        null: scores on permuted ratings, ``(n_permutations, n_layers)``

    >>> max_statistic_p(np.array([0.1, 0.5]), np.array([[0.2, 0.1], [0.0, 0.3], [0.1, 0.1]]))
    array([1.  , 0.25])
    """
    highest = null.max(axis=1)
    return np.asarray((1 + np.sum(highest[:, None] >= observed, axis=0)) / (1 + len(highest)))


def least_adjusted_p(n_permutations: int, n_tests: int) -> float:
    """Return the least p-value that so many permutations can give after Holm's adjustment for so many tests.

    >>> least_adjusted_p(99, 3), least_adjusted_p(1, 3)
    (0.03, 1.0)
    """
    return min(1.0, n_tests / (n_permutations + 1))


def is_significant(p: float) -> bool:
    """Return whether a p-value is at most .05, up to rounding; one that is not known is not.

    >>> is_significant(12 * (1 / 240)), is_significant(0.051), is_significant(float("nan"))
    (True, False, False)
    """
    return bool(p <= ALPHA or np.isclose(p, ALPHA))


def exceeds_chance(p: float, p_adjusted: float, *, n_permutations: int | None) -> bool | None:
    """Return whether a score is above chance at the 5 % level, by its adjusted p-value.

    None where the score is higher than in all permutations, but these are too few to reach that level after adjustment.

    >>> exceeds_chance(0.01, 0.03, n_permutations=99), exceeds_chance(0.05, 0.15, n_permutations=19)
    (True, None)
    """
    if is_significant(p_adjusted):
        return True
    is_least = n_permutations is not None and bool(np.isclose(p, 1 / (n_permutations + 1)))
    return None if is_least else False


def permutation_table(scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """Return a permutation test of every layer, for each encoder and target.

    Args:
        scores: tidy rows of a run
        metric: a key of `METRIC_NAMES`

    Returns:
        ``encoder, target, layer, value, p_permutation, chance, n_permutations, control``: each layer's score with its
        p-value (`max_statistic_p`), and ``chance``, the 95th percentile of the maximum over layers (of an error, the
        5th percentile of the minimum); ratings are permuted by speaker where the sweep did so
    """
    rows = scores[(scores["metric"] == metric) & (scores["fold"] == POOLED) & (scores["probe"] == "ridge")]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    found = []
    for (encoder, target), part in rows.groupby(["encoder", "target"], sort=False):
        real = part[part["control"] == "none"].set_index("layer")["value"].dropna()
        control = next((c for c in CHANCE if (part["control"] == c).any()), None)
        if control is None or real.empty:
            continue
        permuted = part[part["control"] == control].pivot(index="seed", columns="layer", values="value")
        null = sign * permuted.reindex(columns=real.index).dropna().to_numpy()
        if not len(null):
            continue
        p = max_statistic_p(sign * real.to_numpy(), null)
        chance = sign * float(np.quantile(null.max(axis=1), 0.95))
        same = {"encoder": encoder, "target": target, "chance": chance, "n_permutations": len(null), "control": control}
        found += [
            {**same, "layer": k, "value": v, "p_permutation": q} for k, v, q in zip(real.index, real, p, strict=True)
        ]
    columns = ["encoder", "target", "layer", "value", "p_permutation", "chance", "n_permutations", "control"]
    return pd.DataFrame(found, columns=columns)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values ``(n,)`` adjusted for the family-wise error rate (Holm, 1979).

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
