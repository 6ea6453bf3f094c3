"""The parts of a report: each a heading, some words, a picture, a table of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.findings.formatting import p_text, ranged, shown_name
from layerprobe.analysis.findings.records import NAMES, Finding
from layerprobe.analysis.layers.depth import MEASURES
from layerprobe.analysis.layers.variance_partitioning import SHARES
from layerprobe.analysis.layers.weights import concentration, weight_summary
from layerprobe.analysis.similarity.table import RATINGS
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS, INTERVAL_NAMES
from layerprobe.analysis.statistics.word_error_rate import error_rates
from layerprobe.analysis.study import Study
from layerprobe.figures.plots.curves import BASELINES
from layerprobe.probe.metrics import DEFAULT_METRIC, METRIC_NAMES
from layerprobe.probe.results.run_folder import CHOSEN, POOLED


@dataclass(frozen=True)
class Section:
    """One part of the page; whatever is empty is left out."""

    title: str
    words: list[str] = field(default_factory=list)
    picture: str = ""  # a key of the page's pictures
    caption: str = ""
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    folded: bool = False  # whether the table is shown on demand


def sections_of(study: Study, findings: list[Finding]) -> list[Section]:
    """Every part between the heatmap and the methods, in the order of the page; those without content are left out."""
    name = METRIC_NAMES[study.metric]
    parts = [
        Section(
            f"Curves, {name}",
            picture="curves",
            caption=f"The same scores over relative depth. Ribbons are intervals of each layer's score ({INTERVAL_NAMES[BCA_SPEAKERS]}, "
            "BCa); the draws are shared, so layers whose ribbons overlap may still differ.",
        ),
        Section(
            "Which layer",
            [
                "How often each layer is the best under draws of speakers; full bars can't be told from the best.",
                "Below, what the usual choices give away against a layer chosen inside the training speakers; above 0 "
                "is a loss.",
            ],
            picture="best-layer",
            header=["encoder", "target", "usual choice", "layer", "gives away", "p"],
            rows=[
                [r["encoder"], shown_name(r["target"]), r["choice"], r["layer"], ranged(r), p_text(r["p_value"])]
                for r in _records(study.regrets)
            ],
        ),
        _depth(study),
        Section(
            "Beyond random weights",
            ["What training adds to each layer: its score less that of the same layer with random weights."],
            picture="gain-over-random",
            caption="Blue and red around zero; marked cells have a 95 % interval over speakers that leaves zero out.",
        ),
        _controls(findings),
        _weights(study),
        _shares(study),
        _fusion(findings),
        _groups(study),
        _similarity(study),
        _baselines(study.scores),
        _transcripts(study),
    ]
    return [part for part in parts if part.picture or part.rows]


def all_findings(findings: list[Finding]) -> Section:
    """Every record as a row."""
    rows = [
        [f.encoder, shown_name(f.target), NAMES[f.name], shown_name(f.detail), f.layer, f.value, _p(f.p_adjusted)]
        for f in findings
    ]
    header = ["encoder", "target", "finding", "of", "layer", "value", "p, Holm"]
    return Section("All findings", header=header, rows=rows, folded=True)


def cell_texts(cells: pd.DataFrame, table: pd.DataFrame, metric: str) -> list[str]:
    """What is said of each cell of the heatmap when it is pointed at.

    Args:
        cells: rows ``encoder, control, target, layer`` in drawing order
        table: `Study.table` of the ridge
        metric: a key of `METRIC_NAMES`
    """
    keys = ["encoder", "control", "target", "layer"]
    texts = []
    for row in cells[keys].merge(table, how="left", on=keys, validate="one_to_one").to_dict("records"):
        text = f"{row['encoder']}, {shown_name(row['target'])}, layer {row['layer']}"
        if row["control"] != "none":
            text += f" ({shown_name(row['control'])})"
        text += f": {METRIC_NAMES[metric]} {row['value']:.3f}"
        if np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
            text += f", {INTERVAL_NAMES[row['interval']]} {row['ci_low']:.3f} to {row['ci_high']:.3f}"
        if np.isfinite(row.get("alpha", np.nan)):
            text += f", median alpha {row['alpha']:g}"
        if row["control"] == "none" and row["in_best_set"]:
            text += ", not told from the best"
        texts.append(text)
    return texts


def _depth(study: Study) -> Section:
    kinds = {"none": "", "random_init": "random weights", "difference": "less that of random weights"}
    rows = [
        [r["encoder"], r["name"], MEASURES[r["measure"]], kinds[r["control"]], ranged(r), _p(r["p_value"])]
        for r in _records(study.contrasts)
    ]
    words = [
        "Where a target lies, on relative depth: 0 enters the first block, 1 leaves the last. Three measures of one "
        "idea, none of them the truth; the expected layer needs cumulative mixes (--layer-mixes all)."
    ]
    if rows:
        words.append("The hypothesis is that valence lies deeper than arousal: a difference above 0.")
    picture = "depth" if len(study.depth_table) else ""
    header = ["encoder", "difference", "measure", "", "on relative depth", "p"]
    return Section("Depth", words, picture=picture, header=header, rows=rows)


def _controls(findings: list[Finding]) -> Section:
    wanted = ("chance", "gain_over_random", "selectivity")
    rows = [
        [
            f.encoder,
            shown_name(f.target),
            NAMES[f.name],
            shown_name(f.detail),
            f.layer,
            f.value,
            _p(f.p_value),
            _p(f.p_adjusted),
        ]
        for f in findings
        if f.name in wanted
    ]
    words = ["What the best layer's score must be held against. p of chance takes the number of layers into account."]
    header = ["encoder", "target", "control", "", "layer", "value", "p", "p, Holm"]
    return Section("Controls", words, header=header, rows=rows)


def _weights(study: Study) -> Section:
    words = [
        "A weight is a setting of a model, not a measure of relevance: other starts settle on others, and it "
        "multiplies a layer of some size. Contribution is weight times the norm of the layer as it is mixed, a share "
        "of all; ± is the standard deviation over seeds. Read them beside the layers' own scores."
    ]
    header = ["encoder", "mix", "target", METRIC_NAMES[DEFAULT_METRIC], "entropy, bits", "from uniform, bits"]
    header.append("layers that contribute most: weight, contribution")
    picture = "layer-weights" if len(study.weights_table) else ""
    return Section("Mixes of layers", words, picture=picture, header=header, rows=mix_rows(study))


def mix_rows(study: Study) -> list[list[str]]:
    """Each mix and target with the score it reaches, its weights' entropy, and the layers that contribute the most."""
    weights = study.weights
    if weights.empty:
        return []
    summary, bits = weight_summary(weights), concentration(weights)
    scores = study.scores[(study.scores["fold"] == POOLED) & (study.scores["metric"] == DEFAULT_METRIC)]
    rows = []
    for fit in bits[bits["control"] == "none"].to_dict("records"):
        same = {key: fit[key] for key in ("encoder", "control", "probe", "target")}
        most = _matching(summary, same).sort_values("contribution", ascending=False).head(3)
        layers = []
        for layer in most.to_dict("records"):
            spread = "" if np.isnan(layer["weight_std"]) else f" ± {layer['weight_std']:.2f}"
            layers.append(f"{layer['layer']}: {layer['weight']:.2f}{spread}, {layer['contribution']:.2f}")
        score = _matching(scores, same)["value"].mean()
        numbers = [f"{v:.2f}" for v in (score, fit["entropy"], fit["divergence"])]
        rows.append([fit["encoder"], shown_name(fit["probe"]), shown_name(fit["target"]), *numbers, "; ".join(layers)])
    return rows


