"""The error of a figure that a run has no results for."""

from __future__ import annotations

from layerprobe.probe.exceptions import InputError


class NothingToPlotError(InputError):
    """A run lacks the results that a figure shows."""
