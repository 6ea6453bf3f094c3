"""Regressors against one another: what encoders add to each other, and runs side by side on the same utterances.

A regressor predicts ratings for use: a layer that was chosen inside the training speakers, a weighted sum, encoders
fused, or encoders that were trained. Differences are paired: the same draws of speakers for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.selection import with_chosen
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.results.run_folder import (
    CHOSEN,
    FUSED_RIDGE,
    FUSED_WEIGHTED_SUM,
    JOINED,
    TRAINED,
    Predictions,
    Run,
    read_predictions,
    read_run,
)
from layerprobe.probe.results.selection import chosen_layers

# A probe of several encoders -> its layer, and probe and layer of one of them alone
FUSED = {FUSED_RIDGE: (CHOSEN, "ridge", CHOSEN), FUSED_WEIGHTED_SUM: ("all", "weighted_sum", "all")}
KINDS = {  # probe and layer of every regressor, and what it is called
    (TRAINED, "all"): "trained",
    (FUSED_RIDGE, CHOSEN): "best layers",
    ("ridge", CHOSEN): "best layer",
    (FUSED_WEIGHTED_SUM, "all"): "weighted sum",
    ("weighted_sum", "all"): "weighted sum",
}
TOLERANCE = 1e-6  # by which the same rating may differ between two runs


def fusion_gains(draws: BootstrapScores, *, lower_is_better: bool = False) -> pd.DataFrame:
    """How much better encoders together predict than each of them alone, by the same way of reading them.

    Args:
        draws: of a run with fused encoders, with the columns of layers that were chosen inside the folds
        lower_is_better: whether a low score is a good one

    Returns:
        ``target, probe, encoder, layer, alone, added, estimate, ci_low, ci_high, p_value``: what ``added`` adds over ``alone``,
        above 0 where it does; empty where nothing was fused
    """
    rows = []
    fused = draws.keys[draws.keys["probe"].isin(list(FUSED)) & (draws.keys["control"] == "none")]
    for key in fused.to_dict("records"):
        layer, probe, layer_alone = FUSED[key["probe"]]
        of = {"target": key["target"], "control": "none"}
        together = draws.of([layer], encoder=key["encoder"], probe=key["probe"], **of)
        encoders = key["encoder"].split(JOINED)
        for encoder in encoders:
            alone = draws.of([layer_alone], encoder=encoder, probe=probe, **of)
            if together is None or alone is None:
                continue
            found = (alone - together if lower_is_better else together - alone).one()
            added = " and ".join(e for e in encoders if e != encoder)
            label = {k: key[k] for k in ("target", "probe", "encoder", "layer")}
            rows.append({**label, "alone": encoder, "added": added, **vars(found)})
    columns = ["target", "probe", "encoder", "layer", "alone", "added", "estimate", "ci_low", "ci_high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def compare(folders: Sequence[Path | str], *, metric: str = "ccc_matched") -> pd.DataFrame:
    """Score every regressor of some runs on the utterances that all of them held out, under the same draws of speakers.

    Args:
        folders: run folders, of sweeps, fusions and trainings
        metric: a key of `analysis.statistics.bootstrap.METRICS`

    Returns:
        ``regressor, target, trainable_parameters`` (NaN where the run does not say), ``n_utterances, n_speakers,
        estimate, ci_low, ci_high`` and, against the first regressor that has
        the target, ``difference, difference_ci_low, difference_ci_high, p``

    Raises:
        InputError: if a folder is no run, has no regressor, or runs share no utterance or rate one differently
    """
    parts, sizes = [], dict[str, float]()
    for folder in folders:
        found, own_sizes = _regressors(Path(folder), alone=len(folders) == 1)
        parts.append(found)
        sizes |= own_sizes
    draws = bootstrap_scores(_on_shared_utterances(parts, [str(f) for f in folders]), metric=metric)
    n_utterances = len(_shared_ids(parts))
    rows = []
    for target in dict.fromkeys(draws.keys["target"]):
        own = draws.keys[draws.keys["target"] == target]
        first = draws.scores[int(own.index[0])]
        for place, regressor in own["encoder"].items():
            scores = draws.scores[int(str(place))]
            score, apart = scores.one(), (scores - first).one()
            row = {"regressor": regressor, "target": target, "trainable_parameters": sizes[str(regressor)]}
            row["n_utterances"] = n_utterances
            row |= {
                "n_speakers": draws.n_speakers,
                "estimate": score.estimate,
                "ci_low": score.ci_low,
                "ci_high": score.ci_high,
            }
            if place != own.index[0]:
                row |= {
                    "difference": apart.estimate,
                    "difference_ci_low": apart.ci_low,
                    "difference_ci_high": apart.ci_high,
                }
                row["p_value"] = apart.p_value
            rows.append(row)
    columns = [
        "regressor",
        "target",
        "trainable_parameters",
        "n_utterances",
        "n_speakers",
        "estimate",
        "ci_low",
        "ci_high",
    ]
    return pd.DataFrame(rows, columns=[*columns, "difference", "difference_ci_low", "difference_ci_high", "p_value"])


def _regressors(folder: Path, *, alone: bool) -> tuple[Predictions, dict[str, float]]:
    """The columns of a run's regressors, each under a name that tells it from those of other runs; and their sizes."""
    run = read_run(folder)
    predictions = with_chosen(read_predictions(folder), chosen_layers(run.scores))
    columns = predictions.columns
    kinds = [KINDS.get(pair) for pair in zip(columns["probe"], columns["layer"], strict=True)]
    wanted = (
        np.array([k is not None for k in kinds])
        & (columns["control"] == "none").to_numpy()
        & (columns["train_corpus"] == "").to_numpy()
    )
    if not wanted.any():
        raise InputError(f"{folder} holds no regressor: no layer chosen inside its folds, no mix, nothing trained.")
    prefix = "" if alone else f"{folder.name}: "
    names = [f"{prefix}{e}, {k}" for e, k in zip(columns["encoder"], kinds, strict=True)]
    # a regressor's place in KINDS, the most that was done first
    order = {kind: place for place, kind in enumerate(KINDS)}
    ranks = [order.get(pair, len(order)) for pair in zip(columns["probe"], columns["layer"], strict=True)]
    kept = np.array(sorted(np.flatnonzero(wanted), key=lambda k: ranks[k]), dtype=int)
    sizes = {names[k]: _parameters(run, columns["encoder"][k], columns["probe"][k]) for k in kept}
    renamed = replace(
        predictions,
        columns=columns.assign(encoder=names, layer="all", probe="regressor").iloc[kept].reset_index(drop=True),
        prediction=predictions.prediction[:, kept],
        matched=predictions.matched[:, kept],
    )
    return renamed, sizes