def _shares(study: Study) -> Section:
    covariate = " and ".join(band["name"] for band in study.runs[0].plan.get("covariates", []))
    rows = []
    for row in _records(study.variance_partition):
        ends = [
            ranged({"estimate": row[k], "ci_low": row[f"{k}_ci_low"], "ci_high": row[f"{k}_ci_high"]}) for k in SHARES
        ]
        rows.append([row["encoder"], shown_name(row["target"]), row["layer"], *ends])
    header = ["encoder", "target", "layer", "layer alone", "beside alone", "both", "only the layer", "only beside"]
    words = [f"Shares of the ratings' variance, on speakers never heard, when each layer is fitted beside {covariate}."]
    return Section("What is unique", words, header=[*header, "shared"], rows=rows, folded=len(rows) > 30)


def _fusion(findings: list[Finding]) -> Section:
    """A row for what each encoder adds, with the score that they reach together."""
    together = {(f.detail, f.target): f for f in findings if f.name == "fusion"}
    rows = []
    for f in findings:
        if f.name == "fusion_gain":
            who, _, way = f.detail.rpartition(", ")
            added, _, alone = who.partition(" over ")
            score = ranged(vars(together[way, f.target]))
            p = [_p(f.p_value), _p(f.p_adjusted)]
            rows.append(
                [shown_name(way), shown_name(f.target), score, f"{added} over {alone} alone", ranged(vars(f)), *p]
            )
    words = [
        "Frozen encoders fitted side by side on the same speakers. Fused ridge takes of each the layer with the least "
        "error inside the training speakers, with a penalty each; the fused weighted sum has one softmax over all "
        "layers of all. What one adds over another is held against the same way of reading the other alone; intervals "
        "are over speakers."
    ]
    header = ["way", "target", "together", "what is added", "by so much", "p", "p, Holm"]
    return Section("Encoders together", words, header=header, rows=rows)


