"""Write sentences from findings: what an encoder predicts, from which layer, and how certain that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layerprobe.analysis.findings.depth_sentences import depth_sentences
from layerprobe.analysis.findings.encoder_gain_sentences import encoder_gain_sentences
from layerprobe.analysis.findings.erasure_sentences import erasure_sentences
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.findings.time_sentences import time_sentences
from layerprobe.analysis.formatting import layer_kind, layer_ranges, number_text, p_text, shown_name
from layerprobe.analysis.statistics.permutation import exceeds_chance, is_significant
from layerprobe.probe.metrics import LOWER_IS_BETTER, METRIC_NAMES
from layerprobe.probe.results.run_folder import FUSED_RIDGE


def headlines(findings: Sequence[Finding]) -> list[str]:
    """Return the main results as sentences: for each encoder its targets and depths, then encoders compared and fused.

    Each states numbers with their 95 % confidence interval and p-value where the finding has them.
    """
    sentences: list[str] = []
    predicted = predicted_targets(findings)
    for encoder in dict.fromkeys(f.encoder for f in findings):
        of_encoder = [f for f in findings if f.encoder == encoder]
        for target in dict.fromkeys(f.target for f in of_encoder if f.name == "highest_scoring_layer"):
            sentences += _target_sentences([f for f in of_encoder if f.target == target])
        sentences += depth_sentences(of_encoder, {t: found for (e, t), found in predicted.items() if e == encoder})
    sentences += [*_encoder_sentences(findings), *encoder_gain_sentences(findings, predicted)]
    return [*sentences, *_fusion_sentences(findings), *time_sentences(findings), *erasure_sentences(findings)]


def predicted_targets(findings: Sequence[Finding]) -> dict[tuple[str, str], bool | None]:
    """Return for each encoder and target what `predicts_above_chance` does."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.encoder, finding.target), []).append(finding)
    return {key: predicts_above_chance(group) for key, group in groups.items()}


def predicts_above_chance(findings: Sequence[Finding]) -> bool | None:
    """Return whether an encoder predicts a target above chance at the 5 % level, by the Holm-adjusted p-value.

    None without a permutation test, and where the score is higher than in all permutations but these are too few to
    reach the 5 % level after the adjustment.

    Args:
        findings: of one encoder and target
    """
    chance = _named(findings, "chance")
    if _named(findings, "highest_scoring_layer") is None or chance is None or not np.isfinite(chance.p_adjusted):
        return None
    return exceeds_chance(chance.p_value, chance.p_adjusted, n_permutations=chance.n_permutations)


def _target_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    highest, chance, selected = (
        _named(findings, name) for name in ("highest_scoring_layer", "chance", "cv_selected_layer")
    )
    if highest is None:
        return
    target, metric, above = shown_name(highest.target), _metric(highest), predicts_above_chance(findings)
    kind = layer_kind(highest.layer)
    if above is False and chance is not None:
        yield (
            f"{highest.encoder} does not predict {target} above chance: its highest-scoring {kind}, {highest.layer}, "
            f"reaches {metric} {highest.value}; {_chance_text(chance)}."
        )
        return
    predicts = f"{highest.encoder} predicts {target}{_above_chance_text(chance)}"
    test = f"; {_chance_text(chance)}" if chance is not None else ""
    if selected is None:
        yield f"{predicts}: its highest-scoring {kind}, {highest.layer}, reaches {metric} {highest.value}{test}."
    else:
        yield f"{predicts}, with {metric} {selected.value} at the {kind} selected by cross-validation{test}."
    logistic = _named(findings, "logistic")
    if logistic is not None:
        where = f"logistic regression on the same {kind}s of {highest.encoder} reaches {metric} {logistic.value}"
        yield f"For {target}, {where}."
    yield from _best_set_sentences(findings, highest, is_named=selected is None)
    yield from _random_sentences(findings)
    yield from _acoustic_sentences(findings)
    yield from _variance_sentences(findings)
    yield from _regret_sentences(findings)


def _best_set_sentences(findings: Sequence[Finding], highest: Finding, *, is_named: bool) -> Iterator[str]:
    """The highest-scoring layer, if no sentence has named it, and the 95 % set of best layers."""
    best, target = _named(findings, "best_set"), shown_name(highest.target)
    kind = layer_kind(highest.layer)
    layers = () if best is None else best.layers or ()
    first = f"For {target}, the highest-scoring {kind} of {highest.encoder} is {highest.layer}"
    score = f"{METRIC_NAMES[highest.metric]} {number_text(highest.estimate)}"
    first += "" if is_named else f" ({score}, a maximum over {kind}s)"
    if len(layers) == 1:
        yield f"{first}; all others are significantly worse than the best (95 % set)."
    elif layers:
        yield f"{first}; {kind}s {layer_ranges(layers)} are not significantly worse than the best (95 % set)."
    elif not is_named:
        yield f"{first}."


