"""A span of a recording with its label, and the labels that mark silence."""

from __future__ import annotations

from typing import NamedTuple

# What aligners write where nothing is spoken: Praat and the Montreal Forced Aligner (2.x) leave the label empty, its
# version 1 writes sil and sp, Kaldi <eps>, WebMAUS <p:>, others <pau>.
SILENCES = frozenset(("", "sil", "sp", "<eps>", "<sil>", "<p:>", "<pau>"))


class LabelledSpan(NamedTuple):
    """An interval of a recording with its label."""

    start: float  # seconds from the beginning of the recording
    end: float  # seconds, not before start; equal to it for a point
    label: str


def is_silence(label: str) -> bool:
    """Return whether a label marks silence, in any case.

    >>> is_silence(" "), is_silence("SIL"), is_silence("silence")
    (True, True, False)
    """
    return label.strip().lower() in SILENCES