def _groups(study: Study) -> Section:
    rows = []
    for (encoder, target), own in study.by_speaker.groupby(["encoder", "target"], sort=False):
        worst, best = (own.iloc[int(k)].to_dict() for k in (np.nanargmin(own["value"]), np.nanargmax(own["value"])))
        quartiles = " / ".join(f"{q:.2f}" for q in own["value"].quantile([0.25, 0.5, 0.75]))
        text = f"{quartiles}; from {worst['value']:.2f} ({worst['speaker_id']}) to {best['value']:.2f}"
        who = f"{len(own)} speakers with 10 utterances or more: quartiles"
        rows.append([str(encoder), shown_name(target), _layer(own["layer"].iloc[0]), who, text])
    for row in _records(study.by_subgroup):
        who = f"{row['grouping']} {row['group']} ({row['n']} utterances, {row['n_speakers']} speakers)"
        rows.append([row["encoder"], shown_name(row["target"]), _layer(row["layer"]), who, ranged(row)])
    for row in _records(study.cross_corpus):
        who = f"trained on {row['source']}, tested on {row['test']}"
        rows.append([row["encoder"], shown_name(row["target"]), row["layer"], who, ranged(row)])
    words = ["Scores of some utterances alone; a score over all can hide that it fails somebody."]
    return Section("Whom it fails", words, header=["encoder", "target", "layer", "who", "score"], rows=rows)


def _similarity(study: Study) -> Section:
    table = study.similarity
    if table is None:
        return Section("Similarity")
    rows = []
    to_ratings = table[(table["encoder_b"] == RATINGS) & (table["encoder_a"] != RATINGS)]
    for (encoder, target, measure), own in to_ratings.groupby(["encoder_a", "layer_b", "measure"], sort=False):
        if not own["value"].notna().any():
            continue
        best = own.iloc[int(np.nanargmax(own["value"]))].to_dict()
        p = p_text(best["p_permutation"]) if np.isfinite(best["p_permutation"]) else ""
        rows.append(
            [str(encoder), shown_name(target), str(measure).upper(), best["layer_a"], f"{best['value']:.3f}", p]
        )
    words = [
        "Which layers say the same, without any probe: debiased linear CKA. Below, the layer that resembles each "
        "rating the most; p of RSA is of that layer alone, not corrected for the choice."
    ]
    header = ["encoder", "target", "measure", "most alike layer", "value", "p"]
    return Section("Similarity", words, picture="similarity", header=header, rows=rows)


def _baselines(scores: pd.DataFrame) -> Section:
    """What is reached without a layer, for each target: r, CCC and the error."""
    rows = scores[scores["baseline"].isin(["mean_rating", *BASELINES]) & (scores["fold"] == POOLED)]
    if rows.empty:
        return Section("Without any layer")
    means = rows.groupby(["baseline", "target", "metric"], sort=False)["value"].mean().unstack().reset_index()
    names = {"mean_rating": "mean of the training ratings"} | {c: name for c, (name, _) in BASELINES.items()}
    shown = [m for m in ("pearson", "ccc", "rmse", "uar") if m in means]
    texts = [
        [
            names[str(row["baseline"])],
            shown_name(row["target"]),
            ", ".join(f"{METRIC_NAMES[m]} {row[m]:.2f}" for m in shown if np.isfinite(row[m])),
        ]
        for row in means.to_dict("records")
    ]
    return Section("Without any layer", header=["", "target", "scores"], rows=texts)


def _transcripts(study: Study) -> Section:
    errors = study.word_errors
    if errors is None or errors.empty:
        return Section("Transcripts")
    rows = [[name, ranged(vars(rate), digits=3)] for name, rate in error_rates(errors).items()]
    words = [
        f"The recogniser's words against people's, over {int(errors['n_words'].sum())} words; intervals over speakers."
    ]
    return Section("Transcripts", words, header=["errors over words", "rate"], rows=rows)


def _records(table: pd.DataFrame) -> Iterable[dict[Any, Any]]:
    return table.to_dict("records")


def _matching(table: pd.DataFrame, same: dict[str, Any]) -> pd.DataFrame:
    chosen = np.ones(len(table), dtype=bool)
    for key, value in same.items():
        chosen &= (table[key] == value).to_numpy()
    return table[chosen]


def _layer(text: object) -> str:
    return "chosen inside" if text == CHOSEN else str(text)


def _p(p: float) -> str:
    return p_text(p).removeprefix("p = ").removeprefix("p ") if np.isfinite(p) else ""
