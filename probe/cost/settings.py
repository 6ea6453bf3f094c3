"""How costs are counted and measured; opens without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from layerprobe.probe.exceptions import InputError

SECONDS = 10  # of audio for which costs are counted and measured, by default
LONGEST = 30  # seconds, which every encoder takes in one pass
TOKENS_PER_SECOND = 3.5  # of transcripts
COSTS = {  # columns of costs: what each is called
    "multiply_adds": "multiply-adds per second of audio",
    "parameters": "parameters kept",
    "real_time_factor": "real-time factor",
}


@dataclass(frozen=True)
class Measuring:
    """How costs are counted and measured."""

    seconds: int = SECONDS  # of the audio, 1 to `LONGEST`
    threads: int = 1  # of torch, 1 or more
    is_timed: bool = True  # whether real-time factors are measured
    tokens_per_second: float = TOKENS_PER_SECOND
    folders: Mapping[str, Path | str] = field(default_factory=dict)  # of encoders by name, where the run's is gone

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.seconds <= LONGEST or self.threads < 1:
            raise InputError(
                "LP914",
                f"Costs can't be measured for {self.seconds} second{'s' * (self.seconds != 1)} with {self.threads} "
                f"thread{'s' * (self.threads != 1)}. Choose 1 to {LONGEST} seconds, and 1 thread or more.",
            )


def check_cost(by: str) -> None:
    """Check the name of a cost.

    Raises:
        InputError: if there is none such
    """
    if by not in COSTS:
        raise InputError("LP912", f"cost {by!r} is unknown; choose one of {', '.join(COSTS)}.")
