"""Limitations of a study that a reader of its scores must know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.findings.corpus_limitations import corpus_limitations
from layerprobe.analysis.formatting import ALPHA, number_text, plural, shown_name
from layerprobe.analysis.layers.weights import single_layers
from layerprobe.analysis.study import Study
from layerprobe.probe.data.shared_audio import SharedAudio, handled_text
from layerprobe.probe.metrics import CLASS_METRICS
from layerprobe.probe.results.pending import pending_controls
from layerprobe.probe.splits import UNKNOWN_SPEAKER
from layerprobe.probe.tasks.targets import RESIDUAL, TEXT_RESIDUAL

FEW_SPEAKERS = 20
CORRELATED = 0.5  # |r| between ratings from which two targets are no separate findings


def limitations(study: Study) -> list[str]:
    """Return the limitations of a study as sentences, the most serious first."""
    plan, scores = study.runs[0].plan, study.scores
    encoders = [encoder for run in study.runs for encoder in run.plan["encoders"]]
    found = [*_pending(study), *_untrained(encoders), *_speakers(plan, study), *_held_out(plan), *_shared_audio(plan)]
    found += corpus_limitations(study.predictions, plan["sweep"])
    found += [*_alphas(plan, scores), *_single_layers(study)]
    if study.metric not in CLASS_METRICS:  # codes of classes have no correlation
        found += _correlated(study.correlations)
    found += _permutations(study.permutations)
    for key, reason in (("n_not_cached", "not in the cache"), ("n_not_rated", "without a rating for any target")):
        if plan["corpus"][key]:
            found.append(f"{plan['corpus'][key]} utterances of the manifest were left out: {reason}.")
    return found + _targets(plan)


def _pending(study: Study) -> list[str]:
    """What runs still lack that are being swept, or whose sweep was interrupted."""
    pending = list(dict.fromkeys(name for run in study.runs for name in run.pending))
    if not pending:
        return []
    without = " Without its controls no score can be compared with chance or with random weights."
    lacks_controls = any(pending_controls(run.plan) for run in study.runs)
    return [
        f"The sweep is unfinished; pending: {', '.join(map(shown_name, pending))}.{without if lacks_controls else ''} "
        "Write the report again once layerprobe sweep has ended; after an interruption the same command resumes the "
        "sweep."
    ]


def _targets(plan: dict[str, Any]) -> list[str]:
    """Targets that some utterances do not rate, and those that were not scored."""
    found = [
        f"{shown_name(row['name'])} is scored on {row['n_utterances']} of {plan['corpus']['n_utterances']} utterances, "
        f"of {row['n_speakers']} speakers; the others have no rating of it."
        for row in plan.get("target_counts", [])
        if row["n_not_rated"]
    ]
    return found + [f"{shown_name(row['target'])} was not scored: {row['reason']}." for row in plan.get("left_out", [])]


def _untrained(encoders: list[dict[str, Any]]) -> list[str]:
    names = [e["name"] for e in encoders if e.get("random_init") is not None]
    if not names:
        return []
    return [
        f"The weights of {', '.join(names)} are untrained: they were initialised at random. What their layers predict "
        "comes from the input and the architecture alone."
    ]


def _speakers(plan: dict[str, Any], study: Study) -> list[str]:
    found = []
    if not plan["sweep"]["speakers"]:
        found.append(
            "No speakers were given: the same speaker may be in training and test data, so scores may be optimistic."
        )
    n_speakers = plan["corpus"]["n_speakers"]
    if n_speakers < FEW_SPEAKERS:
        found.append(f"Only {n_speakers} speakers: other speakers may give another ranking of the layers.")
    unknown = int(np.sum(study.predictions.speaker_id == UNKNOWN_SPEAKER)) if plan["sweep"]["speakers"] else 0
    if unknown:
        found.append(
            f"{unknown} of {len(study.predictions.speaker_id)} held-out utterances are of unknown speakers, each "
            "treated as a speaker of its own: some may be in the training data too, and intervals may be too narrow."
        )
    return found


def _single_layers(study: Study) -> list[str]:
    """Mixes in which one layer has nearly all the weight."""
    single = single_layers(study.weights) if len(study.weights) else study.weights
    single = single[(single["control"] == "none") & single["target"].isin(study.targets)]
    return [
        f"Layer {rows['layer'].iloc[0]} of {encoder} has {number_text(rows['weight'].iloc[0])} of the weight of the "
        f"{shown_name(probe)} for {shown_name(target)}: that mix selects a layer, and its weights do not measure how "
        "relevant the others are."
        for (encoder, probe, target), rows in single.groupby(["encoder", "probe", "target"], sort=False)
    ]


def _held_out(plan: dict[str, Any]) -> list[str]:
    """Few groups that were held out, and speakers who are in several of them."""
    group_by, units = plan["sweep"].get("group_by"), plan.get("held_out")
    if not group_by or units is None:
        return []
    found = []
    if units["n_shared_speakers"]:
        found.append(
            f"{units['n_shared_speakers']} of {plan['corpus']['n_speakers']} speakers are in training and test data: "
            f"scores are of other values of {group_by}, not of other speakers."
        )
    joined = f", to which {units['n_groups']} were joined," if units["n_units"] < units["n_groups"] else ""
    few = "Only " if units["n_units"] < FEW_SPEAKERS else ""
    found.append(
        f"{few}{units['n_units']} {plural(group_by)}{joined} were held out; wherever the report names resamples of or "
        f"intervals over speakers, these are the units that were resampled."
    )
    return found


def _shared_audio(plan: dict[str, Any]) -> list[str]:
    found = dict(plan.get("shared_audio", {}))
    if not found:
        return []
    handled = handled_text(found.pop("duplicates"), found.pop("n_left_out"))
    return [f"{SharedAudio(**found)}: {handled}."]


def _alphas(plan: dict[str, Any], scores: pd.DataFrame) -> list[str]:
    alphas = scores[(scores["metric"] == "alpha") & (scores["control"] == "none")]["value"]
    edges = plan["sweep"]["alphas"][0], plan["sweep"]["alphas"][-1]
    n_edge = int(alphas.isin(edges).sum())
    if not n_edge:
        return []
    return [
        f"Alpha lies at the edge of its grid in {n_edge} of {len(alphas)} fits; at the upper edge ridge "
        "regression predicts little but the mean."
    ]


def _permutations(table: pd.DataFrame) -> list[str]:
    """Too few permutations for a significant p-value after correction for all encoders and targets."""
    if table.empty:
        return []
    n, n_tests = int(table["n_permutations"].min()), len(table[["encoder", "target"]].drop_duplicates())
    least = n_tests / (n + 1)
    if least < ALPHA:
        return []
    for_all = f", corrected for {n_tests} encoders and targets," if n_tests > 1 else ""
    return [
        f"Ratings were permuted only {n} times: no p-value against chance{for_all} can be below {min(least, 1):.2f}. "
        f"Sweep with --permutations {int(n_tests / ALPHA)} or more."
    ]


def _correlated(correlations: pd.DataFrame) -> list[str]:
    names = [str(name) for name in correlations if not str(name).endswith((RESIDUAL, TEXT_RESIDUAL))]
    values, found = correlations.loc[names, names].to_numpy(), []
    for k, first in enumerate(names):
        for j, second in enumerate(names[k + 1 :], start=k + 1):
            r = float(values[k, j])
            if abs(r) >= CORRELATED:
                found.append(
                    f"Ratings of {shown_name(second)} are correlated with those of {shown_name(first)} "
                    f"(r = {number_text(r)}): their results are not independent."
                )
    return found
