"""The record of a check, and the outcomes that checks report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["issue", "tip", "passed", "not applicable"]
STATES: tuple[State, ...] = ("issue", "tip", "passed", "not applicable")  # the order in which checks are shown


@dataclass(frozen=True)
class Check:
    """One check of a study: an issue changes what scores mean, a tip helps to read them."""

    code: str  # LP and three digits, a page of `probe.code_pages`
    title: str
    state: State
    sentence: str  # what was found, with numbers; makes sense alone
    advice: str  # what to do; empty where nothing needs to be done


@dataclass(frozen=True)
class Outcome:
    """What a check found in a study; several outcomes of one check are several `Check` records."""

    state: State
    sentence: str
    advice: str = ""  # for this study; empty for that of the page


def issue(sentence: str, advice: str = "") -> Outcome:
    """Return the outcome of a check whose finding changes what scores mean."""
    return Outcome("issue", sentence, advice)


def tip(sentence: str, advice: str = "") -> Outcome:
    """Return the outcome of a check whose finding helps to read scores."""
    return Outcome("tip", sentence, advice)


def passed(sentence: str) -> Outcome:
    """Return the outcome of a check that found nothing to object to."""
    return Outcome("passed", sentence)


def not_applicable(sentence: str) -> Outcome:
    """Return the outcome of a check that this study can't be put to, with the reason."""
    return Outcome("not applicable", sentence)