def _parameters(run: Run, encoder: str, probe: str) -> float:
    """How many were trained for one target, or, where encoders were trained, for all."""
    if probe == TRAINED:
        return float(run.plan["parameters"]["trainable"])
    of = {e["name"]: e for e in run.plan["encoders"]}
    heard = encoder.split(JOINED) if encoder not in of else [encoder]
    if any("n_features" not in of.get(name, {}) for name in heard):
        return float("nan")  # a run of before it was noted
    n = 1 + sum(of[name]["n_features"] for name in heard)
    mixed = probe in ("weighted_sum", FUSED_WEIGHTED_SUM)
    return float(n + (sum(len([k for k in of[name]["layers"] if k != FINAL]) for name in heard) if mixed else 0))


def _shared_ids(parts: list[Predictions]) -> list[str]:
    shared = set(parts[0].utterance_id.tolist()).intersection(*(p.utterance_id.tolist() for p in parts[1:]))
    return sorted(shared)


def _on_shared_utterances(parts: list[Predictions], names: list[str]) -> Predictions:
    ids = _shared_ids(parts)
    if not ids:
        raise InputError(f"{' and '.join(names)} held out no utterance in common, so they can't be compared.")
    rows = [pd.Index(part.utterance_id).get_indexer(pd.Index(ids)) for part in parts]
    first, targets = parts[0], list(dict.fromkeys(t for part in parts for t in part.targets.tolist()))
    ratings = np.full((len(ids), len(targets)), np.nan)
    for part, own, name in zip(parts, rows, names, strict=True):
        for k, target in enumerate(part.targets.tolist()):
            place, rated = targets.index(target), part.ratings[own, k]
            known = np.isfinite(ratings[:, place]) & np.isfinite(rated)
            apart = np.flatnonzero(known & (np.abs(ratings[:, place] - rated) > TOLERANCE))
            if len(apart):
                raise InputError(
                    f"{names[0]} and {name} rate {target} of {ids[apart[0]]} differently ({ratings[apart[0], place]:g} "
                    f"and {rated[apart[0]]:g}), so they can't be compared. Use one manifest for both."
                )
            ratings[:, place] = np.where(np.isfinite(ratings[:, place]), ratings[:, place], rated)
    return replace(
        first,
        utterance_id=np.array(ids),
        speaker_id=first.speaker_id[rows[0]],
        fold=first.fold[rows[0]],
        targets=np.array(targets),
        ratings=ratings,
        columns=pd.concat([p.columns for p in parts], ignore_index=True),
        prediction=np.concatenate([p.prediction[own] for p, own in zip(parts, rows, strict=True)], axis=1),
        matched=np.concatenate([p.matched[own] for p, own in zip(parts, rows, strict=True)], axis=1),
        gender=first.gender[rows[0]],
        corpus=first.corpus[rows[0]],
    )
