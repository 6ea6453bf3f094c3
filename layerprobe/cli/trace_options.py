"""Options of ``manifest spans``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

if TYPE_CHECKING:
    from layerprobe.probe.data.manifest.schema import Target
    from layerprobe.probe.data.spans import SpanOptions


@dataclass(frozen=True)
class TraceOptions:
    """Which spans are rated, and how traces become ratings of them."""

    every: float | None = option(None, help="Seconds from one window to the next, with --window, in place of --spans.")
    window: float | None = option(None, help="Seconds of a window; see --every.")
    spans: Path | None = option(
        None,
        metavar="PATH",
        help="Spans to rate: a table with utterance_id, start and end, a .TextGrid, a folder of these, or a .ctm file.",
    )
    tier: str = option("", help="Tier of the TextGrids of --spans; `words`, or the only one, by default.")
    lag: float = option(
        0.0,
        help="Seconds by which ratings come after what they are of: a span has the mean of ratings from start + lag to "
        "end + lag. Mariooryad and Busso (2015) found reaction lags of 1 to 6 s.",
    )
    targets: tuple[str, ...] = option(
        (),
        name="target",
        metavar="NAME",
        help="Column of a table that is a target (repeatable); all columns of numbers by default.",
    )
    scales: tuple[str, ...] = option(
        (),
        name="scale",
        metavar="NAME=LOW:HIGH",
        help="Ends of the scale of a target of a table (several, or repeated); the range of its ratings by default.",
    )

    def of_spans(self) -> SpanOptions:
        """Return the spans to rate.

        Raises:
            InputError: if options exclude each other
        """
        from layerprobe.probe.data.spans import SpanOptions

        if not math.isfinite(self.lag) or self.lag < 0:
            raise InputError("LP184", f"--lag {self.lag:g} is no number of seconds of 0 or more. Choose one such as 3.")
        return SpanOptions(self.spans, self.tier, self.every, self.window)

    def of_scales(self) -> dict[str, Target]:
        """Return the scales of targets.

        Raises:
            InputError: if one can't be read
        """
        from layerprobe.probe.data.importers.choices import parse_choices
        from layerprobe.probe.data.manifest.schema import Target

        return {name: Target(low, high) for name, (low, high) in parse_choices(scales=self.scales).scales.items()}
