"""Durations and sampling rates of a corpus, from the headers of its audio files, or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from layerprobe.probe.data.audio import audio_header
from layerprobe.probe.data.importers.base import Imported
from layerprobe.probe.progress import NullProgress

THREADS = 8  # they wait for the disk


def with_durations(imported: Imported, *, progress: NullProgress) -> Imported:
    """Add ``duration`` (seconds) and ``sampling_rate`` (Hz), NaN for files that can't be read; these are counted.

    The duration of a segment is that of its span, of which the part after the file's end is not counted. Where
    a header states no length, or not the one that is there, the duration is that of what is there.
    """
    table = imported.table
    found = audio_lengths(table["path"], progress=progress)
    files, rates = (np.array(column) for column in zip(*map(found.__getitem__, table["path"]), strict=True))
    ends = np.fmin(table["end"].to_numpy(float), files) if "end" in table else files
    starts = np.nan_to_num(table["start"].to_numpy(float)) if "start" in table else 0.0
    seconds = np.where(np.isnan(files), np.nan, ends - starts)
    n_unread = sum(np.isnan(rate) for _, rate in found.values())
    n_unstated = sum(np.isnan(length) for length, _ in found.values()) - n_unread
    n_after = int((seconds <= 0).sum())
    kinds = Counter(int(one[1]) for one in found.values() if np.isfinite(one[1]))
    warnings = [
        f"{np.nansum(np.maximum(seconds, 0.0)) / 3600:.2f} h of audio; "
        + ", ".join(f"{n} at {r} Hz" for r, n in sorted(kinds.items()))
    ]
    if n_unread:
        warnings.append(
            f"{n_unread} audio files can't be read; layerprobe manifest validate --audio names each with its reason"
        )
    if n_unstated:
        warnings.append(f"{n_unstated} audio files are of unknown length; their durations are left empty")
    if n_after:
        warnings.append(f"{n_after} segments start after the end of their file")
    table = table.assign(duration=np.round(np.maximum(seconds, 0.0), 4), sampling_rate=rates)
    return replace(imported, table=table, warnings=[*imported.warnings, *warnings])


def audio_lengths(paths: Iterable[str], *, progress: NullProgress) -> dict[str, tuple[float, float]]:
    """Return duration (seconds) and sampling rate (Hz) by file; NaN for files that can't be read."""
    paths = list(dict.fromkeys(paths))  # many segments can be in one file
    progress.begin("read audio headers", len(paths), "files")
    found: dict[str, tuple[float, float]] = {}
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for path, one in zip(paths, pool.map(_read_header, paths), strict=True):
                found[path] = one
                progress.advance()
    finally:
        progress.end()
    return found


def _read_header(path: str) -> tuple[float, float]:
    """Return the duration in seconds and the sampling rate in Hz; NaN where the file can't be read whole."""
    header = audio_header(path)
    if header is None or header.fault:
        return float("nan"), float("nan")
    return float("nan") if header.duration is None else header.duration, float(header.rate)
