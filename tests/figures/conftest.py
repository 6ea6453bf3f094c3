"""Fixtures of the tests of figures: the same fonts on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from matplotlib.font_manager import fontManager

from layerprobe.figures.layout import presets


@pytest.fixture(autouse=True)
def shipped_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the fonts that matplotlib ships: whether Times or Arial is installed changes no layout that is tested."""
    own = Path(matplotlib.get_data_path())
    shipped = [font for font in fontManager.ttflist if Path(font.fname).is_relative_to(own)]
    monkeypatch.setattr(fontManager, "ttflist", shipped)
    presets._read.cache_clear()
    yield
    presets._read.cache_clear()
