"""The manifest: a table of utterances, and a header with the scales and classes of its targets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.problem import Problem
from layerprobe.probe.splits import UNKNOWN_SPEAKER

MANIFEST_FORMAT_VERSION = 1  # of the header; another one is refused
TRANSCRIPT = "transcript"  # default column of the transcript
ASR_TRANSCRIPT = "asr_transcript"  # column of a recogniser's transcript where there are human ones, too
REQUIRED = ("utterance_id", "path", "speaker_id")
TIMES = ("start", "end")
GROUPS = ("gender", "corpus")  # columns of groups that reports compare
# Columns that have a meaning in every manifest; targets and their raters come from the header.
NEEDED_COLUMNS = frozenset((*REQUIRED, *TIMES, *GROUPS, "split", TRANSCRIPT, ASR_TRANSCRIPT))
KNOWN_COLUMNS = NEEDED_COLUMNS | {f"{TRANSCRIPT}_source", f"{ASR_TRANSCRIPT}_source", "duration"}
PROBLEMS_SHOWN = 20
ROW_COUNTING = "Rows are counted as a spreadsheet shows them: the header is row 1."


@dataclass(frozen=True)
class Target:
    """A rated target: the ends of the scale that raters used, and what the scale means."""

    minimum: float
    maximum: float
    meaning: str = ""


@dataclass(frozen=True)
class Nominal:
    """A nominal target: the classes among which raters, or a script, chose one."""

    classes: tuple[str, ...]
    meaning: str = ""


@dataclass(frozen=True)
class NameRules:
    """What the header states about the names of one column: which are one, which are not, which are no gaps."""

    same: tuple[tuple[str, ...], ...] = ()  # names of one speaker or group each; the first is kept
    distinct: tuple[tuple[str, ...], ...] = ()  # names that look alike, of different speakers or groups
    known: tuple[str, ...] = ()  # names that are usual spellings of "unknown" and here are real, such as NA
    similar: Literal["ask", "same", "distinct"] = "ask"  # what other names that look alike are


@dataclass(frozen=True)
class Header:
    """Description of a corpus: name, version, licence, scales of rated targets, classes of nominal ones.

    ``version``, ``licence`` and ``notes`` are '' where the header does not state them.
    """

    corpus: str
    version: str = ""
    licence: str = ""
    targets: dict[str, Target] = field(default_factory=dict)
    notes: str = ""
    nominal: dict[str, Nominal] = field(default_factory=dict)
    names: dict[str, NameRules] = field(default_factory=dict)  # by column of speakers or groups


@dataclass(frozen=True, repr=False)
class Manifest:
    """A checked table of utterances with the header that explains it.

    ``table`` has one row per utterance; text columns, nominal targets among them, hold strings ('' where empty),
    ``start``, ``end`` (seconds), rated targets and per-rater columns floats (NaN where empty). ``path`` is absolute.
    """

    path: Path
    header: Header
    table: pd.DataFrame

    def __repr__(self) -> str:
        """Return one line: file, corpus, numbers of utterances and speakers, targets with their scales."""
        targets = ", ".join(f"{name} {scale}" for name, scale in self._scales()) or "no targets"
        counts = f"{_count(len(self.table), 'utterance')}, {_count(self.n_speakers, 'speaker')}"
        return f"<Manifest {self.path.name}: corpus {self.header.corpus!r}, {counts}; {targets}>"

    def _repr_html_(self) -> str:
        """Return the same as a small table, for notebooks."""
        rows = [("corpus", " ".join(filter(None, (self.header.corpus, self.header.version))))]
        rows += [("licence", self.header.licence)] if self.header.licence else []
        rows += [("utterances", f"{len(self.table):,}"), ("speakers", f"{self.n_speakers:,}")]
        if "split" in self.table:
            rows.append(("split", ", ".join(f"{k} {n:,}" for k, n in self.table["split"].value_counts().items())))
        for name, scale in self._scales():
            n_rated = int((self.table[name].notna() & (self.table[name] != "")).sum())
            rows.append((name, f"{scale}, {_count(n_rated, 'rating')}"))
        cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in rows)
        return f"<table><caption>Manifest {escape(self.path.name)}</caption><tbody>{cells}</tbody></table>"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the rated targets, in the header's order."""
        return tuple(self.header.targets)

    @property
    def n_speakers(self) -> int:
        """Number of identified speakers; utterances of unknown ones are not counted."""
        return int(self.table["speaker_id"][self.table["speaker_id"] != UNKNOWN_SPEAKER].nunique())

    def content_hash(self, *others: str) -> str:
        """Return sixteen hex digits over every column that can change a score; they do not depend on the folder.

        Args:
            others: columns that a sweep reads as well, to group by; '' and those that the table lacks are left out
        """
        rated = [c for target in self.targets for c in (target, *rater_columns(self.table, target))]
        texts = [c for c in ("split", TRANSCRIPT, ASR_TRANSCRIPT, "gender", "corpus") if c in self.table]
        known = ["utterance_id", "speaker_id", *texts, *rated, *self.header.nominal]
        columns = list(dict.fromkeys([*known, *(c for c in others if c in self.table)]))
        text = self.table.sort_values("utterance_id")[columns].to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _scales(self) -> Iterable[tuple[str, str]]:
        yield from ((name, f"{t.minimum:g} to {t.maximum:g}") for name, t in self.header.targets.items())
        yield from ((name, f"({len(n.classes)} classes)") for name, n in self.header.nominal.items())


class ManifestError(InputError):
    """All problems of one manifest; a problem of a row begins with the row's number."""

    def __init__(self, path: Path, problems: Sequence[Problem], advice: Sequence[str] = ()) -> None:
        """Set the file, its problems, and sentences on what can be done about them."""
        self.problems = list(problems)
        shown = [f"  {p}" for p in problems[:PROBLEMS_SHOWN]]
        if len(problems) > PROBLEMS_SHOWN:
            shown.append(f"  … and {len(problems) - PROBLEMS_SHOWN} more")
        last = "Correct them and run the command again."
        if any(re.match(r"row \d", p.text) for p in problems):
            last = f"{ROW_COUNTING} {last}"
        super().__init__("LP100", "\n".join([f"{path} has {_count(len(problems), 'problem')}:", *shown, *advice, last]))


def rater_columns(table: pd.DataFrame, target: str) -> list[str]:
    """Return the per-rater columns of one target, ``arousal_r1, arousal_r2, …``, ordered by the raters' numbers."""
    numbered = {m[1]: c for c in map(str, table) if (m := re.fullmatch(re.escape(target) + r"_r(\d+)", c))}
    return [numbered[n] for n in sorted(numbered, key=int)]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
