"""Checks of encoders, probes and mixes: weights, penalties, numbers of rows, scale of layers, dependence on folds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm

from layerprobe.analysis.checks.records import Outcome, issue, not_applicable, passed, tip
from layerprobe.analysis.formatting import layer_kind, number_text, p_text, shown_name
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.layers.weights import single_layers
from layerprobe.analysis.statistics.bootstrap import LEVEL
from layerprobe.analysis.study import Study
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import resolve
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.results.pending import pending_controls
from layerprobe.probe.results.run_folder import POOLED

UNEQUAL = 10.0  # ratio of the largest to the smallest scale of an encoder's layers
SAMPLE = 128  # utterances whose embeddings give a layer's scale
FOLD_LEVEL = 0.01  # of the test of folds, one for each encoder and target
FEWEST_IN_FOLD = 3  # speakers of a fold, below which its score is that of single voices


def check_pending(study: Study) -> Iterator[Outcome]:
    """Check whether a sweep is unfinished."""
    pending = list(dict.fromkeys(name for run in study.runs for name in run.pending))
    if not pending:
        yield passed("The sweep is complete.")
        return
    without = " Without its controls no score can be compared with chance or with random weights."
    lacks_controls = any(pending_controls(run.plan) for run in study.runs)
    yield issue(
        f"The sweep is unfinished; pending: {', '.join(map(shown_name, pending))}.{without if lacks_controls else ''} "
        "Write the report again once layerprobe sweep has ended; after an interruption the same command resumes the "
        "sweep."
    )


def check_untrained(study: Study) -> Iterator[Outcome]:
    """Check whether the weights of a probed encoder are random."""
    names = [e["name"] for e in _encoders(study) if e.get("random_init") is not None]
    if names:
        yield issue(
            f"The weights of {', '.join(names)} are untrained: they were initialised at random. What their layers "
            "predict comes from the input and the architecture alone."
        )
    else:
        yield passed("No probed encoder has randomly initialised weights.")


def check_penalties(study: Study) -> Iterator[Outcome]:
    """Check whether penalties lie at an edge of their grid."""
    alphas = study.scores[(study.scores["metric"] == "alpha") & (study.scores["control"] == "none")]["value"]
    grid = study.runs[0].plan["sweep"]["alphas"]
    if alphas.empty:
        yield not_applicable("The run has no ridge regression.")
        return
    n_low, n_high = (int((alphas == edge).sum()) for edge in (grid[0], grid[-1]))
    if n_high:
        yield tip(
            f"Alpha lies at the upper edge of its grid in {n_high} of {len(alphas)} fits, where ridge regression "
            "predicts little but the mean."
        )
    if n_low:
        yield issue(
            f"Alpha lies at the lower edge of its grid in {n_low} of {len(alphas)} fits, which may be shrunk too much "
            "and score too low."
        )
    if not n_low and not n_high:
        yield passed(f"Alpha lies inside its grid, {grid[0]:g} to {grid[-1]:g}, in all {len(alphas)} fits.")


def check_rows(study: Study) -> Iterator[Outcome]:
    """Check whether probes have fewer training utterances than features."""
    plan = study.runs[0].plan
    if not plan.get("folds"):
        yield not_applicable("The run does not state the sizes of its folds.")
        return
    n_rows = min(fold["n_train_utterances"] for fold in plan["folds"])
    fractions = [c["n_utterances"] / plan["corpus"]["n_utterances"] for c in plan.get("target_counts", [])]
    n_rows = int(n_rows * min(fractions, default=1.0))  # of the target that the fewest utterances rate
    few = [e for e in _encoders(study) if e.get("n_features", 0) > n_rows]
    for encoder in few:
        yield issue(
            f"Layers of {encoder['name']} have {encoder['n_features']} features ({' and '.join(encoder['poolings'])}), "
            f"and the smallest training set has {n_rows} utterances: with fewer rows than features, scores depend on "
            "the penalty and may differ by .05 between poolings."
        )
    if not few:
        yield passed(f"The smallest training set has {n_rows} utterances, at least as many as a layer has features.")


def check_mixes(study: Study) -> Iterator[Outcome]:
    """Check whether a mix is little else than one of its layers."""
    if study.weights.empty:
        yield not_applicable("The run has no mix of layers.")
        return
    single = single_layers(study.weights)
    single = single[(single["control"] == "none") & single["target"].isin(study.targets)]
    for (encoder, probe, target), rows in single.groupby(["encoder", "probe", "target"], sort=False):
        yield tip(
            f"Layer {rows['layer'].iloc[0]} of {encoder} has {number_text(rows['weight'].iloc[0])} of the weight of "
            f"the {shown_name(probe)} for {shown_name(target)}: that mix selects a layer, and its weights do not "
            "measure how relevant the others are."
        )
    if single.empty:
        yield passed("No layer has more than .9 of the weight of a mix.")


def check_scale(study: Study) -> Iterator[Outcome]:
    """Check whether layers of an encoder have embeddings of about the same size, by a sample from its cache."""
    ratios = {}
    for encoder in _encoders(study):
        if is_stack(list(encoder["layers"])) and (scales := layer_scales(encoder)) is not None:
            ratios[encoder["name"]] = (scales.max() / scales.min(), scales.idxmin(), scales.idxmax())
    if not ratios:
        yield not_applicable("No cache of an encoder with stacked layers is at the path in the run's plan.")
        return
    for name, (ratio, small, large) in ratios.items():
        if ratio > UNEQUAL:
            yield tip(
                f"Embeddings of layer {large} of {name} are {ratio:.0f} times as large as those of layer {small}; "
                "probes and mixes standardise each layer, which toolkits that sum layers as they are do not."
            )
    if max(ratio for ratio, *_ in ratios.values()) <= UNEQUAL:
        yield passed("The size of embeddings differs no more than tenfold between layers of an encoder.")


def layer_scales(encoder: dict[str, Any]) -> pd.Series[float] | None:
    """Return the root mean square of each layer's embeddings, or None where the cache is not there or is another.

    Args:
        encoder: its table in plan.toml
    """
    from layerprobe.probe.cache.store import open_cache  # zarr is loaded where a cache is read

    try:
        if not encoder.get("path") or not resolve(encoder["path"]).exists():
            return None
        cache = open_cache(encoder["path"])
        if cache.plan.fingerprint() != encoder["fingerprint"] or not len(cache):
            return None
        rows, pooling = np.arange(min(SAMPLE, len(cache))), cache.poolings[0]
        layers = {k: cache.read_layer(k, rows, pooling=pooling) for k in encoder["layers"]}
    except (InputError, OSError):
        return None
    scales = pd.Series({k: float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for k, x in layers.items()})
    return scales if bool((scales > 0).all()) else None


def check_folds(study: Study) -> Iterator[Outcome]:
    """Check whether the score of each encoder's highest-scoring layer differs between folds more than by sampling."""
    folds = study.runs[0].plan.get("folds", [])
    if len(folds) < 2 or min(fold["n_test_speakers"] for fold in folds) < FEWEST_IN_FOLD:
        yield not_applicable(f"Some folds hold out fewer than {FEWEST_IN_FOLD} speakers, or there is one test set.")
        return
    rows = study.scores[(study.scores["metric"] == study.metric) & (study.scores["probe"] == "ridge")]
    rows = rows[(rows["control"] == "none") & rows["encoder"].isin(list(study.layers))]
    ridge = study.table[(study.table["probe"] == "ridge") & (study.table["control"] == "none")]
    n_tests, found = 0, []
    for (encoder, target), part in ridge.groupby(["encoder", "target"], sort=False):
        values = part.set_index("layer")["value"].dropna()
        if encoder not in study.layers or values.empty:
            continue
        layer = best_layer(values, metric=study.metric)
        pooled = part[part["layer"] == layer].iloc[0]
        own = rows[(rows["encoder"] == encoder) & (rows["target"] == target) & (rows["layer"] == layer)]
        scores = own[own["fold"] != POOLED].set_index("fold")["value"].dropna()
        p = heterogeneity(scores.to_numpy(), float(pooled["ci_high"] - pooled["ci_low"]))
        n_tests += int(np.isfinite(p))
        if p < FOLD_LEVEL:
            found.append(
                tip(
                    f"For {shown_name(target)}, scores of {layer_kind(layer)} {layer} of {encoder} depend on the fold: "
                    f"{number_text(scores.min())} (fold {scores.idxmin()}) to {number_text(scores.max())} (fold "
                    f"{scores.idxmax()}), more than the speakers of a fold explain (Cochran's Q, {p_text(p)})."
                )
            )
    if not n_tests:
        yield not_applicable("Scores have no intervals to compare folds with.")
        return
    yield from found or [passed("Scores of folds differ no more than their speakers explain.")]


def heterogeneity(scores: np.ndarray, width: float) -> float:
    """Return the p-value of Cochran's Q for the scores of folds of about equal size.

    Args:
        scores: of each fold, ``(n_folds,)``
        width: of the 95 % interval of the score over all folds, from which the variance of a fold's score follows: it
            is of a fraction 1 / n_folds of the speakers

    Returns:
        the p-value, NaN where there are fewer than two folds or no interval

    >>> round(heterogeneity(np.array([0.1, 0.5]), 0.2), 4)
    0.0001
    """
    if len(scores) < 2 or not np.isfinite(width) or width <= 0:
        return float("nan")
    variance = (width / (2 * norm.ppf((1 + LEVEL) / 2))) ** 2 * len(scores)
    q = float(np.sum((scores - scores.mean()) ** 2) / variance)
    return float(chi2.sf(q, len(scores) - 1))


def _encoders(study: Study) -> list[dict[str, Any]]:
    return [encoder for run in study.runs for encoder in run.plan["encoders"]]
