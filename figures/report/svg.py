"""SVG files as parts of a page: smaller, as an element with ids of its own, or as an address of an image."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

NUMBER = r"(-?[\d.]+)"
RECTANGLE = re.compile(rf"M{NUMBER} {NUMBER}L{NUMBER} \2L\3 {NUMBER}L\1 \4(?:L\1 \2|z)")
CLIPPED = re.compile(r'V[-\d.]+H[-\d.]+z" clip-path="url\(([^"]*)\)"')
CELLS = 10  # rectangles of the same axes that are cells
SEVERAL = 4  # elements from which a class is shorter than their styles
SAFE = " !'()*+,-./:;=?@[]_~&|"  # characters of SVG that need no code in an address


def inline_svg(path: Path, prefix: str) -> str:
    """Return a file as an element of a page, with a prefix to its ids so that they are unique."""
    text = smaller(path.read_text(encoding="utf-8"), prefix=f"{prefix}-s")
    text = _with_unique_ids(text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    return re.sub(r"url\(#", f"url(#{prefix}-", text)


def _with_unique_ids(text: str) -> str:
    """Remove an id from every element but the first that has it: those of points begin anew in each panel."""
    seen: set[str] = set()

    def kept(found: re.Match[str]) -> str:
        is_first = found[1] not in seen
        seen.add(found[1])
        return found[0] if is_first else ""

    return re.sub(r' id="([^"]*)"', kept, text)


def image_address(path: Path) -> Markup:
    """Return a file as a data URI, for an attribute of an ``img`` element between double quotation marks."""
    text = smaller(path.read_text(encoding="utf-8"))
    text = text.replace("'", "&apos;").replace('"', "'")  # a double quotation mark would need a code
    address = "data:image/svg+xml," + quote(text, safe=SAFE)  # has neither < nor "
    return Markup(address.replace("&", "&amp;"))  # single quotation marks need no code there


def smaller(text: str, *, prefix: str = "s") -> str:
    r"""Return the SVG element without metadata, in hundredths of a point, with classes for styles that are repeated.

    Args:
        text: an SVG file
        prefix: of the names of the classes

    >>> smaller('<?xml?><svg><path d="M 1.23456 2 \nL 3 2 \nL 3 4 \nL 1.23456 4 \nz\n"/></svg>')
    '<svg><path d="M1.23 2H3V4H1.23z"/></svg>'
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(?<=\sd=")[^"]*', lambda found: _path(found.group()), text)
    text = re.sub(r"-?\d+\.\d{3,}", _rounded, text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"| id="(?:text|patch|line2d|axes|[xy]tick)_\d+"', "", text)
    text = _without_clips(text)
    return _with_classes(re.sub(r">\s+<", "><", text), prefix)


def _without_clips(text: str) -> str:
    """Return the SVG without the clip paths of cells: so many rectangles fill their axes and need none."""
    counts = Counter(found[1] for found in CLIPPED.finditer(text))
    return CLIPPED.sub(lambda m: m[0].split(" clip-path")[0] if counts[m[1]] >= CELLS else m[0], text)


def _with_classes(text: str, prefix: str) -> str:
    """Return the SVG with a class for each style that several elements have."""
    counts = Counter(re.findall(r' style="([^"]*)"', text))
    names = {style: f"{prefix}{k}" for k, style in enumerate(s for s, n in counts.items() if n >= SEVERAL)}
    if not names:
        return text
    text = re.sub(r' style="([^"]*)"', lambda m: f' class="{names[m[1]]}"' if m[1] in names else m[0], text)
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return text.replace(">", f"><style>{rules}</style>", 1)


def _path(commands: str) -> str:
    """Return the commands of a path without blanks that mean nothing, and rectangles by their sides."""
    commands = re.sub(r"-?\d+\.\d{3,}", _rounded, commands.strip())
    commands = re.sub(r"\s*([A-Za-z])\s*", r"\1", re.sub(r"\s+", " ", commands))
    return RECTANGLE.sub(r"M\1 \2H\3V\4H\1z", commands)


def _rounded(found: re.Match[str]) -> str:
    text = f"{float(found.group()):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
