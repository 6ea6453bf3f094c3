"""What bound an extraction: how much of its time reading, encoding and writing took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageUtilisation:
    """Fractions of an extraction's time in which each stage was busy, 0 to 1."""

    decode: float  # mean over the threads that read
    encode: float  # of the device, or mean over the threads that encode
    write: float  # of the thread that writes
    n_loaders: int  # threads that read

    @property
    def bound_by(self) -> str:
        """Name the stage that was busy for the greatest fraction, for which the others waited."""
        fractions = {"encoding": self.encode, "decoding": self.decode, "writing": self.write}
        return max(fractions, key=fractions.__getitem__)

    def sentence(self) -> str:
        """Return one line for the user.

        >>> StageUtilisation(0.41, 0.93, 0.12, 4).sentence()
        'Bound by encoding: encoder busy 93 %, readers 41 % of 4 threads, writer 12 %.'
        """
        threads = f"{self.n_loaders} thread{'s'[: self.n_loaders != 1]}"
        return (
            f"Bound by {self.bound_by}: encoder busy {100 * self.encode:.0f} %, readers {100 * self.decode:.0f} % of "
            f"{threads}, writer {100 * self.write:.0f} %."
        )
