"""Options of a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

LEAST_SECONDS = 0.001  # of a window and a hop; a hop below a sample would begin windows without end at the same one


@dataclass(frozen=True)
class Windows:
    """How a recording is cut: a window of ``length`` seconds every ``hop`` seconds."""

    length: float
    hop: float

    def __post_init__(self) -> None:
        """Check both.

        Raises:
            InputError: if one is below `LEAST_SECONDS`, or not finite
        """
        for name, seconds in (("window", self.length), ("hop", self.hop)):
            if not LEAST_SECONDS <= seconds < float("inf"):
                raise InputError(
                    "LP945",
                    f"The {name} is {seconds:g} s. Give a number of seconds from {LEAST_SECONDS:g} on, such as 5 and a "
                    "hop of 1.",
                )

    def first(self, sampling_rate: int) -> Callable[[int], int]:
        """Return the function from a window's number to its first sample."""
        return lambda k: round(k * self.hop * sampling_rate)

    def samples(self, sampling_rate: int) -> int:
        """Return the number of samples of a window."""
        return max(1, round(self.length * sampling_rate))


@dataclass(frozen=True)
class PredictionOptions:
    """How recordings are cut, transcribed and rated."""

    window: float | None = option(
        None, help="Seconds of a window, for a trace over time; by default a recording is rated as a whole."
    )
    hop: float | None = option(None, help="Seconds from one window to the next; those of a window by default.")
    asr: str | None = option(
        None,
        help="Speech recogniser for a model that reads text: a hub name with an optional @revision, or a folder.",
    )
    language: str | None = option(None, help="Language of the audio, for a multilingual recogniser.")
    jobs: int | None = option(None, low=1, help="Recordings rated in parallel; one per core by default.")

    def windows(self) -> Windows | None:
        """Return how recordings are cut; None where they are rated as a whole.

        Raises:
            InputError: if there is a hop without a window, or one is too short
        """
        if self.window is None:
            if self.hop is not None:
                raise InputError(
                    "LP944", "--hop is the distance of windows. Give the length of a window, too, such as --window 5."
                )
            return None
        return Windows(self.window, self.window if self.hop is None else self.hop)
