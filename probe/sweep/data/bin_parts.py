"""Bins of time in a sweep: the utterances that reach each, with the folds of the whole corpus, and what is left out.

All spans of an utterance in one bin are averaged to one row, so that each bin is a fit over utterances. Folds are made
once, over all utterances, and are the same in every bin; bins are therefore paired, and no speaker and no utterance is
on both sides of a split in any of them. Control tasks permute the ratings of all utterances, in every bin alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.predictions import PartOf, SweepData
from layerprobe.probe.sweep.data.inputs import SweepDataset
from layerprobe.probe.sweep.data.rated_parts import RatedPart, restricted
from layerprobe.probe.time.bins import LABEL, NO_BIN, POSITION, BinPlan, TimeBin, divide, plain_label
from layerprobe.probe.time.span_means import SpanMeans, group_means
from layerprobe.probe.vectors import varies_by_rounding

FEWEST_UTTERANCES, FEWEST_SPEAKERS = 20, 3  # of a bin that is probed, and those that its folds hold out together
MOST_REACHED = 0.75  # mean fraction of bins of position that an utterance reaches, below which a note advises fewer
SHOWN = 5  # labels that a command names
LISTED = 50  # bins that plan.toml lists as left out
AT_ONCE = 2**29  # bytes of sums of spans that are held together


@dataclass(frozen=True)
class ProbedBin:
    """A bin that is probed, and what of the sweep's parts reaches it."""

    bin: TimeBin
    number: int  # in `BinnedSpans.bin`
    counts: dict[str, int]  # n_spans, n_utterances, n_speakers
    parts: list[RatedPart]  # numbered within the utterances of the sweep


@dataclass(frozen=True)
class LeftOutBin:
    """A bin that is not probed, or not for some targets, with the reason."""

    bin: TimeBin
    counts: dict[str, int]
    reason: str


@dataclass(frozen=True)
class BinnedSpans:
    """The spans of one cache: the bin and the utterance of each."""

    cache: Cache  # whose rows are spans
    bin: np.ndarray  # (n_spans,) number of the bin, `NO_BIN` without one
    utterance: np.ndarray  # (n_spans,) row of the utterance in the sweep's data, -1 where it is not probed

    def utterances(self, n_bins: int) -> list[np.ndarray]:
        """Return for each bin the row of the utterance of each of its spans, with repetition."""
        used = np.flatnonzero((self.bin >= 0) & (self.utterance >= 0))
        order = used[np.argsort(self.bin[used], kind="stable")]
        counts = np.bincount(self.bin[used], minlength=n_bins)
        return np.split(self.utterance[order], np.cumsum(counts)[:-1])

    def means(self, layer: str, numbers: Sequence[int], n_utterances: int) -> np.ndarray:
        """Return mean embeddings over the spans of each utterance in each of some bins, NaN where there are none.

        Args:
            layer: its name
            numbers: of the bins
            n_utterances: of the sweep

        Returns:
            ``(n_bins, n_utterances, n_features)`` float32
        """
        place = np.full(max(int(self.bin.max(initial=0)), *numbers) + 2, -1)  # the last one is of no bin
        place[list(numbers)] = np.arange(len(numbers))
        of_bin = place[self.bin]
        group = np.where((of_bin >= 0) & (self.utterance >= 0), of_bin * n_utterances + self.utterance, -1)
        means = group_means(self.cache, layer, group, n_groups=len(numbers) * n_utterances)
        return means.reshape(len(numbers), n_utterances, -1)


