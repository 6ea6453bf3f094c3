"""Choices of a user on columns of a source: which column is what, on which scale, with which classes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from layerprobe.probe.exceptions import InputError

# {NAME}, or some of its characters as in Python: {file[3:6]}
_PART = re.compile(r"\{([^{}\[\]]+)(?:\[(-?\d*):(-?\d*)\])?\}")


@dataclass(frozen=True)
class ColumnChoices:
    """What the user states on the columns of a source.

    ``columns`` gives for a column of the manifest that of the source, or a template such as ``{speaker}_{take}``.
    """

    columns: dict[str, str] = field(default_factory=dict)
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)  # ends, by rated target
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by nominal target; () for those that occur
    speakers: bool = True  # False: speakers are not known


def parse_choices(
    columns: Sequence[str] = (),
    scales: Sequence[str] = (),
    classes: Sequence[str] = (),
    *,
    utterance_id: str | None = None,
    speakers: bool = True,
) -> ColumnChoices:
    """Read choices as they are written on the command line.

    Args:
        columns: each ``NAME=COLUMN``, the manifest's name first
        scales: each ``NAME=LOW:HIGH``
        classes: each ``NAME`` or ``NAME=CLASS,CLASS``
        utterance_id: a column, or a template such as ``{file}``
        speakers: whether speakers are known

    Raises:
        InputError: if one is written in another way, or two state the same name

    >>> parse_choices(["arousal=EmoAct"], ["arousal=1:7"], ["emotion=joy,fear"], utterance_id="{file}").scales
    {'arousal': (1.0, 7.0)}
    """
    pairs = [_pair(text, "--map", "NAME=COLUMN") for text in columns]
    pairs += [("utterance_id", utterance_id)] if utterance_id else []
    of_classes = [_pair(text if "=" in text else f"{text}=", "--classes", "NAME=CLASS,CLASS") for text in classes]
    return ColumnChoices(
        _unique(pairs, "--map"),
        {name: _scale(name, text) for name, text in _unique(_pairs_of_scales(scales), "--scale").items()},
        {name: tuple(filter(None, text.split(","))) for name, text in _unique(of_classes, "--classes").items()},
        speakers,
    )


def columns_of_template(text: str) -> list[str]:
    """Return the names in a template; [] where the text is the name of a column.

    >>> columns_of_template("{session}_{file[3:6]}"), columns_of_template("EmoAct")
    (['session', 'file'], [])
    """
    return [m[1] for m in _PART.finditer(text)]


def fill(template: str, cells: Mapping[str, str]) -> str:
    """Return a template with the cells of a row in place of their names.

    >>> fill("{file[3:6]}-{take}", {"file": "DK_004_A", "take": "2"})
    '004-2'
    """
    return _PART.sub(lambda m: _sliced(cells[m[1]], m[2], m[3]), template)


def _sliced(text: str, first: str | None, end: str | None) -> str:
    return text[int(first) if first else None : int(end) if end else None]


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, mark, value = (part.strip() for part in text.partition("="))
    if not mark or not name or (not value and option != "--classes"):
        raise InputError("LP195", f"{option} {text} can't be read. Write {option} {form}, once for each.")
    return name, value


def _pairs_of_scales(scales: Sequence[str]) -> list[tuple[str, str]]:
    return [_pair(text, "--scale", "NAME=LOW:HIGH") for text in scales]


def _scale(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError("LP195", f"--scale {name}={text} can't be read. Write --scale NAME=LOW:HIGH, once for each.")
    return low, high


def _unique(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise InputError("LP195", f"{option} states {name} twice, as {found[name]} and as {value}. Keep one.")
    return found
