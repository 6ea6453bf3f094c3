"""Options that take several values after each other: ``--map speaker_id=spk arousal=EmoAct --scale arousal=1:7``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from layerprobe.cli.help import Command

OPTIONS = ("--map", "--column", "--scale", "--classes")
_VALUE = re.compile(r"[\w.]+=.*")  # NAME=…, so that no path of a file is taken for one


class SeveralValues(Command):
    """A command in which each of `OPTIONS` can be followed by several values ``NAME=…``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments in which each value has its option."""
        return super().parse_args(ctx, repeated(args))


def repeated(arguments: Sequence[str]) -> list[str]:
    """Return arguments with the option written before each of its values.

    >>> repeated(["--map", "a=b", "c=d", "--out", "x.csv"])
    ['--map', 'a=b', '--map', 'c=d', '--out', 'x.csv']
    """
    found: list[str] = []
    option, has_value = "", False
    for text in arguments:
        if text.startswith("-"):
            option = next((o for o in OPTIONS if text == o or text.startswith(f"{o}=")), "")
            has_value = "=" in text
        elif option and has_value:
            option = option if _VALUE.fullmatch(text) else ""
            found += [option] if option else []
        else:
            has_value = True
        found.append(text)
    return found
