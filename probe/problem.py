"""What is wrong with a manifest or a recording, with the code of the page that explains it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What is wrong, found where it is not yet an error: one of several problems, or why a file can't be used.

    >>> print(Problem("LP140", "utterance_id is empty").in_row(3))
    row 3: utterance_id is empty [LP140]
    """

    code: str  # LP and three digits
    text: str

    def __str__(self) -> str:
        """Return the text followed by the code in brackets."""
        return f"{self.text} [{self.code}]"

    def in_row(self, number: int) -> Problem:
        """Return the problem with the row that has it, as a spreadsheet numbers it."""
        return Problem(self.code, f"row {number}: {self.text}")


class StoredAudioError(OSError):
    """The reason why audio in an archive, a table or a store can't be read, as `problem`."""

    def __init__(self, problem: Problem) -> None:
        """Set the reason."""
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[StoredAudioError], tuple[Problem]]:
        """Return what makes an equal error in another process."""
        return type(self), (self.problem,)
