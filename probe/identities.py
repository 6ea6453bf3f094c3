"""Names of speakers, utterances, splits, classes and groups: how they are normalised, and which look alike.

A name is normalised wherever it enters, so that names can be compared as text everywhere else:

1. Unicode's composed form (NFC), so that an ``é`` that macOS stores as two characters is the same ``é``.
2. Blanks and invisible characters at both ends are removed: spaces of every width, tabs, line ends, no-break and
   zero-width spaces, marks of byte order and of direction.
3. Where every known name of a column is a whole number with a decimal ``.0`` ("1.0", "2.0"), as a table of numbers
   with gaps is written, the ``.0`` is removed.

None of these joins two people. Names that differ further, but only in case, blanks, Unicode form (NFKC), dashes, a
decimal ``.0`` or leading zeros, are never joined by themselves: `similar_names` finds them, and the user decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

# What tables write where a name is missing, in lower case; names of question marks, dashes and stars alone are, too.
UNKNOWN_SPELLINGS = frozenset(
    (".", "nan", "nat", "na", "n/a", "n.a.", "none", "null", "nil", "unknown", "unk", "undefined", "missing",
     "not available", "not known", "not specified", "unspecified", "not applicable", "tbd", "k.a.", "unidentified",
     "unbekannt", "inconnu", "desconocido", "unknown speaker", "speaker unknown", "unidentified speaker", "speaker unk",
     "spk unk")
)  # fmt: skip
_WHOLE_FLOAT = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")
_SHORTENED = re.compile(r"-?\d(?:[.,]\d+)?[eE]\+\d+")
_LEADING_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")
_DECIMAL = re.compile(r"(?<=\d)\.0+$")
_JOINTS = re.compile(r"[\s_-]+")
_ENCLOSED = re.compile(r"[<\[({#*]*(.*?)[>\])}*]*")


def normalise_name(name: str) -> str:
    r"""Return a name in NFC without blanks or invisible characters at its ends.

    >>> normalise_name("\ufeff s0\u00a0"), normalise_name("Ame\u0301lie") == "Am\u00e9lie"
    ('s0', True)
    """
    if name.isascii() and name.isprintable():
        return name.strip()
    name = unicodedata.normalize("NFC", name)
    start, end = 0, len(name)
    while start < end and _is_invisible(name[start]):
        start += 1
    while end > start and _is_invisible(name[end - 1]):
        end -= 1
    return name[start:end]


def normalise_names(names: Iterable[str]) -> list[str]:
    """Return the names of one column normalised; a decimal ``.0`` is removed where every known one has it.

    >>> normalise_names(["1.0", " 2.0", "nan"]), normalise_names(["1.0", "1.5"])
    (['1', '2', 'nan'], ['1.0', '1.5'])
    """
    names = list(names)
    spelled = {name: normalise_name(name) for name in dict.fromkeys(names)}
    normal = set(spelled.values())
    whole = {name for name in normal if name.endswith("0") and _WHOLE_FLOAT.fullmatch(name)}
    if whole and all(map(is_unknown, normal - whole)):
        spelled = {name: _WHOLE_FLOAT.sub(r"\1", found) for name, found in spelled.items()}
    return [spelled[name] for name in names]


def is_unknown(name: str) -> bool:
    """Return whether a normalised name is a usual spelling of "not known", in any case and in brackets or not.

    >>> [is_unknown(name) for name in ("", "N/A", "<unk>", "?", "--", "Nan", "Nancy")]
    [True, True, True, True, True, True, False]
    """
    bare = _ENCLOSED.fullmatch(name.casefold())
    inner = (bare[1] if bare else name.casefold()).strip()
    spelled = not UNKNOWN_SPELLINGS.isdisjoint((inner, _JOINTS.sub(" ", inner)))
    return spelled or set(_with_plain_dashes(inner)) <= set("?-_*")


def has_lost_digits(name: str) -> bool:
    """Return whether a name is a long number that a spreadsheet shortened, such as ``1.23457E+15``."""
    return "+" in name and _SHORTENED.fullmatch(name) is not None


def likeness(name: str) -> str:
    r"""Return a key that similar names have in common; see the module's docstring for what it leaves out.

    >>> len({likeness(name) for name in ("s01", "S1", "s 1", "\uff53\uff11", "s1\u200b", "s1.0")})
    1
    >>> likeness("v1.10") == likeness("v1.1"), likeness("v1.01") == likeness("v1.1")
    (False, False)
    """
    if name.isascii() and name.isprintable():
        text = name.lower().replace(" ", "")
    else:
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        text = _with_plain_dashes(_without_blanks(text))
    return _LEADING_ZEROS.sub("", _DECIMAL.sub("", text))


@dataclass(frozen=True)
class SimilarNames:
    """Two or more names of one column that look alike, the most frequent first."""

    names: tuple[str, ...]
    counts: tuple[int, ...]  # rows of each

    @property
    def difference(self) -> str:
        """What the names differ in: case, blanks, Unicode form, a decimal .0, leading zeros or dashes."""
        needed = list(_PLAIN)
        for kind in _PLAIN:  # leave out what the names agree in
            rest = [other for other in needed if other != kind]
            needed = rest if len({_plain(name, rest) for name in self.names}) == 1 else needed
        return " and ".join(needed)


def similar_names(names: Sequence[str]) -> list[SimilarNames]:
    """Return the groups of different names that look alike, in the order of their first names as text.

    Args:
        names: of the rows of one column, normalised
    """
    groups: dict[str, list[str]] = {}
    counts = Counter(names)
    for name in sorted(counts):
        groups.setdefault(likeness(name), []).append(name)
    found = [sorted(group, key=lambda n: (-counts[n], n)) for group in groups.values() if len(group) > 1]
    return [SimilarNames(tuple(group), tuple(counts[n] for n in group)) for group in found]


def _plain(name: str, kinds: Iterable[str]) -> str:
    for kind in kinds:
        name = _PLAIN[kind](name)
    return name


def _without_blanks(text: str) -> str:
    return "".join(c for c in text if not _is_invisible(c))


def _with_plain_dashes(text: str) -> str:
    return "".join("-" if unicodedata.category(c) == "Pd" else c for c in text)


def _is_invisible(character: str) -> bool:
    """Return whether a character shows nothing: blanks, controls, marks of format, fillers, variation selectors."""
    return (
        character.isspace()
        or unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf")
        or character in "\u115f\u1160\u2800\u3164\uffa0"
        or "\ufe00" <= character <= "\ufe0f"
    )


_PLAIN: dict[str, Callable[[str], str]] = {  # what names can differ in, and how it is left out
    "case": str.casefold,
    "blanks": _without_blanks,
    "Unicode form": lambda text: unicodedata.normalize("NFKC", text),
    "dashes": _with_plain_dashes,
    "a decimal .0": lambda text: _DECIMAL.sub("", text),
    "leading zeros": lambda text: _LEADING_ZEROS.sub("", text),
}
