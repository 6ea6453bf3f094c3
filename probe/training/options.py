"""Options of a stage as fields of a frozen dataclass, each with its default, range and help text.

The command line is generated from these fields, so that name, type, default, range and help are defined once.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

KEY = "option"  # key in a field's metadata


@dataclass(frozen=True)
class Option:
    """Help text, name and range of one option."""

    help: str  # a full sentence
    name: str  # without dashes; singular for a field that holds several values, since the option is repeated
    low: float | None  # smallest number accepted
    high: float | None  # largest number accepted
    metavar: str | None  # shown instead of the type
    alias: str = ""  # second name, without dashes


def option(
    default: Any = MISSING,
    *,
    help: str,
    name: str = "",
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
    alias: str = "",
) -> Any:
    """Return a dataclass field with its help; it is required if no default is given."""
    return field(default=default, metadata={KEY: Option(help, name, low, high, metavar, alias)})


def channel_option() -> Any:
    """Return the option of `probe.data.reading.ReadingOptions.channel`, which several stages have."""
    return option(
        None,
        help="Channel to read of recordings with several: first, loudest, or mean even where they cancel in it; by "
        "default the mean, and recordings whose channels cancel are quarantined.",
    )


def trim_silence_option() -> Any:
    """Return the option of `probe.data.reading.ReadingOptions.trim_silence`, which several stages have."""
    return option(False, help="Leave digital silence at the ends of recordings out.")


def read_options(options: type[Any]) -> dict[str, Option]:
    """Return the option of each field of a dataclass, by the field's name."""
    return {f.name: f.metadata[KEY] for f in fields(options)}
