"""The page of each code, of an error or of a check: ``docs/codes/CODE.md``, which is installed with the package."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from layerprobe.probe.exceptions import InputError

CODE = re.compile(r"LP\d+", flags=re.IGNORECASE)
FOLDER = Path(str(files("layerprobe"))) / "codes"  # in a checkout a link to docs/codes
NEEDED = ("Symptom", "Cause", "What to do", "Example")  # headings of a page, in this order; Source may follow
FAMILIES = {  # by the digit after LP
    "0": "Checks of a study",
    "1": "Manifests and importers of corpora",
    "2": "Audio, text and transcripts",
    "3": "Encoders",
    "4": "Caches and extraction",
    "5": "Sweeps",
    "6": "Runs, findings, figures and the report",
    "7": "Training, pre-training, distillation and synthesis",
    "8": "The command line, the machine and the network",
    "9": "Predictors: cost, deploying, predicting and serving",
}


@dataclass(frozen=True)
class CodePage:
    """The page of one code."""

    code: str  # LP and three digits
    title: str  # short
    sections: dict[str, str]  # text by heading, in the page's order

    @property
    def text(self) -> str:
        """The page for a terminal."""
        blocks = [f"{self.code}  {self.title}"]
        for heading, body in self.sections.items():
            lines = "\n".join(f"  {line}".rstrip() for line in body.splitlines())
            blocks.append(f"{heading}\n{lines}")
        return "\n\n".join(blocks)

    def mentions(self, text: str) -> bool:
        """Return whether the title or the symptom contains a text, in upper or lower case and on one line or two."""
        symptom = " ".join(self.sections["Symptom"].split())
        return text.casefold() in f"{self.title}\n{symptom}".casefold()


def codes() -> list[str]:
    """Return all codes, in rising order."""
    return sorted(path.stem for path in FOLDER.glob("LP[0-9][0-9][0-9].md"))


@functools.cache
def read_page(code: str) -> CodePage:
    """Return the page of a code.

    Raises:
        InputError: if there is no such code
    """
    path = FOLDER / f"{code.upper()}.md"
    if code.upper() not in codes():
        raise InputError("LP801", f"There is no code {code}. layerprobe explain, without a code, lists all of them.")
    title, *parts = re.split(r"^#{1,2} ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    sections = dict(part.split("\n", 1) for part in parts)
    return CodePage(path.stem, title.split(": ", 1)[1].strip(), {k: _trimmed(v) for k, v in sections.items()})


def explain(about: str = "") -> str:
    """Return the page of a code for a terminal, or a list of codes with their titles by family.

    Args:
        about: a code; any other text lists the codes whose title or symptom contains it, and none lists all codes

    Raises:
        InputError: if there is no such code, or no title or symptom contains the text
    """
    if CODE.fullmatch(about):
        return read_page(about).text
    pages = [page for page in map(read_page, codes()) if page.mentions(about)]
    if not pages:
        raise InputError(
            "LP802", f"No title or symptom of a code contains {about!r}. layerprobe explain, without a word, lists all."
        )
    lines = []
    for digit, family in FAMILIES.items():
        if listed := [f"  {page.code}  {page.title}" for page in pages if page.code[2] == digit]:
            lines += [family, *listed]
    return "\n".join(lines)


def _trimmed(text: str) -> str:
    """Return a section without empty lines around it; a code block keeps its indentation."""
    return text.strip("\n").rstrip()
