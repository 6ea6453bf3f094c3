"""Word errors of one transcript against another: substitutions, deletions, insertions by the least edits."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import pandas as pd

WORD_ERRORS = "word_errors.csv"  # in a run folder whose manifest has transcripts of people and of a machine


@dataclass(frozen=True)
class WordErrors:
    """What turns one transcript into another."""

    n_words: int  # of the reference
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Errors over words of the reference; NaN where it has none."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.n_words if self.n_words else float("nan")


def normalised_words(text: str) -> list[str]:
    """Lower-case words without punctuation; apostrophes inside a word stay, whatever sign they were written with.

    >>> normalised_words("“Don’t,” she said – twice!")
    ["don't", 'she', 'said', 'twice']
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)


def word_errors(reference: list[str], heard: list[str]) -> WordErrors:
    """Count the least edits that turn ``reference`` into ``heard`` (Levenshtein, 1966).

    Of several ways with as few edits the one with the most substitutions is taken.
    """
    # a cell: edits, minus substitutions, deletions, insertions; tuples compare in this order
    above = [(k, 0, 0, k) for k in range(len(heard) + 1)]
    for row, word in enumerate(reference, start=1):
        left = (row, 0, row, 0)
        line = [left]
        for column, other in enumerate(heard, start=1):
            slant, up = above[column - 1], above[column]
            if word == other:
                left = slant
            else:
                left = min(
                    (slant[0] + 1, slant[1] - 1, slant[2], slant[3]),
                    (up[0] + 1, up[1], up[2] + 1, up[3]),
                    (left[0] + 1, left[1], left[2], left[3] + 1),
                )
            line.append(left)
        above = line
    _, substitutions, deletions, insertions = above[-1]
    return WordErrors(len(reference), -substitutions, deletions, insertions)


def word_error_table(table: pd.DataFrame, *, reference: str, heard: str) -> pd.DataFrame:
    """Errors of each utterance whose reference has words.

    Args:
        table: of a manifest
        reference: the column of what people wrote
        heard: the column of what a machine wrote

    Returns:
        ``utterance_id, speaker_id, n_words, substitutions, deletions, insertions``
    """
    rows = []
    for row in table.to_dict("records"):
        words = normalised_words(str(row[reference]))
        if words:
            found = word_errors(words, normalised_words(str(row[heard])))
            rows.append({"utterance_id": row["utterance_id"], "speaker_id": row["speaker_id"], **vars(found)})
    columns = ["utterance_id", "speaker_id", "n_words", "substitutions", "deletions", "insertions"]
    return pd.DataFrame(rows, columns=columns)
