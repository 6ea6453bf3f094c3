"""What the records say in words, whichever way the numbers fall."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from layerprobe.analysis.findings.formatting import ALPHA, p_text, shown_name
from layerprobe.analysis.findings.records import Finding
from layerprobe.probe.metrics import LOWER_IS_BETTER, METRIC_NAMES
from layerprobe.probe.results.run_folder import FUSED_RIDGE

CLAIMED = "as de Oliveira et al. (2023) found for HuBERT"


def headlines(findings: list[Finding]) -> list[str]:
    """For each encoder what it knows of each target, what a usual choice of layer gives away, and which lies deeper."""
    sentences: list[str] = []
    for encoder in dict.fromkeys(f.encoder for f in findings):
        own = [f for f in findings if f.encoder == encoder]
        for target in dict.fromkeys(f.target for f in own if f.name == "highest_scoring_layer"):
            sentences += _of_target([f for f in own if f.target == target])
        sentences += _of_depth(own)
    return [*sentences, *_of_fusion(findings)]


def knows(findings: list[Finding]) -> bool | None:
    """Whether an encoder predicts a target better than chance does; None where chance was not drawn.

    With fewer than 20 permutations no p-value can be below .05, and the best layer has to beat every permutation.
    """
    best, chance = _named(findings, "highest_scoring_layer"), _named(findings, "chance")
    if best is None or chance is None or not np.isfinite(chance.p_value):
        return None
    n = re.search(r"in (\d+) permutations", chance.method)
    least = 1 / (1 + int(n.group(1))) if n else 0.0
    return bool(chance.p_value < ALPHA or (least >= ALPHA and np.isclose(chance.p_value, least)))


def layer_ranges(layers: list[str]) -> str:
    """Runs of neighbours by their ends.

    >>> layer_ranges(["2", "3", "4", "7", "final"])
    '2 to 4, 7, final'
    """
    runs: list[list[str]] = []
    for layer in layers:
        follows = runs and layer.isdecimal() and runs[-1][-1].isdecimal() and int(layer) == int(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(r[0] if len(r) == 1 else f"{r[0]}, {r[1]}" if len(r) == 2 else f"{r[0]} to {r[-1]}" for r in runs)


def _of_target(findings: list[Finding]) -> Iterator[str]:
    best, chance, chosen = (_named(findings, name) for name in ("highest_scoring_layer", "chance", "cv_selected_layer"))
    if best is None:
        return
    target, metric = shown_name(best.target), _metric(best)
    against = "" if chance is None else f"chance ({_chance_text(chance)})"
    if knows(findings) is False:
        yield (
            f"{best.encoder} shows nothing of {target}: its best layer, {best.layer}, reaches {metric} {best.value}, "
            f"no better than {against}."
        )
        return
    if chosen is None:
        sentence = f"{best.encoder} predicts {target} best from layer {best.layer}, with {metric} {best.value}"
    else:
        sentence = (
            f"{best.encoder} predicts {target} with {metric} {chosen.value}, its layer chosen inside the training "
            f"speakers; the best of all is layer {best.layer} ({best.estimate:.2f})"
        )
    inside = _named(findings, "best_set")
    if inside is not None:
        layers = inside.layer.split(", ")
        if len(layers) == 1:
            sentence += ", and no other layer is as good"
        else:
            sentence += f", from which layers {layer_ranges(layers)} can't be told"
    yield sentence + (f"; better than {against}." if against else ".")
    yield from _of_random(findings)
    yield from _of_shares(findings)
    lost = [f for f in findings if f.name == "regret" and f.ci_low > 0]
    if lost:
        worst = ", ".join(f"the {f.detail} {f.value}" for f in lost)
        yield f"Taking a usual choice instead costs {target} in {best.encoder}: {worst}."


def _chance_text(chance: Finding) -> str:
    reach = "no better than" if chance.metric in LOWER_IS_BETTER else "up to"
    return f"the best layer on permuted ratings reaches {reach} {chance.estimate:.2f} in 95 % of draws; {p_text(chance.p_value)}"


def _of_random(findings: list[Finding]) -> Iterator[str]:
    above, untrained = _named(findings, "gain_over_random"), _named(findings, "random_init")
    if above is None or untrained is None:
        return
    where = f"layer {above.layer} of {above.encoder}"
    by = f"{abs(above.estimate):.2f} (95 % of the difference {above.ci_low:.2f} to {above.ci_high:.2f})"
    target = shown_name(above.target)
    if above.ci_low > 0:
        yield f"For {target}, training made {where} better than random weights by {by}."
    elif above.ci_high < 0:
        yield f"For {target}, {where} is worse than with random weights, by {by}."
    else:
        yield (
            f"For {target}, {where} can't be told from the same layer with random weights "
            f"(difference {above.value}): what it knows may be in the sound itself."
        )


def _of_shares(findings: list[Finding]) -> Iterator[str]:
    share = {f.detail: f for f in findings if f.name == "unique_variance"}
    if share:
        joint, layer, covariate = (share[k] for k in ("with_covariates", "unique_layer", "unique_covariates"))
        yield (
            f"Of the variance of {joint.target.replace('_', ' ')}, layer {joint.layer} of {joint.encoder} and what is "
            f"beside it explain {joint.estimate:.2f} together; {layer.value} is the layer's alone, {covariate.value} that "
            "of what is beside it."
        )


def _of_depth(findings: list[Finding]) -> Iterator[str]:
    """The claim as a hypothesis: it needs two targets of which the encoder knows something."""
    differences = [f for f in findings if f.name == "depth_difference" and f.detail == "score_centre"]
    for found in differences:
        deeper, shallower = found.target.split(" − ")
        unknown = [
            name
            for name in (deeper, shallower)
            if knows([f for f in findings if shown_name(f.target) == name]) is False
        ]
        if unknown:
            yield (
                f"How deep {' and '.join(unknown)} {'lie' if len(unknown) > 1 else 'lies'} in {found.encoder} can't be "
                f"said, because it shows nothing of {'them' if len(unknown) > 1 else 'it'}."
            )
            continue
        if not np.isfinite(found.ci_low):
            continue
        numbers = f"centres of gravity of the layers' scores on relative depth differ by {found.value}, {p_text(found.p_value)}"
        if found.ci_low > 0:
            yield f"In {found.encoder} {deeper} lies deeper than {shallower}, {CLAIMED}: {numbers}."
        elif found.ci_high < 0:
            yield f"In {found.encoder} {deeper} lies shallower than {shallower}, against what was claimed: {numbers}."
        else:
            yield f"In {found.encoder} {deeper} and {shallower} can't be told apart by depth: {numbers}."
        beyond = [f for f in findings if f.name == "depth_difference" and f.target == found.target]
        for other in beyond:
            if other.detail == "score_centre, less that of random weights" and np.isfinite(other.ci_low):
                more = "more than" if other.ci_low > 0 else "less than" if other.ci_high < 0 else "not told from"
                yield f"That difference is {more} what random weights show (by {other.value}, {p_text(other.p_value)})."


def _of_fusion(findings: list[Finding]) -> Iterator[str]:
    """What one encoder adds to another, by ridge, which takes one layer of each."""
    for found in findings:
        if found.name == "fusion_gain" and found.detail.endswith(f", {FUSED_RIDGE}"):
            added, alone = found.detail.removesuffix(f", {FUSED_RIDGE}").split(" over ")
            target, numbers = shown_name(found.target), f"({METRIC_NAMES[found.metric]}, {p_text(found.p_value)})"
            if found.ci_low > 0:
                yield f"For {target}, {added} adds {found.value} to what {alone} says alone {numbers}."
            elif found.ci_high < 0:
                yield f"For {target}, {added} takes from what {alone} says alone: {found.value} {numbers}."
            else:
                yield f"For {target}, {added} adds nothing that can be told to {alone} alone: {found.value} {numbers}."


def _named(findings: list[Finding], name: str) -> Finding | None:
    return next((f for f in findings if f.name == name), None)


def _metric(finding: Finding) -> str:
    return {"ccc_matched": "a matched CCC of", "rmse": "an RMSE of"}.get(
        finding.metric, f"{METRIC_NAMES[finding.metric]} ="
    )
