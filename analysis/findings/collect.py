"""Every answer that a study gives, as records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.layers.depth import MEASURES
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.layers.variance_partitioning import OF_BOTH
from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS, JACKKNIFE_FOLDS
from layerprobe.analysis.statistics.permutation import BY_SPEAKER, holm
from layerprobe.analysis.study import Study
from layerprobe.probe.results.run_folder import CHOSEN, FUSED_RIDGE, FUSED_WEIGHTED_SUM

RIDGE = "ridge per layer on standardised embeddings, alpha from inner speaker-disjoint folds"
BCA = f"BCa over {N_RESAMPLES:,} draws of whole speakers, shared by all layers, targets and encoders; wider for few speakers"
LIN, EFRON = "Lin (1989), Biometrics 45", "Efron (1987), JASA 82; Hesterberg (2015), Am. Stat. 69"
FUSED_WAYS = {
    FUSED_RIDGE: "banded ridge of each encoder's layer with the least error on the inner folds",
    FUSED_WEIGHTED_SUM: "one softmax over the layers of all encoders, with a linear head for each",
}
OF_CONTROL = {"none": "", "random_init": ", random weights", "difference": ", less that of random weights"}


def collect_findings(study: Study) -> list[Finding]:
    """Every answer that a study gives, in the order of a report."""
    what = (_layers, _chance, _above_random, _selectivity, _regrets, _depths, _contrasts, _shares, _fusion)
    whom = (_groups, _transfers)
    return _adjusted([finding for part in what + whom for finding in part(study)])


def _layers(study: Study) -> Iterator[Finding]:
    """Best layers, their set, the layer chosen in the folds, the weighted sum, and the best of random weights."""
    draws = study.bootstrap.table()
    for (encoder, target), rows in study.table[study.table["encoder"] != ""].groupby(["encoder", "target"], sort=False):
        ridge = rows[rows["probe"] == "ridge"]
        for control, name in (("none", "highest_scoring_layer"), ("random_init", "random_init")):
            part = ridge[(ridge["control"] == control) & ridge["value"].notna()]
            if part.empty:
                continue
            row = _scored(_row(part, best_layer(part.set_index("layer")["value"], metric=study.metric)))
            yield _finding(name, row, study.metric, interval=str(row["interval"]), method=RIDGE, source=LIN)
            inside = [str(k) for k in part["layer"][part["in_best_set"]]]
            if control == "none" and inside:
                method = (
                    f"multiple comparisons with the best: largest standardised difference over {N_RESAMPLES:,} draws"
                )
                source = "Hsu (1981), Ann. Stat. 9; Romano and Wolf (2005), Econometrica 73"
                of_set = {**row, "layer": ", ".join(inside), "estimate": len(inside)}
                yield _finding("best_set", of_set, study.metric, interval="", method=method, source=source)
        own = (draws["encoder"] == encoder) & (draws["target"] == target) & (draws["control"] == "none")
        for row in draws[own & (draws["layer"] == CHOSEN) & (draws["probe"] == "ridge")].to_dict("records"):
            method = "per fold the layer with the least error on the inner folds of the training speakers; " + BCA
            yield _finding(
                "cv_selected_layer",
                {**row, "p_value": math.nan},
                study.metric,
                interval=BCA_SPEAKERS,
                method=method,
                source=EFRON,
            )
        for row in rows[(rows["probe"] == "weighted_sum") & (rows["control"] == "none")].to_dict("records"):
            method = "softmax mix of standardised layers and a linear head, least squares, mean and spread matched"
            source = "Yang et al. (2021), SUPERB"
            yield _finding(
                "weighted_sum", _scored(row), study.metric, interval=str(row["interval"]), method=method, source=source
            )


def _chance(study: Study) -> Iterator[Finding]:
    for _, rows in study.permutations.groupby(["encoder", "target"], sort=False):
        row = rows.iloc[0].to_dict()
        dealt = "speakers' levels and what is left of them dealt apart" if row["control"] == BY_SPEAKER else "all dealt"
        yield _finding(
            "chance",
            {**row, "layer": "all", "estimate": row["chance"], "p_value": rows["p_permutation"].min()},
            study.metric,
            interval="",
            method=f"largest score of any layer in {row['n_permutations']} permutations ({dealt}), every fit redone",
            source="Westfall and Young (1993); Phipson and Smyth (2010)",
            detail=str(row["control"]),
        )


def _above_random(study: Study) -> Iterator[Finding]:
    for (encoder, target), rows in study.gain_over_random.groupby(["encoder", "target"], sort=False):
        row = _row(rows, _best(study, encoder, target))
        yield _finding(
            "gain_over_random",
            {**row, "estimate": row["value"]},
            study.metric,
            interval=BCA_SPEAKERS,
            method=BCA,
            source=EFRON,
        )


def _selectivity(study: Study) -> Iterator[Finding]:
    """The best layer's score less what it reaches on a control's ratings."""
    ridge = study.table[(study.table["probe"] == "ridge") & (study.table["encoder"] != "")]
    sign = -1.0 if study.lower_is_better else 1.0
    for (encoder, target), rows in ridge.groupby(["encoder", "target"], sort=False):
        if not ((rows["control"] == "none") & rows["value"].notna()).any():
            continue  # what is reached without an encoder
        layer = _best(study, encoder, target)
        score = float(_row(rows[rows["control"] == "none"], layer)["value"])
        for control in ("permuted_within_speaker", "random_per_speaker"):
            for row in rows[(rows["control"] == control) & (rows["layer"] == layer)].to_dict("records"):
                low, high = sorted(sign * (score - row[k]) for k in ("draw_min", "draw_max"))
                row |= {"estimate": sign * (score - row["value"]), "ci_low": low, "ci_high": high}
                method = "the layer's score less the mean of its scores on the control's draws"
                source = "Hewitt and Liang (2019)"
                yield _finding(
                    "selectivity", row, study.metric, interval="", method=method, source=source, detail=control
                )


def _regrets(study: Study) -> Iterator[Finding]:
    method = f"score of the layer chosen inside the training speakers, less that of the usual choice; {BCA}"
    for row in study.regrets.to_dict("records"):
        yield _finding(
            "regret", row, study.metric, interval=BCA_SPEAKERS, method=method, source=EFRON, detail=str(row["choice"])
        )


def _depths(study: Study) -> Iterator[Finding]:
    for row in study.depth_table.to_dict("records"):
        method = MEASURES[row["measure"]]
        if row["measure"] == "expected_layer":
            room = row["headroom_estimate"], row["headroom_ci_low"], row["headroom_ci_high"]
            method += ", of {:.2f} headroom (95 % {:.2f} to {:.2f})".format(*room)
        yield _finding(
            "depth",
            {**row, "layer": "all"},
            study.depth_metric,
            interval=JACKKNIFE_FOLDS if row["measure"] == "weight_centre" else BCA_SPEAKERS,
            method=f"{method}, on relative depth",
            source="Tenney et al. (2019)",
            detail=row["measure"] + OF_CONTROL[row["control"]],
        )


def _contrasts(study: Study) -> Iterator[Finding]:
    for row in study.contrasts.to_dict("records"):
        folds = row["measure"] == "weight_centre"
        yield _finding(
            "depth_difference",
            {**row, "target": row["name"], "layer": "all"},
            study.depth_metric,
            interval=JACKKNIFE_FOLDS if folds else BCA_SPEAKERS,
            method="delete-a-group jackknife over folds" if folds else BCA,
            source="Kott (2001), J. Off. Stat. 17" if folds else EFRON,
            detail=row["measure"] + OF_CONTROL[row["control"]],
        )


def _shares(study: Study) -> Iterator[Finding]:
    """Of the layer with the highest joint share: what only it, and what only the source beside it, says."""
    method = "banded ridge of the layer and what is beside it, against each alone; " + BCA
    source = "Nunez-Elizalde et al. (2019), NeuroImage 197"
    for _, rows in study.variance_partition.groupby(["encoder", "target"], sort=False):
        row = rows.iloc[int(np.nanargmax(rows["with_covariates"]))].to_dict()
        for share in OF_BOTH:
            ends = {"estimate": row[share], "ci_low": row[f"{share}_ci_low"], "ci_high": row[f"{share}_ci_high"]}
            yield _finding(
                "unique_variance",
                {**row, **ends},
                "r2",
                interval=BCA_SPEAKERS,
                method=method,
                source=source,
                detail=share,
            )


def _fusion(study: Study) -> Iterator[Finding]:
    """What encoders say together, and how much more than each alone."""
    source = "Nunez-Elizalde et al. (2019), NeuroImage 197"
    draws = study.bootstrap.table()
    for probe, method in FUSED_WAYS.items():
        for row in draws[(draws["probe"] == probe) & (draws["control"] == "none")].to_dict("records"):
            kept = {**row, "p_value": math.nan}
            yield _finding(
                "fusion",
                kept,
                study.metric,
                interval=BCA_SPEAKERS,
                method=f"{method}; {BCA}",
                source=source,
                detail=probe,
            )
        for row in study.fusion_gains[study.fusion_gains["probe"] == probe].to_dict("records"):
            detail = f"{row['added']} over {row['alone']}, {probe}"
            less = f"{method}, less the same of {row['alone']} alone; {BCA}"
            yield _finding(
                "fusion_gain", row, study.metric, interval=BCA_SPEAKERS, method=less, source=source, detail=detail
            )


def _groups(study: Study) -> Iterator[Finding]:
    for row in study.by_subgroup.to_dict("records"):
        detail = f"{row['grouping']}: {row['group']}"
        row["p_value"] = math.nan  # that a score is 0 is nobody's question
        yield _finding("subgroup", row, study.metric, interval=BCA_SPEAKERS, method=BCA, source=EFRON, detail=detail)


def _transfers(study: Study) -> Iterator[Finding]:
    method = "trained on one corpus, on which the layer was chosen, tested on speakers held out of all; " + BCA
    for row in study.cross_corpus.to_dict("records"):
        detail = f"{row['source']} to {row['test']}"
        row["p_value"] = math.nan
        yield _finding(
            "cross_corpus", row, study.metric, interval=BCA_SPEAKERS, method=method, source=EFRON, detail=detail
        )


def _finding(
    name: str, row: Mapping[Any, Any], metric: str, *, interval: str, method: str, source: str, detail: str = ""
) -> Finding:
    """A record from a row with ``encoder, target, layer, estimate`` and what it has of ``ci_low, ci_high, p_value``."""
    encoder, target, layer = (str(row[k]) for k in ("encoder", "target", "layer"))
    estimate, low, high, p = (float(row.get(k, math.nan)) for k in ("estimate", "ci_low", "ci_high", "p_value"))
    return Finding(name, encoder, target, layer, metric, estimate, low, high, interval, method, source, detail, p)


def _best(study: Study, encoder: object, target: object) -> str:
    """The layer with the best score."""
    own = study.table[(study.table["encoder"] == encoder) & (study.table["target"] == target)]
    own = own[(own["probe"] == "ridge") & (own["control"] == "none")]
    return best_layer(own.set_index("layer")["value"], metric=study.metric)


def _row(table: pd.DataFrame, layer: str) -> dict[Any, Any]:
    return dict(table[table["layer"] == layer].iloc[0].to_dict())


def _scored(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """A row of `Study.table` as one of an estimate; whether it is 0 is asked of chance, which knows all layers."""
    return {**row, "estimate": row["value"], "ci_low": row["ci_low"], "ci_high": row["ci_high"], "p_value": math.nan}


def _adjusted(findings: list[Finding]) -> list[Finding]:
    """Holm's correction over all that test the same: of one name, and of one measure or choice."""
    families = pd.Series([f"{f.name} {f.detail}" for f in findings], dtype=object)
    p = np.array([f.p_value for f in findings])
    corrected = np.full(len(p), np.nan)
    for family in families.unique():
        own = np.flatnonzero((families == family).to_numpy() & np.isfinite(p))
        if len(own):
            corrected[own] = holm(p[own])
    return [replace(f, p_adjusted=float(c)) for f, c in zip(findings, corrected, strict=True)]
