"""Options: choices of a stage as fields of a frozen dataclass, each with its help and range beside its default.

The command line is made from these fields, so that name, type, default, range and help stand in one place.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

KEY = "option"  # of a field's metadata


@dataclass(frozen=True)
class Option:
    """What the command line shows and checks of one field."""

    help: str  # a sentence that stands alone
    name: str  # without dashes; a field that holds several has the name of one, for the option is repeated
    low: float | None  # the least number that is taken
    high: float | None  # the largest
    metavar: str | None  # shown instead of the type


def option(
    default: Any = MISSING,
    *,
    help: str,
    name: str = "",
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
) -> Any:
    """Return a dataclass field with its help; it is required if no default is given."""
    return field(default=default, metadata={KEY: Option(help, name, low, high, metavar)})


def read_options(options: type[Any]) -> dict[str, Option]:
    """Return the option of each field of a dataclass, by the field's name."""
    return {f.name: f.metadata[KEY] for f in fields(options)}