def _above_chance_text(chance: Finding | None) -> str:
    """Return "above chance", or what can be stated where permutations are too few for the 5 % level."""
    if chance is None:
        return ""
    if is_significant(chance.p_adjusted):
        return " above chance"
    return f" better than in all {chance.n_permutations} permutations, too few for a test at the 5 % level"


def _chance_text(chance: Finding) -> str:
    of_best = "5th percentile of the minimum" if chance.metric in LOWER_IS_BETTER else "95th percentile of the maximum"
    n = "" if chance.n_permutations is None else f"{chance.n_permutations} "
    level = f"chance level {number_text(chance.estimate)}"
    return f"{level} ({of_best} over layers in {n}permutations){_p(chance)}"


def _random_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """Training compared with the best untrained layer, which decides, and with the same layer untrained."""
    gain, same = (_named(findings, name) for name in ("gain_over_best_random", "gain_over_random"))
    if gain is None or not np.isfinite(gain.ci_low):
        return
    layer = f"For {shown_name(gain.target)}, layer {gain.layer} of {gain.encoder}"
    untrained = f"the best untrained layer, {gain.reference_layer}"
    numbers = _difference(gain)
    if gain.layer == gain.reference_layer:
        untrained += " (the same layer)"
    elif same is not None and np.isfinite(same.ci_low):
        numbers += f"; from the same layer untrained, {_difference(same)}"
    if is_significant(gain.p_adjusted):
        yield f"{layer} scores {'better' if gain.estimate > 0 else 'worse'} than {untrained}: {numbers}."
    else:
        yield (
            f"{layer} does not differ significantly from {untrained}: {numbers}. Its score may come from the input and "
            "the architecture alone."
        )


def _acoustic_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """The encoder compared with acoustic features."""
    for gain in findings:
        if gain.name != "gain_over_acoustic" or not np.isfinite(gain.ci_low):
            continue
        verdict = "does not differ significantly from"
        if is_significant(gain.p_adjusted):
            verdict = "scores better than" if gain.estimate > 0 else "scores worse than"
        yield (
            f"For {shown_name(gain.target)}, {gain.encoder} {verdict} {gain.reference} features, each selected by "
            f"cross-validation: {_difference(gain)}."
        )


def _variance_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    parts = {f.component: f for f in findings if f.name == "unique_variance"}
    if not parts:
        return
    both, layer, others = (parts[k] for k in ("with_covariates", "unique_layer", "unique_covariates"))
    covariates, kind = both.covariates or "the covariates", layer_kind(both.layer)
    yield (
        f"Of the variance of {shown_name(both.target)}, {kind} {both.layer} of {both.encoder} and {covariates} "
        f"together explain R² = {both.value}; {layer.value} is unique to the {kind}, and "
        f"{others.value} to {covariates}."
    )


def _regret_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    losses = [f for f in findings if f.name == "regret" and f.estimate > 0 and is_significant(f.p_adjusted)]
    if losses:
        texts = "; ".join(f"the {f.reference} by {f.value}{_p(f)}" for f in losses)
        yield (
            f"For {shown_name(losses[0].target)}, default choices score worse than the layer of {losses[0].encoder} "
            f"selected by cross-validation: {texts}."
        )


def _encoder_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """Differences between encoders."""
    for found in findings:
        if found.name != "encoder_difference" or not np.isfinite(found.ci_low):
            continue
        target, metric = shown_name(found.target), METRIC_NAMES[found.metric]
        numbers = _difference(found)
        where = f"{metric}, each at the layer selected by cross-validation"
        if is_significant(found.p_adjusted):
            better = "better" if found.estimate > 0 else "worse"
            yield f"{found.encoder} predicts {target} {better} than {found.reference} ({where}): {numbers}."
        else:
            pair = f"{found.encoder} and {found.reference}"
            yield f"{pair} do not differ significantly for {target} ({where}): {numbers}."


def _fusion_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """Gains of fused ridge, which takes one layer of each encoder."""
    for found in findings:
        if found.name == "fusion_gain" and found.probe == FUSED_RIDGE:
            target, metric = shown_name(found.target), METRIC_NAMES[found.metric]
            effect = "does not change the score significantly"
            if is_significant(found.p_adjusted):
                effect = "improves the score" if found.estimate > 0 else "lowers the score"
            yield f"For {target}, adding {found.added} to {found.alone} {effect} ({metric}): {_difference(found)}."


def _difference(finding: Finding) -> str:
    return f"Δ = {finding.value}{_p(finding)}"


def _p(finding: Finding) -> str:
    """Return the p-value adjusted for all findings of its kind, or nothing where none was tested."""
    return f", Holm-adjusted {p_text(finding.p_adjusted)}" if np.isfinite(finding.p_adjusted) else ""


def _named(findings: Sequence[Finding], name: str) -> Finding | None:
    return next((f for f in findings if f.name == name), None)


def _metric(finding: Finding) -> str:
    return {"ccc_matched": "a moment-matched CCC of", "rmse": "an RMSE of"}.get(
        finding.metric, f"{METRIC_NAMES[finding.metric]} ="
    )
