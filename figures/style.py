"""What all figures share: fonts, colours, and how they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import seaborn
from matplotlib.figure import Figure

STYLE: Any = {
    "font.family": "DejaVu Sans",  # the one that matplotlib ships
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
}
SCORE_COLOURS = "cividis"  # even steps, and the same for colour-blind readers (Nuñez et al., 2018)
FORMATS = ("png", "pdf", "svg")


def encoder_colours(encoders: list[str]) -> dict[str, Any]:
    """A colour for each encoder, told apart by colour-blind readers."""
    return dict(zip(encoders, seaborn.color_palette("colorblind", max(len(encoders), 1)), strict=False))


def save(figure: Figure, folder: Path, name: str, *, fingerprint: str) -> list[Path]:
    """Write the figure as PNG, PDF and SVG, each carrying the run's fingerprint; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in FORMATS]
    for path in paths:
        key = "Description" if path.suffix != ".pdf" else "Subject"
        with matplotlib.rc_context(STYLE):
            figure.savefig(path, dpi=200, bbox_inches="tight", metadata={key: f"layerprobe run {fingerprint}"})
    return paths
