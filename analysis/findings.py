"""The Finding record and findings.json; every sentence of a report is made from a record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from analysis.relevance import LOWER_IS_BETTER, METRIC_NAMES, best_layer, best_of, layer_scores, with_intervals


@dataclass(frozen=True)
class Finding:
    """One answer with its spread and where it comes from."""

    name: str  # "best_layer", "weighted_sum", "random_weights" or "permuted_ratings"
    encoder: str
    target: str
    layer: str
    metric: str
    estimate: float
    low: float
    high: float
    spread: str  # what low and high are
    method: str
    source: str

    @property
    def value(self) -> str:
        """The estimate with its spread, in words."""
        return f"{self.estimate:.2f} ({self.spread} {self.low:.2f} to {self.high:.2f})"


NAMES = {
    "best_layer": "best layer",
    "weighted_sum": "weighted sum",
    "random_weights": "best layer of random weights",
    "permuted_ratings": "permuted ratings",
}
RIDGE = "ridge per layer on standardised embeddings, alpha from inner speaker-disjoint folds"
LIN = "Lin (1989), Biometrics 45"


def find(scores: pd.DataFrame, *, metric: str, intervals: pd.DataFrame | None = None) -> list[Finding]:
    """Best layers, the weighted sum and the controls' levels, for each encoder and target.

    The best layer is the highest of several held-out scores and so a little too good; neighbours within its range are
    not told apart.

    Args:
        scores: tidy rows of a run
        metric: a key of `analysis.relevance.METRIC_NAMES`
        intervals: of `analysis.intervals.score_intervals`; without them a range is that over folds
    """
    table = with_intervals(layer_scores(scores, metric=metric), intervals)
    findings = []
    for (encoder, target), rows in table.groupby(["encoder", "target"], sort=False):
        ridge = rows[rows["probe"] == "ridge"]
        for control, name in (("none", "best_layer"), ("random_init", "random_weights")):
            part = ridge[ridge["control"] == control].set_index("layer")
            if part["value"].notna().any():
                layer = best_layer(part["value"], metric=metric)
                low, value, high = (float(part.loc[layer, c]) for c in ("lowest", "value", "highest"))  # type: ignore[arg-type]
                of_layer = (str(encoder), str(target), layer, metric, value, low, high)
                findings.append(Finding(name, *of_layer, str(part.loc[layer, "spread"]), RIDGE, LIN))
        mixed = rows[(rows["probe"] == "weighted_sum") & (rows["control"] == "none")]
        for row in mixed.to_dict("records"):
            spread = (row["value"], row["seed_lowest"], row["seed_highest"], "seeds")
            method = "softmax mix of standardised layers and a linear head, least squares, mean and spread matched"
            label = ("weighted_sum", str(encoder), str(target), "all", metric)
            findings.append(Finding(*label, *spread, method, "Yang et al. (2021), SUPERB"))
        nothing = ridge[ridge["control"] == "permuted"]
        if nothing["value"].notna().any():
            low, high = float(nothing["seed_lowest"].min()), float(nothing["seed_highest"].max())
            level = float(nothing["value"].mean())
            label = ("permuted_ratings", str(encoder), str(target), "all", metric)
            findings.append(Finding(*label, level, low, high, "layers and permutations", RIDGE, LIN))
    return findings


def headlines(findings: list[Finding]) -> list[str]:
    """One sentence per encoder and target, whichever way the numbers fall."""
    sentences = []
    for best in (f for f in findings if f.name == "best_layer"):
        beside = {f.name: f for f in findings if (f.encoder, f.target) == (best.encoder, best.target)}
        if "permuted_ratings" not in beside:
            continue  # without a floor there is nothing to say
        metric, nothing = METRIC_NAMES[best.metric], beside["permuted_ratings"]
        floor = nothing.low if best.metric in LOWER_IS_BETTER else nothing.high
        if best_of(best.estimate, floor, metric=best.metric) == floor:
            sentences.append(
                f"{best.encoder} shows nothing of {best.target}: its best layer, {best.layer}, reaches {metric} "
                f"{best.value}, no better than permuted ratings ({nothing.low:.2f} to {nothing.high:.2f})."
            )
            continue
        sentence = f"{best.encoder} predicts {best.target} best from layer {best.layer}: {metric} {best.value}"
        if "random_weights" in beside:
            untrained = beside["random_weights"]
            word = "less" if best_of(best.estimate, untrained.estimate, metric=best.metric) == best.estimate else "more"
            sentence += f"; random weights alone reach {untrained.estimate:.2f}, {word} than that"
        sentences.append(sentence + f"; permuted ratings reach {floor:.2f}.")
    return sentences


def write_findings(path: Path, findings: list[Finding], *, fingerprint: str) -> None:
    """Write the records with the run's fingerprint."""
    content = {"fingerprint": fingerprint, "findings": [asdict(f) for f in findings]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def warn(plan: dict, scores: pd.DataFrame) -> list[str]:  # type: ignore[type-arg]
    """What a reader must know before believing the scores."""
    warnings = []
    untrained = [e["name"] for e in plan["encoders"] if e.get("random_init") is not None]
    if untrained:
        warnings.append(
            f"The weights of {', '.join(untrained)} are untrained: drawn at random, they have learnt nothing. Whatever "
            "their layers predict is in the sound itself and passes through any such network."
        )
    if not plan["sweep"]["speakers"]:
        warnings.append("No speakers were given: the same voice may train and test, so scores may be too good.")
    n_speakers = plan["corpus"]["n_speakers"]
    if n_speakers < 20:
        warnings.append(f"Only {n_speakers} speakers: another set of talkers may rank the layers otherwise.")
    alphas = scores[(scores["metric"] == "alpha") & (scores["control"] == "none")]["value"]
    edges = plan["sweep"]["alphas"][0], plan["sweep"]["alphas"][-1]
    n_edge = int(alphas.isin(edges).sum())
    if n_edge:
        warnings.append(
            f"Alpha lies at the edge of its grid in {n_edge} of {len(alphas)} fits; at the upper edge the ridge found "
            "nothing to learn."
        )
    for key, what in (("n_not_cached", "not in the cache"), ("n_not_rated", "without a rating for every target")):
        if plan["corpus"][key]:
            warnings.append(f"{plan['corpus'][key]} utterances of the manifest were left out: {what}.")
    return warnings
