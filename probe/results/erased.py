"""Names of what was erased, in the column ``erased``, and of the scores of concepts themselves."""

from __future__ import annotations

import re

CONCEPT_ONLY = "concept_only"  # the baseline of a concept that predicts a target by itself
RANDOM = "random {} of {}"  # random directions, as many as of the erasure that is named
BEFORE, AFTER = "concept_r_before", "concept_r"  # metrics: of a probe of the training speakers, in unseen speakers
REFIT_BEFORE, REFIT = "concept_r_refit_before", "concept_r_refit"  # of probes of other held-out speakers
RANK = "concept_rank"  # number of directions that were erased
_RANDOM = re.compile(r"random (\d+) of (.+)")


def random_name(name: str, number: int) -> str:
    """Return the name of random directions, as many as an erasure has.

    >>> random_name("loudness+f0", 0)
    'random 0 of loudness+f0'
    """
    return RANDOM.format(number, name)


def parse_erased(text: str) -> tuple[str, int | None]:
    """Return the erasure, and the number of the random directions that took its place or None.

    >>> parse_erased("random 3 of loudness+f0"), parse_erased("loudness")
    (('loudness+f0', 3), ('loudness', None))
    """
    found = _RANDOM.fullmatch(text)
    return (found[2], int(found[1])) if found else (text, None)