@dataclass(frozen=True)
class BinnedSweep:
    """Everything that the probes of a sweep's bins have in common."""

    plan: BinPlan
    bins: list[ProbedBin]
    left_out: list[LeftOutBin]
    spans: list[BinnedSpans]  # of each cache of the sweep
    n_spans: int  # of the utterances that are probed, in the first cache
    n_without_bin: int  # those of them that are in none
    n_utterances: int

    def batches(self, n_features: int) -> list[list[ProbedBin]]:
        """Return the bins in groups whose embeddings are held in memory together."""
        at_once = max(1, AT_ONCE // max(1, 8 * self.n_utterances * n_features))
        return [self.bins[k : k + at_once] for k in range(0, len(self.bins), at_once)]

    def to_toml(self) -> dict[str, Any]:
        """Return the table ``[time]`` of plan.toml."""
        return {
            **self.plan.to_toml(),
            "n_spans": self.n_spans,
            "n_without_bin": self.n_without_bin,
            "n_left_out": len(self.left_out),
            "bins": [{"name": one.bin.name, **one.bin.edges(), **one.counts} for one in self.bins],
            "left_out": [
                {"name": one.bin.name, **one.bin.edges(), **one.counts, "reason": one.reason}
                for one in self.left_out[:LISTED]
            ],
        }

    def _shown(self) -> str:
        """Return the first and the last bin, or the first labels, which have most spans."""
        names = [one.bin.name for one in self.bins]
        if self.plan.kind != LABEL:
            return f"{names[0]} to {names[-1]}"
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} others" if len(names) > SHOWN else "")

    def notes(self) -> list[str]:
        """Return sentences for a command to print."""
        found = [
            f"{len(self.bins)} bins by {self.plan.kind} ({self._shown()}): ridge "
            "on the mean of an utterance's spans in each. Mixes, residuals and other probes are of whole utterances."
        ]
        counts = {one.bin.name: one.counts for one in self.left_out} | {one.bin.name: one.counts for one in self.bins}
        reached = sum(of_bin["n_utterances"] for of_bin in counts.values()) / max(1, self.n_utterances)
        if self.plan.kind == POSITION and reached < MOST_REACHED * self.plan.n_bins:
            found.append(
                f"An utterance has spans in {reached:.1f} of {self.plan.n_bins} bins on average, so that bins are of "
                f"different utterances. Take fewer (--bins {max(1, int(reached))}), or extract windows at shorter "
                "intervals (--every)."
            )
        for one in self.left_out[:LISTED]:
            found.append(f"Bin {one.bin.name} is left out: {one.reason}.")
        if len(self.left_out) > LISTED:
            found.append(f"{len(self.left_out) - LISTED} more bins are left out for such reasons.")
        return found


def bin_sweep(plan: BinPlan, caches: Sequence[Cache], dataset: SweepDataset) -> BinnedSweep:
    """Divide a sweep over utterances into bins of time.

    An utterance reaches a bin if every cache has a span of it there.

    Args:
        plan: by what spans are divided
        caches: of the sweep, those under study first, each of `probe.time.span_means.utterance_means`
        dataset: all utterances of the sweep, and its parts

    Raises:
        InputError: if no bin is left, or no span of a cache has a label or a class
    """
    data = dataset.data
    ids = pd.Index(data.utterance_ids)
    names: list[TimeBin] = []
    of_name: dict[str, int] = {}
    spans = []
    for cache in cast(Sequence[SpanMeans], caches):
        binned = divide(cast(Spans, cache.span_cache.spans), plan)
        if not binned.bins:
            raise _without_labels(cache.span_cache)
        for one in binned.bins:
            if of_name.setdefault(one.name, len(names)) == len(names):
                names.append(one)
        number = np.array([*(of_name[one.name] for one in binned.bins), NO_BIN])[binned.of_span]
        utterance = ids.get_indexer(pd.Index(cache.utterance_ids))[np.asarray(cache.parent_of_span)]
        spans.append(BinnedSpans(cache.span_cache, number, utterance))
    in_bins = [one_cache.utterances(len(names)) for one_cache in spans]
    bins, left_out = [], []
    for k, one in enumerate(names):
        reaches = np.ones(len(ids), dtype=bool)
        for of_bin in in_bins:
            reaches &= np.isin(np.arange(len(ids)), of_bin[k])
        rows = np.flatnonzero(reaches)
        n = {"n_spans": int(reaches[in_bins[0][k]].sum()), "n_utterances": len(rows)}
        n["n_speakers"] = len(np.unique(data.groups[rows]))
        fitted = [_of_bin(part, reaches) for part in dataset.parts]
        reasons = list(dict.fromkeys(found for found in fitted if isinstance(found, str)))
        kept = [found for found in fitted if isinstance(found, RatedPart)]
        if kept:
            bins.append(ProbedBin(one, k, n, kept))
        if reasons:
            left_out.append(LeftOutBin(one, n, "; ".join(reasons)))
    if not bins:
        reason = f": {left_out[0].reason} ({left_out[0].bin.name})" if left_out else ""
        raise InputError(
            "LP575", f"No bin by {plan.kind} is left to probe{reason}. Take fewer or wider bins or classes."
        )
    used = spans[0].utterance >= 0
    n_without = int((used & (spans[0].bin == NO_BIN)).sum())
    return BinnedSweep(plan, bins, left_out, spans, int(used.sum()), n_without, len(ids))


