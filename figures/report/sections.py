"""The sections of a report between its heatmap and its methods: a heading, sentences, a figure, tables of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.findings.records import NAMES, Finding
from layerprobe.analysis.formatting import NONE, layer_text, number_text, p_cell, range_text, shown_name
from layerprobe.analysis.layers.depth import MEASURES
from layerprobe.analysis.layers.variance_partitioning import COLUMNS
from layerprobe.analysis.layers.weights import concentration, weight_summary
from layerprobe.analysis.similarity.table import RATINGS
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS, INTERVAL_NAMES
from layerprobe.analysis.statistics.word_error_rate import error_rates
from layerprobe.analysis.study import Study
from layerprobe.analysis.subgroups import FEWEST_UTTERANCES
from layerprobe.figures.captions import resampled_units
from layerprobe.figures.plots.references import BASELINES
from layerprobe.figures.report.classes import classes_section
from layerprobe.figures.report.cost import cost_section
from layerprobe.figures.report.encoder_gains import encoder_gain_section
from layerprobe.figures.report.erasure import erasure_sections
from layerprobe.figures.report.tables import INTERVAL, Section, Table
from layerprobe.figures.report.time import time_sections
from layerprobe.probe.metrics import DEFAULT_METRIC, METRIC_NAMES
from layerprobe.probe.results.run_folder import POOLED

WEIGHTS = {"none": "trained", "random_init": "random initialisation", "difference": "trained minus random"}


def make_sections(study: Study, findings: list[Finding]) -> list[Section]:
    """Return the sections between heatmap and methods in the order of the page, without those that have no content."""
    name = METRIC_NAMES[study.metric]
    interval = INTERVAL_NAMES[BCA_SPEAKERS].replace("speakers", resampled_units(study))
    sections = [
        Section(
            f"Curves, {name}",
            [
                f"Ribbons are the intervals of each layer's score ({interval}, BCa). Differences are paired, so layers "
                "whose ribbons overlap may still differ significantly."
            ],
            figure="curves",
        ),
        *time_sections(study),
        *erasure_sections(study),
        _layer_selection(study),
        _depth(study),
        Section("Gain over random initialisation", figure="gain-over-random"),
        _controls(findings),
        _layer_weighting(study),
        _variance_partitioning(study),
        _encoders(findings),
        encoder_gain_section(findings),
        _fusion(findings),
        classes_section(study),
        _performance(study),
        cost_section(study),
        _similarity(study),
        _baselines(study.scores),
        _transcripts(study),
    ]
    filled = []
    for section in sections:
        tables = [table for table in section.tables if table.rows]
        if section.figure or tables:
            filled.append(Section(section.title, section.text, section.figure, tables))
    return filled


def _layer_selection(study: Study) -> Section:
    text = [
        "The table shows the loss of default choices of a layer: the score of the layer selected by cross-validation "
        "inside the training speakers minus that of the default choice, above 0 where the default is worse.",
    ]
    rows = [
        [r["encoder"], shown_name(r["target"]), r["choice"], r["layer"], *_with_interval(r), p_cell(r["p_value"])]
        for r in _records(study.regrets)
    ]
    header = ["encoder", "target", "default choice", "layer", "loss", INTERVAL, "p"]
    return Section("Layer selection", text, figure="best-layer", tables=[Table(header, rows)])


def _depth(study: Study) -> Section:
    rows = [
        [
            r["encoder"],
            shown_name(r["deeper"]),
            shown_name(r["shallower"]),
            MEASURES[r["measure"]],
            WEIGHTS[r["control"]],
            *_with_interval(r),
            p_cell(r["p_adjusted"]),
        ]
        for r in _records(study.contrasts)
    ]
    text = [
        "Relative depth runs from 0, the input of the first block, to 1, the output of the last. Whether one target "
        "lies deeper than another is tested by the shift between their profiles over layers, which a target that is "
        "only weaker does not change; p-values are adjusted by Holm's method. The other measures describe, and move "
        "with the level of the scores, too; the expected layer needs cumulative mixes (--layer-mixes all)."
    ]
    if rows:
        text.append("The hypothesis is that valence lies deeper than arousal: a difference of depths above 0.")
    figure = "depth" if len(study.depth_table) else ""
    header = ["encoder", "target", "minus", "measure", "weights", "difference of depths", INTERVAL, "p"]
    return Section("Depth", text, figure=figure, tables=[Table(header, rows)])


def _controls(findings: list[Finding]) -> Section:
    rows = [
        [
            *(f.encoder, shown_name(f.target), NAMES[f.name], shown_name(f.control or f.reference), f.layer),
            *(number_text(f.estimate), range_text(f.ci_low, f.ci_high), range_text(f.draw_min, f.draw_max)),
            *(p_cell(f.p_value), p_cell(f.p_adjusted)),
        ]
        for f in findings
        if f.name in ("chance", "gain_over_random", "gain_over_best_random", "selectivity", "gain_over_acoustic")
    ]
    text = [
        "What the score of the highest-scoring layer is compared with. The p-value of the chance level is corrected "
        "for the number of layers. Selectivity is the score minus the mean score on the ratings of a control task, "
        "which counts as 0 where it is below 0: what the layer predicts beyond speaker identity and beyond what a "
        "probe of its size fits to anything."
    ]
    header = ["encoder", "target", "comparison", "control", "layer", "estimate", INTERVAL, "range over permutations"]
    return Section("Controls", text, tables=[Table([*header, "p", "p (Holm)"], rows)])


def _layer_weighting(study: Study) -> Section:
    text = [
        "The weighted sum multiplies each standardised layer with a weight, and the sum of all with one linear head. A "
        "weight is the layer's fraction of the sum that predicts unseen speakers best, where uneven weights are "
        "penalised as far as the inner folds favour it. It is not the fraction of the information that the layer has: "
        "what adjacent layers both carry is taken from either, so a small weight does not show that a layer lacks the "
        "target. The interval shows how far the weight depends on the training speakers (a jackknife over the inner "
        "folds). The contribution is the weight times the norm of the layer, as a fraction of the sum over layers. "
        "Read both together with the layers' own scores. Without the penalty (softmax mix) the weights mostly select "
        "one layer, whichever layers carry the ratings. The table lists the three layers of each mix with the largest "
        "contribution; a uniform mix gives all layers the same weight."
    ]
    header = ["encoder", "probe", "target", METRIC_NAMES[DEFAULT_METRIC], "entropy (bits)", "divergence (bits)"]
    header += ["layer", "weight", INTERVAL, "SD over folds", "contribution"]
    figure = "layer-weights" if len(study.weights_table) else ""
    return Section("Layer weighting", text, figure=figure, tables=[Table(header, weight_rows(study))])


def weight_rows(study: Study) -> list[list[str]]:
    """Return three rows for each mix and target: its score and entropy, and a layer with its weight and contribution.

    A uniform mix has one row for all its layers, which have the same weight.

    The entropy of the weights and their divergence from uniform weights are in bits; they add up to the logarithm of
    the number of layers.
    """
    weights = study.weights
    if weights.empty:
        return []
    summary, bits = weight_summary(weights), concentration(weights)
    scores = study.scores[(study.scores["fold"] == POOLED) & (study.scores["metric"] == DEFAULT_METRIC)]
    rows = []
    for fit in bits[bits["control"] == "none"].to_dict("records"):
        same = {key: fit[key] for key in ("encoder", "control", "probe", "target")}
        score = _matching(scores, same)["value"].mean()
        names = [fit["encoder"], shown_name(fit["probe"]), shown_name(fit["target"])]
        names += [number_text(v) for v in (score, fit["entropy"], fit["divergence"])]
        if fit["probe"] == "uniform_mix":
            rows.append([*names, "all", number_text(_matching(summary, same)["weight"].mean()), NONE, NONE, NONE])
            continue
        for layer in _records(_matching(summary, same).sort_values("contribution", ascending=False).head(3)):
            interval = range_text(layer["weight_low"], layer["weight_high"])
            weight, deviation, contribution = (
                number_text(layer[k]) for k in ("weight", "weight_fold_std", "contribution")
            )
            rows.append([*names, layer["layer"], weight, interval, deviation, contribution])
    return rows


def _variance_partitioning(study: Study) -> Section:
    covariates = " and ".join(band["name"] for band in study.runs[0].plan.get("covariates", []))
    rows = []
    for row in _records(study.variance_partition):
        numbers = []
        for name in COLUMNS:
            numbers += [number_text(row[name]), range_text(row[f"{name}_ci_low"], row[f"{name}_ci_high"])]
        rows.append([row["encoder"], shown_name(row["target"]), row["layer"], *numbers])
    names = ("layer alone", "covariates alone", "both", "unique to layer", "unique to covariates", "shared")
    header = ["encoder", "target", "layer", *(cell for name in names for cell in (name, INTERVAL))]
    text = [f"R² of the ratings of unseen speakers, where each layer is fitted together with covariates: {covariates}."]
    return Section("Variance partitioning", text, tables=[Table(header, rows, is_folded=len(rows) > 30)])


def _encoders(findings: list[Finding]) -> Section:
    rows = [
        [
            *(shown_name(f.target), f.encoder, str(f.reference), number_text(f.estimate)),
            *(range_text(f.ci_low, f.ci_high), p_cell(f.p_value), p_cell(f.p_adjusted)),
        ]
        for f in findings
        if f.name == "encoder_difference"
    ]
    text = [
        "Paired differences between encoders, each at the layer selected by cross-validation; above 0 where the "
        "encoder is better than the reference. p-values are adjusted over all pairs and targets."
    ]
    header = ["target", "encoder", "reference", "difference", INTERVAL, "p", "p (Holm)"]
    return Section("Encoder comparison", text, tables=[Table(header, rows)])


def _fusion(findings: list[Finding]) -> Section:
    """The gain of fusion over each encoder alone, with the score of the fused encoders."""
    together = {(f.probe, f.encoder, f.target): f for f in findings if f.name == "fusion"}
    rows = []
    for f in findings:
        if f.name == "fusion_gain":
            score = together[f.probe, f.encoder, f.target]
            rows.append(
                [
                    *(shown_name(f.probe), shown_name(f.target), number_text(score.estimate)),
                    *(range_text(score.ci_low, score.ci_high), str(f.added), str(f.alone), number_text(f.estimate)),
                    *(range_text(f.ci_low, f.ci_high), p_cell(f.p_value), p_cell(f.p_adjusted)),
                ]
            )
    text = [
        "Frozen encoders probed together. Fused ridge takes the layer of each encoder with the lowest error inside the "
        "training speakers, with a penalty for each; the fused weighted sum has one softmax over the layers of all "
        "encoders. The gain is the score minus that of the same kind of probe of one encoder alone."
    ]
    header = ["probe", "target", "score", INTERVAL, "added", "to", "gain", INTERVAL, "p", "p (Holm)"]
    return Section("Fusion", text, tables=[Table(header, rows)])


def _performance(study: Study) -> Section:
    """Scores of speakers, of subgroups, and between corpora."""
    speakers = []
    for (encoder, target), part in study.by_speaker.groupby(["encoder", "target"], sort=False):
        values = part["value"]
        if not values.notna().any():
            continue
        worst = str(part["speaker_id"].iloc[int(np.nanargmin(values))])
        quartiles = [number_text(q) for q in values.quantile([0, 0.25, 0.5, 0.75, 1])]
        names = [str(encoder), shown_name(target), layer_text(part["layer"].iloc[0]), str(len(part))]
        speakers.append([*names, *quartiles, worst])
    groups, corpora = [], []
    for row in _records(study.by_subgroup):
        sizes = [str(row["n"]), str(row["n_speakers"])]
        names = [row["encoder"], shown_name(row["target"]), layer_text(row["layer"]), row["grouping"], row["group"]]
        groups.append([*names, *sizes, *_with_interval(row)])
    for row in _records(study.cross_corpus):
        names = [row["encoder"], shown_name(row["target"]), row["layer"], row["source"], row["test"]]
        corpora.append([*names, *_with_interval(row)])
    text = [
        f"Scores of single speakers (with {FEWEST_UTTERANCES} or more utterances), of genders and corpora, and of "
        "probes trained on one corpus: a score over all utterances can hide a group for which predictions are poor."
    ]
    names = ["encoder", "target", "layer"]
    quartile_names = ["minimum", "lower quartile", "median", "upper quartile", "maximum", "speaker with the minimum"]
    tables = [
        Table([*names, "speakers", *quartile_names], speakers),
        Table([*names, "grouping", "group", "utterances", "speakers", "score", INTERVAL], groups),
        Table([*names, "training corpus", "test corpus", "score", INTERVAL], corpora),
    ]
    return Section("Performance by speaker and group", text, tables=tables)


def _similarity(study: Study) -> Section:
    table = study.similarity
    if table is None:
        return Section("Similarity")
    rows = []
    to_ratings = table[(table["encoder_b"] == RATINGS) & (table["encoder_a"] != RATINGS)]
    for (encoder, target, measure), part in to_ratings.groupby(["encoder_a", "layer_b", "measure"], sort=False):
        if not part["value"].notna().any():
            continue
        best = part.iloc[int(np.nanargmax(part["value"]))].to_dict()
        names = [str(encoder), shown_name(target), str(measure).upper(), best["layer_a"]]
        rows.append([*names, number_text(best["value"], digits=3), p_cell(best["p_permutation"])])
    text = [
        "Similarity of layers without a probe: debiased linear CKA. The table lists the layer that is most similar to "
        "each rating; p-values of RSA are not corrected for the choice of the layer."
    ]
    header = ["encoder", "target", "measure", "most similar layer", "similarity", "p"]
    return Section("Similarity", text, figure="similarity", tables=[Table(header, rows)])


def _baselines(scores: pd.DataFrame) -> Section:
    """Scores without an encoder: the mean rating, one rater, the transcript, duration and loudness."""
    rows = scores[scores["baseline"].isin(["mean_rating", *BASELINES]) & (scores["fold"] == POOLED)]
    if rows.empty:
        return Section("Baselines")
    means = rows.groupby(["baseline", "target", "metric"], sort=False)["value"].mean().unstack().reset_index()
    names = {"mean_rating": "mean of the training ratings"} | {c: name for c, (name, _) in BASELINES.items()}
    metrics = [m for m in ("pearson", "ccc", "rmse", "uar") if m in means]
    cells = [
        [names[str(row["baseline"])], shown_name(row["target"]), *(number_text(row[m]) for m in metrics)]
        for row in _records(means)
    ]
    header = ["baseline", "target", *(METRIC_NAMES[m] for m in metrics)]
    return Section("Baselines", tables=[Table(header, cells)])


def _transcripts(study: Study) -> Section:
    errors = study.word_errors
    if errors is None or errors.empty:
        return Section("Transcripts")
    rows = [[name, *_with_interval(vars(rate), digits=3)] for name, rate in error_rates(errors).items()]
    n_words = int(errors["n_words"].sum())
    text = [f"Errors of the ASR transcripts over {n_words} words of the human transcripts; intervals over speakers."]
    return Section("Transcripts", text, tables=[Table(["kind of error", "rate", INTERVAL], rows)])


def _records(table: pd.DataFrame) -> Iterable[dict[Any, Any]]:
    return table.to_dict("records")


def _with_interval(row: dict[str, Any], *, digits: int = 2) -> Sequence[str]:
    """Return two cells: the estimate and its interval."""
    return number_text(row["estimate"], digits=digits), range_text(row["ci_low"], row["ci_high"], digits=digits)


def _matching(table: pd.DataFrame, same: dict[str, Any]) -> pd.DataFrame:
    matches = np.ones(len(table), dtype=bool)
    for key, value in same.items():
        matches &= (table[key] == value).to_numpy()
    return table[matches]
