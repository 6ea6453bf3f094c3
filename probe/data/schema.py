"""What a manifest is: its header, the scales and classes of its targets, its table, and what can be wrong with one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from layerprobe.probe.exceptions import InputError

TRANSCRIPT = "transcript"  # the column of words, unless another is named
ASR_TRANSCRIPT = "asr_transcript"  # the column of a machine's words beside people's
PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Target:
    """The scale that listeners rated on."""

    minimum: float
    maximum: float
    meaning: str = ""


@dataclass(frozen=True)
class Nominal:
    """The classes among which listeners, or a script, chose one."""

    classes: tuple[str, ...]
    meaning: str = ""


@dataclass(frozen=True)
class Header:
    """What a corpus is: its name, version, licence, the scale of rated targets, the classes of nominal ones."""

    corpus: str
    version: str
    licence: str
    targets: dict[str, Target]
    notes: str = ""
    nominal: dict[str, Nominal] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A checked table of utterances with the header that explains it.

    ``table`` has one row per utterance; text columns, nominal targets among them, hold strings ('' where empty),
    ``start``, ``end`` (seconds), rated targets and per-rater columns floats (NaN where empty). ``path`` is absolute.
    """

    path: Path
    header: Header
    table: pd.DataFrame = field(repr=False)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the rated targets, in the header's order."""
        return tuple(self.header.targets)

    def content_hash(self) -> str:
        """Sixteen hex digits over every column that can change a score; moving the folder changes nothing."""
        rated = [c for target in self.targets for c in (target, *rater_columns(self.table, target))]
        texts = [c for c in ("split", TRANSCRIPT, ASR_TRANSCRIPT, "gender", "corpus") if c in self.table]
        columns = ["utterance_id", "speaker_id", *texts, *rated, *self.header.nominal]
        text = self.table.sort_values("utterance_id")[columns].to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class ManifestError(InputError):
    """The problems of one manifest, all of them, each with its row."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.problems = problems
        shown = [f"  {p}" for p in problems[:PROBLEMS_SHOWN]]
        if len(problems) > PROBLEMS_SHOWN:
            shown.append(f"  … and {len(problems) - PROBLEMS_SHOWN} more")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{path} has {count}:", *shown, "Correct them and run the command again."]))


def rater_columns(table: pd.DataFrame, target: str) -> list[str]:
    """Per-rater columns of one target, ``arousal_r1, arousal_r2, …``, in the raters' order."""
    numbered = {m[1]: c for c in map(str, table) if (m := re.fullmatch(re.escape(target) + r"_r(\d+)", c))}
    return [numbered[n] for n in sorted(numbered, key=int)]