def _without_labels(cache: Cache) -> InputError:
    """Return the error of a cache without bins of labels: its spans have none, or their labels have no class."""
    labels = pd.Series(cast(Spans, cache.spans).label, dtype=object).map(plain_label)
    names = sorted(set(labels) - {""})
    if not names:
        missing = f"no span of {cache.path} has a label. Extract the spans of a table, TextGrids or a CTM with --spans"
        return InputError("LP575", f"No bin by label is left to probe: {missing}.")
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    missing = f"no label of {cache.path} has a class (labels: {shown}). Write the classes of its labels in the table of"
    return InputError("LP575", f"No bin by label is left to probe: {missing} --label-classes.")


def _of_bin(part: RatedPart, reaches: np.ndarray) -> RatedPart | str:
    """Return what of a part reaches a bin, or why it is not probed there.

    Args:
        part: of the sweep
        reaches: ``(n_utterances,)`` bool, which utterances of the sweep have a span in the bin
    """
    rows = np.flatnonzero(reaches[part.rows])  # within the part
    data, names = part.data, ", ".join((*part.plan.targets, *part.plan.nominal))
    held_out = rows[np.isin(rows, np.concatenate([split.test for split in data.splits]))]
    for own, what in ((rows, "is reached by"), (held_out, "holds out")):
        n_speakers = len(np.unique(data.groups[own]))
        for n, unit, fewest in ((len(own), "utterance", FEWEST_UTTERANCES), (n_speakers, "speaker", FEWEST_SPEAKERS)):
            if n < fewest:
                return f"it {what} {_counted(n, unit)} with ratings of {names}, fewer than {fewest}"
    for split in data.splits:
        if not np.isin(split.test, rows).any():
            return f"no utterance of fold {split.name} with ratings of {names} reaches it"
    try:
        splits = restricted(data.splits, rows, len(data.utterance_ids), names)
    except InputError:
        return f"the training speakers with ratings of {names} that reach it are in one inner fold alone"
    both = np.column_stack([data.ratings, data.codes])[rows]
    if any(varies_by_rounding(both[split.train]).any() for split in splits):
        return f"training utterances that reach it have one value alone of one of {names}"
    plan = replace(part.plan, residuals=(), text_residuals=(), probes=(), mixes=(), fused=False, cross_corpus=False)
    of_bin = SweepData(
        utterance_ids=data.utterance_ids[rows],
        speaker_ids=data.speaker_ids[rows],
        groups=np.unique(data.groups[rows], return_inverse=True)[1],
        ratings=data.ratings if len(rows) == len(data.ratings) else np.ascontiguousarray(data.ratings[rows]),
        codes=data.codes if len(rows) == len(data.codes) else np.ascontiguousarray(data.codes[rows]),
        splits=splits,
        part_of=PartOf(replace(data, text_residuals=None), rows),
    )
    return RatedPart(part.rows[rows], part.n_utterances, of_bin, plan)


def _counted(n: int, unit: str) -> str:
    """Return a number of utterances or speakers.

    >>> _counted(0, "utterance"), _counted(1, "speaker"), _counted(7, "utterance")
    ('no utterance', '1 speaker', '7 utterances')
    """
    return f"{'no' if n == 0 else n} {unit}{'s' if n > 1 else ''}"
