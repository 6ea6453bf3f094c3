"""Chance: p-values from ratings that were dealt anew, and what several of them mean together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.probe.metrics import LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import POOLED

BY_SPEAKER, ANY = "permuted_by_speaker", "permuted"  # controls that say what chance gives, the better one first


def max_statistic_p(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Each layer's p-value against the best layer of each permutation, ``(n_layers,)``.

    So the smallest of them is the p-value of "no layer knows anything", whatever the number of layers and however alike
    they are (Westfall and Young, 1993; Nichols and Holmes, 2002). Never below 1 / (n_permutations + 1), because the
    ratings as they are count as one permutation (Phipson and Smyth, 2010).

    Args:
        observed: scores ``(n_layers,)``, the higher the better
        null: scores on permuted ratings, ``(n_permutations, n_layers)``, a row for each permutation

    >>> max_statistic_p(np.array([0.1, 0.5]), np.array([[0.2, 0.1], [0.0, 0.3], [0.1, 0.1]]))
    array([1.  , 0.25])
    """
    highest = null.max(axis=1)
    return np.asarray((1 + np.sum(highest[:, None] >= observed, axis=0)) / (1 + len(highest)))


def permutation_table(scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """Chance of every encoder and target, from the permutations that a sweep kept.

    Args:
        scores: tidy rows of a run
        metric: whose scores are compared

    Returns:
        ``encoder, target, layer, value, p_permutation, chance, n_permutations, control``: each layer's score with its p-value
        (`max_statistic_p`), and ``chance``, the score that the best layer reaches in 95 % of permutations at most;
        permutations keep speakers together where the sweep made such
    """
    rows = scores[(scores["metric"] == metric) & (scores["fold"] == POOLED) & (scores["probe"] == "ridge")]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    found = []
    for (encoder, target), part in rows.groupby(["encoder", "target"], sort=False):
        real = part[part["control"] == "none"].set_index("layer")["value"].dropna()
        control = next((c for c in (BY_SPEAKER, ANY) if (part["control"] == c).any()), None)
        if control is None or real.empty:
            continue
        drawn = part[part["control"] == control].pivot(index="seed", columns="layer", values="value")
        null = sign * drawn.reindex(columns=real.index).dropna().to_numpy()
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
    """P-values ``(n,)`` corrected so that any false finding among all is as rare as promised (Holm, 1979).

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
