"""Compare regressors: gains of fusion, differences between encoders, and runs on the same utterances.

A regressor predicts ratings: a layer selected by cross-validation, a weighted sum, fused encoders, or encoders that
were trained with it. Differences are paired: all regressors are scored in the same bootstrap resamples of the speakers.
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
    is_plain,
    read_predictions,
    read_run,
)
from layerprobe.probe.results.selection import chosen_layers

# Probe of several encoders: its layer, and probe and layer of one encoder alone
FUSED = {FUSED_RIDGE: (CHOSEN, "ridge", CHOSEN), FUSED_WEIGHTED_SUM: ("all", "weighted_sum", "all")}
KINDS = {  # probe and layer of each kind of regressor: its name in tables
    (TRAINED, "all"): "trained",
    (FUSED_RIDGE, CHOSEN): "cross-validated layers",
    ("ridge", CHOSEN): "cross-validated layer",
    (FUSED_WEIGHTED_SUM, "all"): "weighted sum",
    ("weighted_sum", "all"): "weighted sum",
}
TOLERANCE = 1e-6  # by which the same rating may differ between two runs
COLUMNS = [
    "regressor", "encoder", "probe", "layer", "selected_layers", "target", "reference", "trainable_parameters",
    "n_utterances", "n_speakers", "estimate", "ci_low", "ci_high", "difference", "difference_ci_low",
    "difference_ci_high", "p_value",
]  # fmt: skip


def paired_differences(
    bootstrap: BootstrapScores,
    pairs: Sequence[tuple[str, str]],
    *,
    targets: Sequence[str],
    lower_is_better: bool = False,
) -> pd.DataFrame:
    """Return the paired difference of some pairs of encoders, each at its layer selected by cross-validation.

    Args:
        bootstrap: scores with the columns of layers that were selected by cross-validation (`with_chosen`)
        pairs: of encoders, the reference first
        targets: rated or nominal targets
        lower_is_better: whether the metric is an error

    Returns:
        ``target, encoder, layer, reference, reference_layer, estimate, ci_low, ci_high, p_value``; the estimate is
        above 0 where ``encoder`` is better than ``reference``; pairs without a selected layer have no row
    """
    rows = []
    for target in targets:
        for reference, encoder in pairs:
            pair = [
                bootstrap.of([CHOSEN], encoder=name, control="none", probe="ridge", target=target)
                for name in (encoder, reference)
            ]
            if pair[0] is None or pair[1] is None:
                continue
            found = (pair[1] - pair[0] if lower_is_better else pair[0] - pair[1]).one()
            label = {"target": target, "encoder": encoder, "layer": CHOSEN, "reference": reference}
            rows.append({**label, "reference_layer": CHOSEN, **vars(found)})
    columns = ["target", "encoder", "layer", "reference", "reference_layer"]
    return pd.DataFrame(rows, columns=[*columns, "estimate", "ci_low", "ci_high", "p_value"])


def fusion_gains(bootstrap: BootstrapScores, *, lower_is_better: bool = False) -> pd.DataFrame:
    """Return the gain of fused encoders over each of them alone, with the same kind of probe.

    Args:
        bootstrap: scores of a run with fused encoders, with the columns of layers that were selected by
            cross-validation
        lower_is_better: whether the metric is an error

    Returns:
        ``target, probe, encoder, layer, alone, added, estimate, ci_low, ci_high, p_value``: the gain from adding
        ``added`` to ``alone``, above 0 where fusion is better; empty where nothing was fused
    """
    rows = []
    fused = bootstrap.keys[bootstrap.keys["probe"].isin(list(FUSED)) & (bootstrap.keys["control"] == "none")]
    for key in fused.to_dict("records"):
        layer, probe, layer_alone = FUSED[key["probe"]]
        labels = {"target": key["target"], "control": "none"}
        together = bootstrap.of([layer], encoder=key["encoder"], probe=key["probe"], **labels)
        encoders = key["encoder"].split(JOINED)
        for encoder in encoders:
            alone = bootstrap.of([layer_alone], encoder=encoder, probe=probe, **labels)
            if together is None or alone is None:
                continue
            found = (alone - together if lower_is_better else together - alone).one()
            added = " and ".join(e for e in encoders if e != encoder)
            label = {k: key[k] for k in ("target", "probe", "encoder", "layer")}
            rows.append({**label, "alone": encoder, "added": added, **vars(found)})
    columns = ["target", "probe", "encoder", "layer", "alone", "added", "estimate", "ci_low", "ci_high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def compare(folders: Sequence[Path | str], *, metric: str = "ccc_matched") -> pd.DataFrame:
    """Score the regressors of one or several runs on the utterances that all runs held out.

    All are scored in the same bootstrap resamples of the speakers, so that differences are paired. A sweep has two
    regressors for each encoder: ridge regression on the layer selected by cross-validation, and the weighted sum of
    all layers. No regressor is the highest-scoring layer, whose score is optimistic.

    Args:
        folders: run folders of sweeps, fusions and trainings
        metric: a key of `analysis.statistics.bootstrap.METRICS`

    Returns:
        one row per regressor and target:

        * ``regressor``: name, with the run folder's where there are several
        * ``encoder, probe, layer``: what it consists of; ``layer`` is ``cv_selected`` or ``all``
        * ``selected_layers``: layers that were selected by cross-validation, the most frequent first, joined by ", ";
          empty where ``layer`` is ``all``, or several encoders are fused
        * ``target``
        * ``reference``: the regressor that differences are from, the first one with the target
        * ``trainable_parameters``: NaN where the run does not state it
        * ``n_utterances, n_speakers, estimate, ci_low, ci_high``
        * ``difference, difference_ci_low, difference_ci_high, p_value``: score minus that of the reference; NaN for
          the reference itself

    Raises:
        InputError: if a folder is no run or has no regressor, or runs have no utterance in common or differ in a rating
    """
    parts, described = [], list[pd.DataFrame]()
    for folder in folders:
        found, names = _regressors(Path(folder), alone=len(folders) == 1)
        parts.append(found)
        described.append(names)
    predictions = on_shared_utterances(parts, [str(f) for f in folders])
    bootstrap = bootstrap_scores(predictions, metric=metric)
    n_rated = dict(
        zip(predictions.targets.tolist(), np.isfinite(predictions.ratings).sum(axis=0).tolist(), strict=True)
    )
    labels = pd.concat(described).drop_duplicates(["regressor", "target"]).set_index(["regressor", "target"])
    rows = []
    for target in dict.fromkeys(bootstrap.keys["target"]):
        keys = bootstrap.keys[bootstrap.keys["target"] == target]
        first = int(keys.index[0])
        for index, regressor in zip(map(int, keys.index), keys["encoder"], strict=True):
            score = bootstrap.scores[index].one()
            row = {"regressor": regressor, "target": target, "reference": keys["encoder"].iloc[0]}
            row |= {"n_utterances": n_rated[target], "n_speakers": int(bootstrap.scores.counted[index])}
            row |= labels.loc[(regressor, target)].to_dict()
            row |= {"estimate": score.estimate, "ci_low": score.ci_low, "ci_high": score.ci_high}
            if index != first:
                found_difference = (bootstrap.scores[index] - bootstrap.scores[first]).one()
                row |= {"difference": found_difference.estimate, "p_value": found_difference.p_value}
                row |= {f"difference_{end}": getattr(found_difference, end) for end in ("ci_low", "ci_high")}
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _regressors(folder: Path, *, alone: bool) -> tuple[Predictions, pd.DataFrame]:
    """Return the predictions of a run's regressors, and what each of them is.

    Returns:
        predictions whose ``encoder`` is the regressor's name, and a table ``regressor, target, encoder, probe, layer,
        selected_layers, trainable_parameters``
    """
    run = read_run(folder)
    selected = chosen_layers(run.scores)
    predictions = with_chosen(read_predictions(folder, run.fingerprint), selected)
    columns = predictions.columns
    pairs = list(zip(columns["probe"], columns["layer"], strict=True))
    is_real = (columns["control"] == "none") & (columns["train_corpus"] == "") & is_plain(columns)
    wanted = np.array([pair in KINDS for pair in pairs], dtype=bool) & is_real.to_numpy()
    if not wanted.any():
        raise InputError(
            "LP640",
            f"{folder} holds no regressor: no layer selected by cross-validation, no weighted sum, no trained model. "
            "Sweep with --weighted-sum-seeds, or train one with layerprobe train.",
        )
    prefix = "" if alone else f"{folder.name}: "
    names = [f"{prefix}{e}, {KINDS.get(pair)}" for e, pair in zip(columns["encoder"], pairs, strict=True)]
    order = {kind: rank for rank, kind in enumerate(KINDS)}  # the first regressor is the one that was trained most
    rows = np.array(sorted(np.flatnonzero(wanted), key=lambda k: order[pairs[k]]), dtype=int)
    described = columns.assign(regressor=names).iloc[rows][["regressor", "target", "encoder", "probe", "layer"]]
    described["selected_layers"] = [
        _selected_text(selected, row["encoder"], row["target"]) if row["layer"] == CHOSEN else ""
        for row in described.to_dict("records")
    ]
    described["trainable_parameters"] = [
        trained_parameters(run, e, p) for e, p in zip(described["encoder"], described["probe"], strict=True)
    ]
    renamed = replace(
        predictions,
        columns=columns.assign(encoder=names, layer="all", probe="regressor").iloc[rows].reset_index(drop=True),
        prediction=predictions.prediction[:, rows],
        matched=predictions.matched[:, rows],
    )
    return renamed, described


def _selected_text(selected: pd.DataFrame, encoder: str, target: str) -> str:
    """Layers that cross-validation selected in the folds, the most frequent first, joined by ", "."""
    folds = selected[(selected["encoder"] == encoder) & (selected["target"] == target)]
    return ", ".join(map(str, folds["layer"].value_counts().index))


def trained_parameters(run: Run, encoder: str, probe: str) -> float:
    """Return the number of trained parameters for one target; for all targets where encoders were trained."""
    if probe == TRAINED:
        return float(run.plan["parameters"]["trainable"])
    plans = {e["name"]: e for e in run.plan["encoders"]}
    names = encoder.split(JOINED) if encoder not in plans else [encoder]
    if any("n_features" not in plans.get(name, {}) for name in names):
        return float("nan")
    n = 1 + sum(plans[name]["n_features"] for name in names)
    has_weights = probe in ("weighted_sum", FUSED_WEIGHTED_SUM)
    n_weights = sum(len([k for k in plans[name]["layers"] if k != FINAL]) for name in names)
    return float(n + n_weights * has_weights)


def _shared_ids(parts: list[Predictions]) -> list[str]:
    shared = set(parts[0].utterance_id.tolist()).intersection(*(p.utterance_id.tolist() for p in parts[1:]))
    return sorted(shared)


def on_shared_utterances(parts: list[Predictions], names: list[str]) -> Predictions:
    """Return the columns of all runs on the utterances that each of them held out.

    Args:
        parts: predictions of each run
        names: of the runs, for messages

    Raises:
        InputError: if they have no utterance in common, or differ in a rating
    """
    ids = _shared_ids(parts)
    if not ids:
        raise InputError(
            "LP641",
            f"{' and '.join(names)} held out no utterance in common, so they can't be compared. "
            "Make both with one manifest and one seed.",
        )
    rows = [pd.Index(part.utterance_id).get_indexer(pd.Index(ids)) for part in parts]
    first, targets = parts[0], list(dict.fromkeys(t for part in parts for t in part.targets.tolist()))
    ratings = np.full((len(ids), len(targets)), np.nan)
    for part, of_part, name in zip(parts, rows, names, strict=True):
        for k, target in enumerate(part.targets.tolist()):
            column, rated = targets.index(target), part.ratings[of_part, k]
            known = np.isfinite(ratings[:, column]) & np.isfinite(rated)
            different = np.flatnonzero(known & (np.abs(ratings[:, column] - rated) > TOLERANCE))
            if len(different):
                row = int(different[0])
                raise InputError(
                    "LP642",
                    f"{names[0]} and {name} differ in the {target} of {ids[row]} ({ratings[row, column]:g} and "
                    f"{rated[row]:g}), so they can't be compared. Use one manifest for both.",
                )
            ratings[:, column] = np.where(np.isfinite(ratings[:, column]), ratings[:, column], rated)
    for part, of_part in zip(parts, rows, strict=True):  # scored where every run with the target has a rating
        for k, target in enumerate(part.targets.tolist()):
            ratings[~np.isfinite(part.ratings[of_part, k]), targets.index(target)] = np.nan
    return replace(
        first,
        utterance_id=np.array(ids),
        speaker_id=first.speaker_id[rows[0]],
        fold=first.fold[rows[0]],
        targets=np.array(targets),
        ratings=ratings,
        columns=pd.concat([p.columns for p in parts], ignore_index=True),
        prediction=np.concatenate([p.prediction[r] for p, r in zip(parts, rows, strict=True)], axis=1),
        matched=np.concatenate([p.matched[r] for p, r in zip(parts, rows, strict=True)], axis=1),
        gender=first.gender[rows[0]],
        corpus=first.corpus[rows[0]],
        unit=first.unit[rows[0]],
    )
