"""Fonts of texts whose characters the figures' own font lacks, such as Chinese or Japanese names of targets."""

from __future__ import annotations

import functools
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from layerprobe.figures.layout.presets import figure_font

INVISIBLE = {"Cc", "Cf", "Zl", "Zp"}  # Unicode categories: control and format characters, separators of lines
PLACEHOLDERS = "Last Resort"  # a font of this name has a box for every character


class MissingGlyphWarning(UserWarning):
    """A character appears as an empty box, because no installed font has it."""


def font_families(text: str) -> list[str]:
    """Return the font families of a text: the figures' own, then installed ones with characters it lacks."""
    return [figure_font(), *_fallbacks(_lacking(text))[0]]


def missing_characters(text: str) -> str:
    """Return the characters of a text that no installed font has, sorted."""
    return "".join(sorted(_fallbacks(_lacking(text))[1]))


def set_fonts(figure: Figure) -> None:
    """Give each text of a figure the fonts that it needs.

    Warns:
        MissingGlyphWarning: naming the characters that no installed font has
    """
    missing: dict[str, str] = {}
    for artist in figure.findobj(Text):
        text = artist.get_text() if isinstance(artist, Text) else ""
        if isinstance(artist, Text) and _lacking(text):
            artist.set_fontfamily(font_families(text))
            missing |= dict.fromkeys(missing_characters(text), text)
    if missing:
        first, characters = next(iter(missing.values())).replace("\n", ""), " ".join(sorted(missing))
        warnings.warn(
            f"No installed font has the characters {characters} (in {first!r}), so that PNG and PDF show empty boxes. "
            " Install a font that has them, such as Noto Sans CJK, and plot again.",
            MissingGlyphWarning,
            stacklevel=2,
        )


@contextmanager
def without_matplotlibs_glyph_warnings() -> Iterator[None]:
    """Leave out matplotlib's own warnings, one for each character and file; `set_fonts` has given one for all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _lacking(text: str) -> frozenset[str]:
    """Return the visible characters of a text that the figures' own font lacks."""
    own = _characters(findfont(FontProperties(family=figure_font())))
    return frozenset(c for c in text if ord(c) not in own and unicodedata.category(c) not in INVISIBLE)


def _fallbacks(lacking: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return families that have the characters together, the one with most first, and the characters that none has."""
    return _search(lacking, tuple(dict.fromkeys(_upright()))) if lacking else ((), frozenset())


def _upright() -> Iterable[tuple[str, str]]:
    """Yield family and file of every installed upright font of regular weight, in the order of their names."""
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        regular = entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
        if regular and not entry.name.startswith(PLACEHOLDERS):
            yield entry.name, entry.fname


@functools.lru_cache(maxsize=256)
def _search(lacking: frozenset[str], fonts: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    found: list[str] = []
    while lacking:
        has = {name: {c for c in lacking if ord(c) in _characters(file)} for name, file in fonts}
        best = max(has, key=lambda name: len(has[name]), default=None)
        if best is None or not has[best]:
            break
        found.append(best)
        lacking -= has[best]
    return tuple(found), lacking


@functools.lru_cache(maxsize=1024)
def _characters(file: str) -> frozenset[int]:
    """Return the code points for which a font file has a glyph; none if it can't be read."""
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a font that was removed since matplotlib listed it, or that FreeType can't read
        return frozenset()
