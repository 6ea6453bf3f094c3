"""Traces of MSP-Conversation (Martinez-Lucas et al., 2020) and RECOLA (Ringeval et al., 2013) in their own folders."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from layerprobe.probe.data.importers import msp_conversation as msp, recola
from layerprobe.probe.data.importers.base import SAM, find_entry, not_the_corpus
from layerprobe.probe.data.importers.traces import Traces, read_traces
from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.data.traces.source import RaterTrace, Recording, TargetTraces, TraceSource

GOLD_STANDARD = "goldstandard"  # the name of its column, without blanks, marks and capitals


def conversation_traces(folder: Path) -> TraceSource:
    """Return the traces of MSP-Conversation, a recording for each conversation.

    Utterances are found by the ids of the turns that ``Time_Labels/segments.json`` lists, whose audio may be that of
    MSP-Podcast, and by audio files of whole conversations.

    Raises:
        InputError: if the folder is another corpus', or a file of it is damaged
    """
    annotations, labels = find_entry(folder, "Annotations"), find_entry(folder, "Time_Labels")
    if annotations is None or labels is None:
        lack = "Annotations" if annotations is None else "Time_Labels"
        raise not_the_corpus(folder, msp.CORPUS, f"it has no folder {lack}")
    parts = msp.conversation_parts(labels, folder)
    utterances: dict[str, tuple[str, float]] = {}
    remarks = []
    if find_entry(labels, "segments.json") is not None:
        turns, described = msp.conversation_turns(labels, parts, folder)
        utterances = {t.name: (msp.conversation_of(t.part), parts[t.part][0] + t.start) for t in turns}
        remarks.append(described)

    files = msp.Annotations(annotations)
    of_conversation = defaultdict(list)
    for part, (start, _) in parts.items():
        of_conversation[msp.conversation_of(part)].append((part, start))

    def load(name: str) -> Recording:
        return {target: _of_parts(files, target, of_conversation[name]) for target in SAM}

    scales = {name: Target(msp.LOW, msp.HIGH, meaning) for name, meaning in SAM.items()}
    return TraceSource(msp.CORPUS, load, tuple(of_conversation), utterances, scales, tuple(remarks))


def _of_parts(files: msp.Annotations, target: str, parts: list[tuple[str, float]]) -> TargetTraces:
    """Return the traces of a conversation; ``parts`` has each part with its start in seconds."""
    found: dict[str, list[Traces]] = defaultdict(list)
    n_unread = 0
    for part, start in parts:
        for rater, path in files.of_part(target, part):
            traces = read_traces(path, separator=msp.SEPARATOR)
            found[rater].append(replace(traces, times=traces.times + start))
            n_unread += traces.n_unread
    # the first cell after the time: one file of the corpus has another one in each line
    raters = [
        RaterTrace.in_order(rater, np.concatenate([t.times for t in of]), np.concatenate([t.ratings[0] for t in of]))
        for rater, of in sorted(found.items())
    ]
    return TargetTraces(tuple(raters), n_unread=n_unread)


def recola_traces(folder: Path) -> TraceSource:
    """Return the traces of RECOLA, a recording for each participant, with ratings every 40 ms.

    A column that is named ``gold_standard``, in any spelling, is the rating in place of the mean of the raters.

    Args:
        folder: of the corpus, or one with the folders ``arousal`` and ``valence``

    Raises:
        InputError: if the folder has no such ratings
    """
    ratings = find_entry(folder, *recola.RATINGS) or folder
    places = {name: find_entry(ratings, name) for name in recola.TARGETS}
    found = {name: place for name, place in places.items() if place is not None}
    files = {
        name: {path.stem: path for path in sorted(place.iterdir()) if path.suffix.lower() == ".csv"}
        for name, place in found.items()
    }
    names = sorted({stem for of_target in files.values() for stem in of_target if not stem.startswith(".")})
    if not names:
        raise not_the_corpus(
            folder, "RECOLA", f"it has no ratings in {'/'.join(recola.RATINGS)}, in arousal or valence"
        )

    def load(name: str) -> Recording:
        of_targets = {target: paths[name] for target, paths in files.items() if name in paths}
        return {target: _columns(read_traces(path, separator=recola.SEPARATOR)) for target, path in of_targets.items()}

    scales = {name: Target(-1.0, 1.0, SAM[name]) for name in found}
    return TraceSource("RECOLA", load, tuple(names), {}, scales)


def _columns(traces: Traces) -> TargetTraces:
    """Return the columns of a file as raters, but for that of the gold standard."""
    names = traces.raters or tuple(str(k + 1) for k in range(len(traces.ratings)))
    columns = [
        RaterTrace.in_order(name, traces.times, values) for name, values in zip(names, traces.ratings, strict=True)
    ]
    gold = [trace for trace in columns if is_gold_standard(trace.rater)]
    raters = tuple(trace for trace in columns if not is_gold_standard(trace.rater))
    return TargetTraces(raters, gold[0] if gold else None, traces.n_unread)


def is_gold_standard(column: str) -> bool:
    """Return whether a column has that name, in any spelling.

    >>> is_gold_standard("Gold_Standard "), is_gold_standard("GoldStandard"), is_gold_standard("FM1")
    (True, True, False)
    """
    return "".join(filter(str.isalnum, column)).lower() == GOLD_STANDARD
