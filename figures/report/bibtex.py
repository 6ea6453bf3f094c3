"""BibTeX entries of the references of a methods paragraph."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

ENTRY = re.compile(r"(?P<authors>.+?) \((?P<year>\d{4})\)\. (?P<title>.+?[.?!])”? (?P<rest>.+?)\.?$", re.DOTALL)


def bibtex(references: Sequence[str]) -> str:
    r"""Return an entry for each reference: authors, year, title in braces, and where it was published.

    Args:
        references: as ``Lin, L. I. (1989). Title. Journal 45, 255–268.``

    Raises:
        ValueError: if a reference has another form

    >>> print(bibtex(["Yang, S. et al. (2021). SUPERB: A benchmark. Proceedings of Interspeech, 1194–1198."]))
    @misc{yang2021,
      author = {Yang, S. and others},
      year = {2021},
      title = {{SUPERB: A benchmark}},
      howpublished = {Proceedings of Interspeech, 1194--1198}
    }
    """
    entries = []
    for text in references:
        found = ENTRY.match(text)
        if found is None:
            raise ValueError(f"{text!r} is no reference with authors, a year in brackets, a title and a source.")
        authors = _authors(found["authors"])
        plain = unicodedata.normalize("NFKD", authors).encode("ascii", "ignore").decode()
        key = re.sub(r"\W", "", plain.split(",")[0]).lower() + found["year"]
        fields = {
            "author": authors,
            "year": found["year"],
            "title": f"{{{found['title'].rstrip('.')}}}",
            "howpublished": found["rest"].replace("–", "--"),
        }
        body = ",\n".join(f"  {name} = {{{_escaped(value)}}}" for name, value in fields.items())
        entries.append(f"@misc{{{key},\n{body}\n}}")
    return "\n\n".join(entries)


def _authors(text: str) -> str:
    """Return names joined by "and", as BibTeX takes them.

    >>> _authors("Huth, A. G., Lee, B. and Gallant, J. L."), _authors("Song, L. et al.")
    ('Huth, A. G. and Lee, B. and Gallant, J. L.', 'Song, L. and others')
    """
    text = text.replace(" et al.", " and others")
    return re.sub(r"\., (?=[^,]+, )", ". and ", text)


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", text).replace("“", "``").replace("”", "''")
