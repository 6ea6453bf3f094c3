"""Run every check on a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from layerprobe.analysis.checks import corpus, probes, targets
from layerprobe.analysis.checks.records import STATES, Check, Outcome
from layerprobe.analysis.study import Study
from layerprobe.probe.code_pages import read_page

CHECKS: dict[str, Callable[[Study], Iterator[Outcome]]] = {
    "LP001": probes.check_pending,
    "LP002": probes.check_untrained,
    "LP003": corpus.check_speakers_given,
    "LP004": corpus.check_few_speakers,
    "LP005": corpus.check_unknown_speakers,
    "LP006": corpus.check_dominance_of_a_speaker,
    "LP007": corpus.check_shared_speakers,
    "LP008": corpus.check_shared_audio,
    "LP009": corpus.check_balance,
    "LP010": corpus.check_values_of_folds,
    "LP011": corpus.check_classes_of_speakers,
    "LP012": probes.check_penalties,
    "LP013": probes.check_rows,
    "LP014": targets.check_permutations,
    "LP015": probes.check_mixes,
    "LP016": probes.check_scale,
    "LP017": probes.check_folds,
    "LP018": targets.check_repeated_targets,
    "LP019": corpus.check_left_out,
    "LP020": corpus.check_partly_rated,
    "LP021": corpus.check_not_scored,
}


def run_checks(study: Study) -> list[Check]:
    """Return every check of a study: issues first, then tips, those that passed, and those that do not apply.

    A check that found several things has a record for each of them.
    """
    found = []
    for code, check in CHECKS.items():
        page = read_page(code)
        what_to_do = " ".join(page.sections["What to do"].split())
        for outcome in check(study):
            advice = (outcome.advice or what_to_do) if outcome.state in ("issue", "tip") else ""
            found.append(Check(code, page.title, outcome.state, outcome.sentence, advice))
    return sorted(found, key=lambda check: STATES.index(check.state))  # stable: in the order of codes
