"""Checks of a study as the report shows them: issues and tips first, then those that passed."""

from __future__ import annotations

from dataclasses import dataclass

from layerprobe.analysis.findings.limitations import limitations
from layerprobe.analysis.study import Study


@dataclass(frozen=True)
class Check:
    """One check of a study."""

    code: str  # of ``layerprobe explain``; empty where it has no page
    title: str
    state: str  # "issue", "tip", "passed" or "not applicable"
    sentence: str
    advice: str


def page_checks(study: Study) -> list[Check]:
    """Return the limitations of a study as checks, the most serious first."""
    return [Check("", "Limitation", "issue", sentence, "") for sentence in limitations(study)]
