"""Word errors of a transcript compared with a reference: substitutions, deletions and insertions by edit distance."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import pandas as pd

WORD_ERRORS = "word_errors.csv"  # in a run folder whose manifest has human transcripts and those of a recogniser


@dataclass(frozen=True)
class WordErrors:
    """The word errors of a transcript: the edits that turn the reference into it."""

    n_words: int  # of the reference
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Word error rate: errors divided by ``n_words``; NaN where the reference is empty."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.n_words if self.n_words else float("nan")


def tokenise_transcript(text: str) -> list[str]:
    """Return the lower-case tokens of a transcript without punctuation; typographic apostrophes become plain ones.

    >>> tokenise_transcript("“Don’t,” she called – twice!")
    ["don't", 'she', 'called', 'twice']
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)


def word_errors(reference: list[str], hypothesis: list[str]) -> WordErrors:
    """Count the fewest edits that turn ``reference`` into ``hypothesis`` (Levenshtein, 1966).

    Of several alignments with as few edits the one with the most substitutions is taken.

    Args:
        reference: tokens of the human transcript
        hypothesis: tokens of the recogniser's transcript
    """
    # A cell: edits, minus substitutions, deletions, insertions; tuples compare in this order
    above = [(k, 0, 0, k) for k in range(len(hypothesis) + 1)]
    for row, word in enumerate(reference, start=1):
        left = (row, 0, row, 0)
        line = [left]
        for column, other in enumerate(hypothesis, start=1):
            diagonal, up = above[column - 1], above[column]
            if word == other:
                left = diagonal
            else:
                left = min(
                    (diagonal[0] + 1, diagonal[1] - 1, diagonal[2], diagonal[3]),
                    (up[0] + 1, up[1], up[2] + 1, up[3]),
                    (left[0] + 1, left[1], left[2], left[3] + 1),
                )
            line.append(left)
        above = line
    _, substitutions, deletions, insertions = above[-1]
    return WordErrors(len(reference), -substitutions, deletions, insertions)


def word_error_table(table: pd.DataFrame, *, reference: str, hypothesis: str) -> pd.DataFrame:
    """Return the word errors of each utterance whose reference is not empty.

    Args:
        table: of a manifest
        reference: column of the human transcript
        hypothesis: column of the recogniser's transcript

    Returns:
        ``utterance_id, speaker_id, n_words, substitutions, deletions, insertions``
    """
    rows = []
    for row in table.to_dict("records"):
        tokens = tokenise_transcript(str(row[reference]))
        if tokens:
            errors = word_errors(tokens, tokenise_transcript(str(row[hypothesis])))
            rows.append({"utterance_id": row["utterance_id"], "speaker_id": row["speaker_id"], **vars(errors)})
    columns = ["utterance_id", "speaker_id", "n_words", "substitutions", "deletions", "insertions"]
    return pd.DataFrame(rows, columns=columns)
