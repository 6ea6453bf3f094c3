"""RECOLA (Ringeval et al., 2013): ratings in time of six raters, imported as means over the participants' turns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import SAM, Imported, find_entry, not_the_corpus, read_text, tidy
from layerprobe.probe.data.importers.traces import NO_TRACES, Traces, read_traces
from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.exceptions import InputError

TARGETS = ("arousal", "valence")
AUDIO, TIMINGS = ("RECOLA-Audio-recordings", "RECOLA-Audio_timings")
RATINGS = ("RECOLA-Annotation", "emotional_behaviour")
SEPARATOR = ";"  # of a time and the ratings of all raters
RATED_SECONDS = 300.0  # from the beginning of each recording


def import_recola(folder: Path) -> Imported:
    """Read the turns of ``RECOLA-Audio_timings`` in the five minutes that were rated; whole recordings without it.

    Raises:
        InputError: if the folder is another corpus', or a file of it is damaged
    """
    audio, ratings = find_entry(folder, AUDIO), find_entry(folder, *RATINGS)
    if audio is None or ratings is None:
        lack = AUDIO if audio is None else "/".join(RATINGS)
        raise not_the_corpus(folder, "RECOLA", f"it has no folder {lack}")
    timings = find_entry(folder, TIMINGS)
    dropped = Counter[str]()
    rows: list[dict[str, object]] = []
    for path in sorted(audio.glob("*.wav")):
        traces = _traces(ratings, path.stem)
        if not traces:
            dropped["audio without ratings"] += 1
            continue
        for number, (start, end) in enumerate(_turns(timings, path.stem), start=1):
            if start >= RATED_SECONDS:
                dropped["turn after the five minutes that were rated"] += 1
                continue
            end = min(end, RATED_SECONDS)
            name = f"{path.stem}_{number:03d}"
            times = {"utterance_id": name, "path": str(path.absolute()), "start": start, "end": end}
            rows.append(times | {"speaker_id": path.stem} | _ratings(traces, start, end))
    if not rows:
        raise not_the_corpus(folder, "RECOLA", "no recording in it has ratings")
    order = ["utterance_id", "path", "speaker_id", "start", "end", *TARGETS]
    table = pd.DataFrame(rows)
    table = table[[*order, *sorted(set(map(str, table)) - set(order))]]
    warnings = [NO_TRACES]
    if timings is None:
        warnings.append(f"{TIMINGS} is missing, so each recording is one utterance of its first five minutes")
    header = Header(
        "RECOLA",
        "",
        "by licence agreement",
        {name: Target(-1.0, 1.0, SAM[name]) for name in TARGETS},
        notes=f"Each turn of a participant; {NO_TRACES}.",
    )
    return Imported(tidy(table), header, +dropped, warnings)


def _traces(ratings: Path, stem: str) -> dict[str, Traces]:
    """Return the traces of a recording by target; {} where one is missing."""
    paths = {name: find_entry(ratings, name, f"{stem}.csv") for name in TARGETS}
    found = {name: path for name, path in paths.items() if path is not None}
    return (
        {name: read_traces(path, separator=SEPARATOR) for name, path in found.items()}
        if len(found) == len(paths)
        else {}
    )


def _turns(timings: Path | None, stem: str) -> list[tuple[float, float]]:
    """Return start and end of each turn in seconds; the rated five minutes where they are not listed.

    Raises:
        InputError: if a line has no start and end
    """
    path = find_entry(timings, f"{stem}.csv") if timings is not None else None
    if path is None:
        return [(0.0, RATED_SECONDS)]
    found: list[tuple[float, float]] = []
    for line in filter(str.strip, read_text(path, latin_1=True).splitlines()[1:]):
        try:
            start, end = map(float, line.split(";")[:2])
        except ValueError as error:
            raise InputError("LP157", f"{path}: {line!r} has no start and end. Download it again.") from error
        found.append((start, end))
    return [(start, end) for start, end in found if end > start]


def _ratings(traces: dict[str, Traces], start: float, end: float) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, trace in traces.items():
        means = trace.means(start, end)
        rated = means[np.isfinite(means)]
        found[name] = round(float(rated.mean()), 6) if rated.size else None
        found |= {f"{name}_r{k + 1}": round(float(m), 6) if np.isfinite(m) else None for k, m in enumerate(means)}
    return found
