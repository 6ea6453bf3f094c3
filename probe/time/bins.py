"""Bins of time: to which each span of a cache belongs, by its place in the utterance or by its label.

A span belongs to the bin that its centre is in. A position is the centre over the duration of the utterance, from 0 to
1; an onset is the centre in seconds from the beginning of the utterance. A bin has its lower edge and lacks its upper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import plan_fingerprint

POSITION, ONSET, LABEL = "position", "onset", "label"
KINDS = {
    POSITION: "place of a span's centre in the utterance, from 0 (beginning) to 1 (end)",
    ONSET: "seconds from the beginning of the utterance to a span's centre",
    LABEL: "label of a span, such as a word or a phone, or its class",
}
UNITS = {POSITION: "fraction of the utterance", ONSET: "s", LABEL: "label"}
DEFAULT_BINS, DEFAULT_BIN_WIDTH = 10, 0.5  # bins of position; seconds of a bin of onset
FEWEST_BINS, MOST_BINS = 2, 100  # of position; one bin is the whole utterance
LEAST_WIDTH = 0.01  # seconds of a bin of onset, less than a frame of any encoder
ROUNDING = 1e-9  # of a bin, by which a centre on an edge may fall short of it
NO_BIN = -1


@dataclass(frozen=True)
class BinPlan:
    """By what spans are divided into bins; equal plans mean equal bins."""

    kind: str  # a key of `KINDS`
    n_bins: int = 0  # of position; 0 for other kinds
    bin_width: float = 0.0  # of onset, seconds; 0 for other kinds
    classes: tuple[tuple[str, str], ...] = ()  # label and class, of kind label; none: each label is a bin

    def to_toml(self) -> dict[str, Any]:
        """Return the settings of the table ``[time]`` of plan.toml, with their fingerprint."""
        unit = "class" if self.classes else UNITS[self.kind]
        given = {name: value for name, value in asdict(self).items() if value and name != "classes"}
        classes = {"classes": [list(pair) for pair in self.classes]} if self.classes else {}
        return {**given, "unit": unit, **classes, "fingerprint": plan_fingerprint(self)}

    @classmethod
    def from_toml(cls, content: Mapping[str, Any]) -> BinPlan:
        """Return the plan that `to_toml` wrote."""
        classes = tuple((str(label), str(name)) for label, name in content.get("classes", ()))
        n_bins, width = int(content.get("n_bins", 0)), float(content.get("bin_width", 0.0))
        return cls(str(content["kind"]), n_bins, width, classes)


@dataclass(frozen=True)
class TimeBin:
    """One bin of time."""

    name: str
    low: float  # lower edge, in the unit of the kind; NaN for labels
    high: float

    def edges(self) -> dict[str, float]:
        """Return the edges for plan.toml; none of a label."""
        return {} if np.isnan(self.low) else {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Binned:
    """The bins that spans belong to."""

    bins: list[TimeBin]  # in the order of time, or of labels by falling number of spans and then by name
    of_span: np.ndarray  # (n_spans,) number of each span's bin, `NO_BIN` where it is in none


def plan_bins(
    kind: str, *, bins: int | None = None, bin_width: float | None = None, classes: Mapping[str, str] | None = None
) -> BinPlan:
    """Return the plan of bins.

    Args:
        kind: a key of `KINDS`
        bins: number of bins of position, 2 to 100, because one is the whole utterance; None for 10
        bin_width: seconds of a bin of onset, 0.01 or more; None for 0.5
        classes: the class of each label, of `read_label_classes`; None where each label is a bin of its own

    Raises:
        InputError: if the kind is unknown, a number out of range, or an option is of another kind
    """
    if kind not in KINDS:
        raise InputError("LP574", f"--by {kind} is unknown; choose from {', '.join(KINDS)}.")
    of_kind = {"--bins": (bins, POSITION), "--bin-width": (bin_width, ONSET), "--label-classes": (classes, LABEL)}
    for option, (value, needed) in of_kind.items():
        if value is not None and kind != needed:
            raise InputError("LP574", f"{option} goes with --by {needed}, not with --by {kind}. Leave it out.")
    if bins is not None and not FEWEST_BINS <= bins <= MOST_BINS:
        raise InputError(
            "LP574", f"--bins {bins} is outside {FEWEST_BINS} to {MOST_BINS}. Choose a number in this range."
        )
    if bin_width is not None and not LEAST_WIDTH <= bin_width < np.inf:
        raise InputError(
            "LP574",
            f"--bin-width {bin_width} is no number of seconds of {LEAST_WIDTH} or more. Choose one such as 0.5.",
        )
    pairs = tuple(sorted((classes or {}).items()))
    n_bins = (DEFAULT_BINS if bins is None else bins) if kind == POSITION else 0
    width = (DEFAULT_BIN_WIDTH if bin_width is None else bin_width) if kind == ONSET else 0.0
    return BinPlan(kind, n_bins, width, pairs)


def divide(spans: Spans, plan: BinPlan) -> Binned:
    """Return the bins of spans, of which some may be without any span.

    Args:
        spans: of a cache
        plan: by what they are divided
    """
    if plan.kind == LABEL:
        return _by_label(spans.label, dict(plan.classes))
    centre = (spans.start + spans.end) / 2
    if plan.kind == POSITION:
        number = np.floor(centre / spans.duration * plan.n_bins + ROUNDING).astype(int)
        edges = (np.arange(plan.n_bins + 1) / plan.n_bins).tolist()
        digits = 2 if plan.n_bins <= MOST_BINS // 2 else 3  # so that edges differ in their names
        number = np.clip(number, 0, plan.n_bins - 1)
    else:
        number = np.floor(centre / plan.bin_width + ROUNDING).astype(int)
        edges = (np.arange(int(number.max(initial=0)) + 2) * plan.bin_width).tolist()
        digits = max(1, len(f"{plan.bin_width:.10g}".partition(".")[2]))
    pairs = pairwise(edges)
    return Binned([TimeBin(f"{a:.{digits}f}–{b:.{digits}f}", round(a, 12), round(b, 12)) for a, b in pairs], number)


def _by_label(labels: np.ndarray, classes: dict[str, str]) -> Binned:
    """Return a bin for each label, or for each class of labels; '' is none. Case and outer blanks do not count."""
    plain = pd.Series(labels, dtype=object).map(plain_label)
    names = plain.map({plain_label(label): name for label, name in classes.items()}).fillna("") if classes else plain
    counts = names[names != ""].value_counts()
    order = sorted(counts.index, key=lambda name: (-int(counts[name]), str(name)))
    number = names.map({name: k for k, name in enumerate(order)}).fillna(NO_BIN).astype(int).to_numpy()
    return Binned([TimeBin(str(name), float("nan"), float("nan")) for name in order], number)


def plain_label(label: str) -> str:
    """Return a label in lower case without blanks at its ends, by which labels are compared."""
    return str(label).strip().casefold()


def read_label_classes(path: Path) -> dict[str, str]:
    """Read a table with columns ``label`` and ``class``.

    Raises:
        InputError: if the file or a column is missing, a cell is empty, or a label has two classes
    """
    if not path.is_file():
        raise InputError("LP576", f"{path} does not exist. Give a CSV file with the columns label and class.")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in ("label", "class") if name not in table]
    if missing:
        raise InputError("LP576", f"{path} has no column {missing[0]}. It needs the columns label and class.")
    found, labels = dict[str, str](), table["label"].map(plain_label)
    for row, (label, name) in enumerate(zip(labels, table["class"].str.strip(), strict=True), start=2):
        if not label or not name:
            raise InputError("LP576", f"{path}, row {row}: the {'class' if label else 'label'} is empty. Fill it in.")
        if found.setdefault(label, name) != name:
            raise InputError(
                "LP576", f"{path}, row {row}: {label} has the classes {found[label]} and {name}. Keep one of them."
            )
    return found
