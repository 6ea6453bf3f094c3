"""Findings that compare scores with controls: chance, random initialisation, control tasks, acoustic features."""

from __future__ import annotations

from collections.abc import Iterator

from layerprobe.analysis.findings.build import BCA, EFRON, SELECTED, best_of, compared, make_finding, row_of, untested
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.layers.depth import CHANCE_IS_ZERO
from layerprobe.analysis.statistics.permutation import BY_SPEAKER
from layerprobe.analysis.study import Study


def chance(study: Study) -> Iterator[Finding]:
    """The chance level of each encoder and target, with the p-value of its highest-scoring layer."""
    for _, rows in study.permutations.groupby(["encoder", "target"], sort=False):
        row = rows.iloc[0].to_dict()
        n, control = int(row["n_permutations"]), str(row["control"])
        scheme = "speakers' means and deviations permuted separately" if control == BY_SPEAKER else "all ratings"
        yield make_finding(
            "chance",
            {**row, "layer": "all", "estimate": row["chance"], "p_value": rows["p_permutation"].min()},
            study.metric,
            method=f"95th percentile of the maximum over layers in {n} permutations ({scheme}), every fit repeated",
            source="Westfall and Young (1993); Phipson and Smyth (2010)",
            detail=shown_name(control),
            control=control,
            n_permutations=n,
        )


def gain_over_random(study: Study) -> Iterator[Finding]:
    """The gain of the highest-scoring layer over the same layer untrained, and over the best untrained layer."""
    for (encoder, target), rows in study.gain_over_random.groupby(["encoder", "target"], sort=False):
        row = row_of(rows, best_of(study, encoder, target))
        row["estimate"] = row["value"]
        against = {"reference": "random_init", "reference_layer": str(row["layer"])}
        method = f"minus the same layer with random initialisation; {BCA}"
        yield make_finding("gain_over_random", row, study.metric, method=method, source=EFRON, **against)
    for row in study.gain_over_best_random.to_dict("records"):
        row["estimate"], layer = row["value"], str(row["reference_layer"])
        method = f"highest-scoring trained layer minus highest-scoring layer with random initialisation; {BCA}"
        against = {"reference": "random_init", "reference_layer": layer, "detail": f"layer {layer} untrained"}
        yield make_finding("gain_over_best_random", row, study.metric, method=method, source=EFRON, **against)


def gain_over_acoustic(study: Study) -> Iterator[Finding]:
    """The gain of each encoder over acoustic features, each chosen by cross-validation."""
    method = f"paired difference of an encoder and acoustic features, each selected by cross-validation ({SELECTED})"
    for row in study.gain_over_acoustic.to_dict("records"):
        yield make_finding(
            "gain_over_acoustic", row, study.metric, method=f"{method}; {BCA}", source=EFRON, **compared(row)
        )


def selectivity(study: Study) -> Iterator[Finding]:
    """The score of the highest-scoring layer minus that on the ratings of a control task, which counts as 0 below 0.

    Random ratings of a speaker can't be predicted for unseen speakers, so that their scores vary around 0. Counted as
    they are, they would make a selectivity larger than the score itself.
    """
    ridge = study.table[(study.table["probe"] == "ridge") & (study.table["encoder"] != "")]
    sign, has_zero = -1.0 if study.lower_is_better else 1.0, study.metric in CHANCE_IS_ZERO
    for (encoder, target), rows in ridge.groupby(["encoder", "target"], sort=False):
        if not ((rows["control"] == "none") & rows["value"].notna()).any():
            continue  # baselines have no encoder
        layer = best_of(study, encoder, target)
        score = float(row_of(rows[rows["control"] == "none"], layer)["value"])
        for control in ("permuted_within_speaker", "random_per_speaker"):
            for row in rows[(rows["control"] == control) & (rows["layer"] == layer)].to_dict("records"):
                values = [float(row[k]) for k in ("value", "draw_min", "draw_max")]
                mean, *ends = (sign * (score - (max(v, 0.0) if has_zero else v)) for v in values)
                low, high = sorted(ends)
                counted = ", which counts as 0 where it is below" if has_zero else ""
                yield make_finding(
                    "selectivity",
                    untested({**row, "estimate": mean}),
                    study.metric,
                    method=f"score of the layer minus its mean score on the ratings of the control task{counted}",
                    source="Hewitt and Liang (2019)",
                    detail=shown_name(control),
                    control=control,
                    draw_min=low,
                    draw_max=high,
                )
