"""Checks of targets: permutations that can reach the 5 % level, and targets that repeat each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

from layerprobe.analysis.checks.records import Outcome, issue, not_applicable, passed, tip
from layerprobe.analysis.formatting import number_text, shown_name
from layerprobe.analysis.statistics.permutation import ALPHA, is_significant, least_adjusted_p
from layerprobe.analysis.study import Study
from layerprobe.probe.metrics import CLASS_METRICS
from layerprobe.probe.tasks.targets import RESIDUAL, TEXT_RESIDUAL

REPEATED = math.sqrt(0.5)  # |r| above which two ratings have more than half of their variance (r²) in common


def check_permutations(study: Study) -> Iterator[Outcome]:
    """Check whether a p-value against chance can reach .05 after correction for all encoders and targets."""
    table = study.permutations
    if table.empty:
        yield not_applicable("The run has no permutations of the ratings, so nothing was compared with chance.")
        return
    n, n_tests = int(table["n_permutations"].min()), len(table[["encoder", "target"]].drop_duplicates())
    least = least_adjusted_p(n, n_tests)
    for_all = f", corrected for {n_tests} pairs of encoder and target," if n_tests > 1 else ""
    if not is_significant(least):
        yield issue(
            f"Ratings were permuted only {n} times: no p-value against chance{for_all} can be below {least:.2f}.",
            f"Sweep with --permutations {math.ceil(n_tests / ALPHA) - 1} or more.",
        )
    else:
        yield passed(f"Ratings were permuted {n} times: a p-value against chance{for_all} can reach {least:.3f}.")


def check_repeated_targets(study: Study) -> Iterator[Outcome]:
    """Check whether two rated targets have more than half of their variance in common."""
    names = [str(name) for name in study.correlations if not str(name).endswith((RESIDUAL, TEXT_RESIDUAL))]
    if study.metric in CLASS_METRICS or len(names) < 2:  # codes of classes have no correlation
        yield not_applicable("The run has fewer than two rated targets.")
        return
    values = study.correlations.loc[names, names].to_numpy(dtype=float)
    pairs = {(names[i], names[j]): float(values[i, j]) for i, j in combinations(range(len(names)), 2)}
    known = {pair: r for pair, r in pairs.items() if math.isfinite(r)}
    high = {pair: r for pair, r in known.items() if abs(r) > REPEATED}
    for (first, second), r in high.items():
        yield tip(
            f"Ratings of {shown_name(second)} mostly repeat those of {shown_name(first)} (r = {number_text(r)}, "
            f"{100 * r * r:.0f} % of the variance): their results are no separate findings."
        )
    if not high:
        (first, second), r = max(known.items(), key=lambda item: abs(item[1]), default=((names[0], names[1]), 0.0))
        yield passed(
            f"No two targets have more than half of their variance in common; {shown_name(first)} and "
            f"{shown_name(second)} correlate most (r = {number_text(r)})."
        )
