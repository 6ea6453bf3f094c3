"""Annotations of one name in several tables and by several raters, joined to a consensus and a column per rater."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.audformat_annotations import EMOTION, KEYS, Annotation, key_text
from layerprobe.probe.data.manifest.scales import finite_numbers, observed_range, usual_scale
from layerprobe.probe.data.manifest.schema import Nominal, Target
from layerprobe.probe.exceptions import InputError


@dataclass(frozen=True)
class Joined:
    """One value per file or segment, and those of each rater; '' or no row where empty."""

    name: str
    values: pd.Series[str]  # index: file, start, end, each once
    raters: dict[str, pd.Series[str]]  # by rater, in the order of their names
    remarks: tuple[str, ...]
    annotations: tuple[Annotation, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers and the scheme gives them no texts."""
        return all(_are_numbers(a) for a in self.annotations)


class AnnotationConflictError(InputError):
    """Two tables that state different values of one file or segment."""


def join(annotations: Sequence[Annotation], name: str) -> Joined:
    """Join the annotations of one name.

    The consensus is what no single rater annotated, such as a column ``gold_standard``. Where there is none and there
    are several raters, it is the mean of their numbers, or the class that most of them chose ('' for a tie); models
    count where no person rated.

    Raises:
        AnnotationConflictError: if two columns, neither of which is another rater's, differ
    """
    by_rater: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        by_rater.setdefault(annotation.rater, []).append(annotation)
    if len(by_rater) == 1:
        return Joined(name, _merged(list(annotations), name), {}, (), tuple(annotations))
    raters = {r: _merged(by_rater[r], name) for r in sorted(by_rater, key=_natural) if r}
    numbered = ", ".join(f"{name}_r{k + 1} {rater}" for k, rater in enumerate(raters))
    remarks = [f"raters of {name}: {numbered}"]
    if "" in by_rater:
        consensus = _merged(by_rater[""], name)
    else:
        numeric = name != EMOTION and all(map(_are_numbers, annotations))
        models = [r for r in raters if all(a.is_machine for a in by_rater[r])]
        people = {r: values for r, values in raters.items() if r not in models} or raters
        consensus, remark = _mean(people, name) if numeric else _majority(people, name)
        left_out = f", without the model{'s' * (len(models) > 1)} {', '.join(models)}"
        remarks.append(remark + left_out * (len(people) < len(raters)))
    return Joined(name, consensus, raters, tuple(remarks), tuple(annotations))


def describe_target(joined: Joined, folder: str) -> tuple[Target | Nominal, list[str]]:
    """Return the scale or the classes of a target, with remarks on what its scheme does not state.

    Raises:
        InputError: if no scale is stated and none that is in use holds the ratings
    """
    meaning = next((a.description for a in joined.annotations if a.description), "")
    if joined.name == EMOTION or not joined.is_numeric:
        classes = tuple(dict.fromkeys(label for a in joined.annotations for label in a.labels))
        used = {v for series in (joined.values, *joined.raters.values()) for v in series if v != ""}
        if classes and used <= set(classes):
            return Nominal(classes, meaning), []
        found = (*classes, *sorted(used - set(classes)))
        return Nominal(found, meaning), [f"db.yaml lists no classes of {joined.name}; those that occur are taken"]
    for a in joined.annotations:
        low, high = _limits(a)
        if low is not None and high is not None and low < high:
            return Target(low, high, meaning), []
    low, high = observed_range(finite_numbers(pd.concat([joined.values, *joined.raters.values()])))
    scale = usual_scale(low, high)
    if scale is None:
        raise InputError(
            "LP175",
            f"{folder}: the scheme of {joined.name} states no minimum and maximum, and its ratings from {low:g} to "
            f"{high:g} fit no usual scale. State both in db.yaml.",
        )
    return Target(*scale, meaning), [
        f"db.yaml states no scale of {joined.name}; {scale[0]:g} to {scale[1]:g} is guessed from its ratings "
        f"{low:g} to {high:g}: check the header"
    ]


def _limits(annotation: Annotation) -> tuple[float | None, float | None]:
    """Return the ends of a scheme's scale: its minimum and maximum, else the ends of labels that are numbers."""
    scheme: Any = annotation.scheme
    if annotation.labels and _are_numbers(annotation):
        numbers = [float(label) for label in annotation.labels]
        return min(numbers), max(numbers)
    ends = (getattr(scheme, "minimum", None), getattr(scheme, "maximum", None))
    return tuple(None if e is None else float(e) for e in ends)  # type: ignore[return-value]


def _are_numbers(annotation: Annotation) -> bool:
    values = annotation.values[annotation.values != ""]
    texts = pd.Series([*annotation.labels, *values.unique()], dtype=object)
    return bool(np.isfinite(pd.to_numeric(texts, errors="coerce").astype(float)).all())


def _merged(annotations: list[Annotation], name: str) -> pd.Series[str]:
    """Return one value per file or segment, '' where no column has one.

    Raises:
        AnnotationConflictError: if two columns differ
    """
    stacked = pd.concat([a.values for a in annotations])
    sources = np.repeat([a.source for a in annotations], [len(a.values) for a in annotations])
    frame = pd.DataFrame({"value": stacked.to_numpy(), "source": sources}, index=stacked.index)
    filled = frame[frame["value"] != ""]
    once = filled[~filled.index.duplicated()]
    differs = filled["value"].to_numpy() != once["value"].reindex(filled.index).to_numpy()
    if differs.any():
        second = filled[differs].iloc[0]
        key = filled.index[differs][0]
        first = once.loc[key]
        n = int(filled.index[differs].nunique())
        raise AnnotationConflictError(
            "LP174",
            f"{key_text(key)} has the {name} {first['value']!r} in {first['source']} and {second['value']!r} in "
            f"{second['source']}, and {n} file{'s' * (n > 1)} or segment{'s' * (n > 1)} differ in all",
        )
    index = stacked.index[~stacked.index.duplicated()]
    return once["value"].reindex(index, fill_value="")


def _mean(raters: dict[str, pd.Series[str]], name: str) -> tuple[pd.Series[str], str]:
    numbers = pd.concat([pd.to_numeric(r, errors="coerce").astype(float) for r in raters.values()], axis=1)
    mean = numbers.mean(axis=1)
    return mean.map(lambda m: "" if np.isnan(m) else repr(float(m))), f"{name} is the mean of {len(raters)} raters"


def _majority(raters: dict[str, pd.Series[str]], name: str) -> tuple[pd.Series[str], str]:
    columns = pd.concat(list(raters.values()), axis=1).fillna("")
    chosen, n_ties = [], 0
    for row in columns.to_numpy():
        given = [v for v in row if v != ""]
        counts = pd.Series(given, dtype=object).value_counts()
        tied = len(counts) > 1 and counts.iloc[0] == counts.iloc[1]
        n_ties += tied
        chosen.append("" if tied or not given else str(counts.index[0]))
    remark = f"{name} is what most of {len(raters)} raters chose; {n_ties} without a majority are left empty"
    index = pd.MultiIndex.from_tuples(list(columns.index), names=KEYS)
    return pd.Series(chosen, index=index, dtype=object), remark


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts rater2 before rater10."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]
