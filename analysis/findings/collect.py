"""Collect the results of a study as findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.encoder_pairs import compare_encoders
from layerprobe.analysis.findings import controls
from layerprobe.analysis.findings.build import (
    BCA,
    EFRON,
    LIN,
    SELECTED,
    SHIFT_METHOD,
    SHIFT_SOURCE,
    compared,
    make_finding,
    row_of,
    scored,
    untested,
)
from layerprobe.analysis.findings.encoder_gain_sentences import encoder_gain_sentences
from layerprobe.analysis.findings.encoder_gains import encoder_gain_findings
from layerprobe.analysis.findings.erasure import erasure_findings
from layerprobe.analysis.findings.records import N_LAYERS, Finding
from layerprobe.analysis.findings.sentences import predicted_targets
from layerprobe.analysis.findings.time import time_findings
from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.layers.depth import INTERVALS, MEASURES, SHIFT
from layerprobe.analysis.layers.encoder_gains import EncoderPair
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.layers.variance_partitioning import COMPONENTS
from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES
from layerprobe.analysis.statistics.permutation import holm
from layerprobe.analysis.study import Study, study as read_study
from layerprobe.probe.results.run_folder import CHOSEN, FUSED_RIDGE, FUSED_WEIGHTED_SUM, JOINED, Run

RIDGE = "ridge regression per layer on standardised embeddings, penalty chosen on inner speaker-disjoint folds"
DEPTH_METHODS = {  # of differences: method and source; BCa of all other measures
    SHIFT: (SHIFT_METHOD, SHIFT_SOURCE),
    "weight_centre": ("delete-a-group jackknife over folds", "Kott (2001), J. Off. Stat. 17"),
}
ADJUSTED = ("encoder_gain", "encoder_shift")
BANDED = "Nunez-Elizalde et al. (2019), NeuroImage 197"
FUSION = {
    FUSED_RIDGE: "banded ridge regression on each encoder's layer with the lowest error on the inner folds",
    FUSED_WEIGHTED_SUM: "one softmax over the layers of all encoders, with a linear head for each",
}
CONTROL_NAMES = {"none": "", "random_init": "random initialisation", "difference": "minus random initialisation"}


def collect_findings(study: Study | Run | Path | str | Sequence[Run | Path | str]) -> list[Finding]:
    """Return the findings of a study in the order of a report, p-values adjusted by Holm's method.

    Args:
        study: a study, or what `layerprobe.analysis.study.study` makes one from: a run, its folder, or a list of these

    Raises:
        InputError: if a folder is no run, or runs differ in more than their encoders
    """
    of = study if isinstance(study, Study) else read_study(study)
    parts = [_layers, controls.chance, controls.gain_over_random, controls.selectivity, controls.gain_over_acoustic]
    parts += [_regrets, _depths, _depth_differences, _variance_partition, _encoder_differences]
    parts += [encoder_gain_findings, _fusion, _subgroups, _cross_corpus, time_findings, erasure_findings]
    return _adjusted([finding for part in parts for finding in part(of)])


def pair_headlines(study: Study, pairs: Sequence[EncoderPair]) -> list[str]:
    """Return the sentences on pairs of encoders with the same layers."""
    chance = _adjusted([finding for part in (_layers, controls.chance) for finding in part(study)])
    gains = list(encoder_gain_findings(study, compare_encoders(study, pairs)))
    return list(encoder_gain_sentences(gains, predicted_targets(chance)))


def _layers(study: Study) -> Iterator[Finding]:
    """Highest-scoring and cross-validated layers, the best set, the weighted sum, and random initialisation."""
    bootstrap = study.bootstrap.table()
    for (encoder, target), rows in study.table[study.table["encoder"] != ""].groupby(["encoder", "target"], sort=False):
        ridge = rows[rows["probe"] == "ridge"]
        for control, name in (("none", "highest_scoring_layer"), ("random_init", "random_init")):
            part = ridge[(ridge["control"] == control) & ridge["value"].notna()]
            if part.empty:
                continue
            row = scored(row_of(part, best_layer(part.set_index("layer")["value"], metric=study.metric)))
            method = f"maximum over layers, which is optimistic; {RIDGE}"
            of_control = {} if control == "none" else {"control": control}
            yield make_finding(name, row, study.metric, method=method, source=LIN, **of_control)
            inside = tuple(map(str, part["layer"][part["in_best_set"]]))
            if control == "none" and inside:
                yield _best_set(row, inside)
        is_own = (bootstrap["encoder"] == encoder) & (bootstrap["target"] == target) & (bootstrap["control"] == "none")
        is_selected = is_own & (bootstrap["layer"] == CHOSEN) & (bootstrap["probe"] == "ridge")
        for row in bootstrap[is_selected].to_dict("records"):
            yield make_finding(
                "cv_selected_layer", untested(row), study.metric, method=f"{SELECTED}; {BCA}", source=EFRON
            )
        is_logistic = is_own & (bootstrap["layer"] == CHOSEN) & (bootstrap["probe"] == "logistic")
        for row in bootstrap[is_logistic].to_dict("records"):
            method = f"logistic regression on {SELECTED} of ridge regression; {BCA}"
            of_probe = {"probe": "logistic"}
            yield make_finding("logistic", untested(row), study.metric, method=method, source=EFRON, **of_probe)
        for row in rows[(rows["probe"] == "weighted_sum") & (rows["control"] == "none")].to_dict("records"):
            method = (
                "softmax-weighted sum of standardised layers, penalty on uneven weights, linear head, moment-matched"
            )
            source = "Yang et al. (2021), SUPERB"
            of_probe = {"probe": "weighted_sum"}
            yield make_finding("weighted_sum", scored(row), study.metric, method=method, source=source, **of_probe)


def _best_set(best: Mapping[Any, Any], inside: tuple[str, ...]) -> Finding:
    """The number of layers in the 95 % set, which is named by its highest-scoring layer."""
    row = {**best, "estimate": len(inside), "ci_low": math.nan, "ci_high": math.nan}
    method = f"multiple comparisons with the best: maximum standardised difference over {N_RESAMPLES:,} resamples"
    source = "Hsu (1981), Ann. Stat. 9; Romano and Wolf (2005), Econometrica 73"
    return make_finding(
        "best_set", row, N_LAYERS, method=method, source=source, detail=", ".join(inside), layers=inside
    )


def _regrets(study: Study) -> Iterator[Finding]:
    method = f"score of the layer selected by cross-validation ({SELECTED}) minus that of the default choice; {BCA}"
    for row in study.regrets.to_dict("records"):
        choice, layer = str(row["choice"]), str(row["layer"])
        against = {"detail": choice, "reference": choice, "reference_layer": layer}
        yield make_finding("regret", {**row, "layer": CHOSEN}, study.metric, method=method, source=EFRON, **against)


def _depths(study: Study) -> Iterator[Finding]:
    for row in study.depth_table.to_dict("records"):
        headroom = {}
        if row["measure"] == "expected_layer":
            headroom = {"headroom": row["headroom_estimate"]}
            headroom |= {key: row[key] for key in ("headroom_ci_low", "headroom_ci_high")}
        yield make_finding(
            "depth",
            untested({**row, "layer": "all"}),
            study.depth_metric,
            interval=INTERVALS[row["measure"]],
            method=f"{MEASURES[row['measure']]}, as relative depth",
            source="Tenney et al. (2019)",
            **_measured(row),
            **headroom,
        )


def _depth_differences(study: Study) -> Iterator[Finding]:
    for row in study.contrasts.to_dict("records"):
        method, source = DEPTH_METHODS.get(row["measure"], (BCA, EFRON))
        of_shift: dict[str, Any] = {}
        if row["measure"] == SHIFT:
            detectable = float(row["detectable"])
            of_shift = {
                "n_blocks": int(row["n_blocks"]), "detectable": detectable if math.isfinite(detectable) else None,
            }  # fmt: skip
        yield make_finding(
            "depth_difference",
            {**row, "target": row["name"], "layer": "all"},
            study.shift_metric if of_shift else study.depth_metric,
            interval=INTERVALS[row["measure"]],
            method=method,
            source=source,
            deeper=str(row["deeper"]),
            shallower=str(row["shallower"]),
            **_measured(row),
            **of_shift,
        )


def _measured(row: Mapping[Any, Any]) -> dict[str, str]:
    """Measure and control of a depth, as fields and as text."""
    names = (MEASURES[row["measure"]], CONTROL_NAMES[row["control"]])
    return {"detail": ", ".join(filter(None, names)), "measure": row["measure"], "control": row["control"]}


def _variance_partition(study: Study) -> Iterator[Finding]:
    """The components of R² of the layer that explains most together with the covariates."""
    method = f"banded ridge regression of a layer with the covariates, compared with each alone; {BCA}"
    covariates = JOINED.join(band["name"] for band in study.runs[0].plan.get("covariates", []))
    for _, rows in study.variance_partition.groupby(["encoder", "target"], sort=False):
        row = rows.iloc[int(np.nanargmax(rows["with_covariates"]))].to_dict()
        for name in COMPONENTS:
            ends = {"estimate": row[name], "ci_low": row[f"{name}_ci_low"], "ci_high": row[f"{name}_ci_high"]}
            fields = {"detail": shown_name(name), "component": name, "covariates": covariates}
            yield make_finding("unique_variance", {**row, **ends}, "r2", method=method, source=BANDED, **fields)


def _encoder_differences(study: Study) -> Iterator[Finding]:
    method = f"paired difference of two encoders, each at the layer selected by cross-validation ({SELECTED}); {BCA}"
    for row in study.encoder_differences.to_dict("records"):
        yield make_finding("encoder_difference", row, study.metric, method=method, source=EFRON, **compared(row))


def _fusion(study: Study) -> Iterator[Finding]:
    """Scores of fused encoders, and their gain over each encoder alone."""
    bootstrap = study.bootstrap.table()
    for probe, method in FUSION.items():
        for row in bootstrap[(bootstrap["probe"] == probe) & (bootstrap["control"] == "none")].to_dict("records"):
            fields = {"detail": shown_name(probe), "probe": probe}
            yield make_finding(
                "fusion", untested(row), study.metric, method=f"{method}; {BCA}", source=BANDED, **fields
            )
        for row in study.fusion_gains[study.fusion_gains["probe"] == probe].to_dict("records"):
            added, alone = str(row["added"]), str(row["alone"])
            yield make_finding(
                "fusion_gain",
                row,
                study.metric,
                method=f"{method}, minus the same probe of {alone} alone; {BCA}",
                source=BANDED,
                detail=f"{added} added to {alone}, {shown_name(probe)}",
                reference=alone,
                probe=probe,
                added=added,
                alone=alone,
            )


def _subgroups(study: Study) -> Iterator[Finding]:
    for row in study.by_subgroup.to_dict("records"):
        fields = {"grouping": str(row["grouping"]), "group": str(row["group"])}
        sizes: dict[str, Any] = {"n_utterances": int(row["n"]), "n_speakers": int(row["n_speakers"])}
        detail = f"{row['grouping']}: {row['group']}"
        untested_row = untested(row)
        yield make_finding(
            "subgroup", untested_row, study.metric, method=BCA, source=EFRON, detail=detail, **fields, **sizes
        )


def _cross_corpus(study: Study) -> Iterator[Finding]:
    method = f"layer and probe chosen on one corpus, tested on held-out speakers of each; {BCA}"
    for row in study.cross_corpus.to_dict("records"):
        train, test = str(row["source"]), str(row["test"])
        corpora = {"detail": f"{train} to {test}", "train_corpus": train, "test_corpus": test}
        yield make_finding("cross_corpus", untested(row), study.metric, method=method, source=EFRON, **corpora)


def _adjusted(findings: list[Finding]) -> list[Finding]:
    """Return the findings with p-values adjusted by Holm's method within each name and comparison.

    Gains and shifts between encoders with the same layers are adjusted where they are computed.
    """
    families = pd.Series([repr(f.comparison) for f in findings], dtype=object)
    p = np.array([np.nan if f.name in ADJUSTED else f.p_value for f in findings])
    adjusted = np.array([f.p_adjusted for f in findings])
    for family in families.unique():
        members = np.flatnonzero((families == family).to_numpy() & np.isfinite(p))
        if len(members):
            adjusted[members] = holm(p[members])
    return [replace(f, p_adjusted=float(q)) for f, q in zip(findings, adjusted, strict=True)]
