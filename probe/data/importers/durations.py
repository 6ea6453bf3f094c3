"""Durations and sampling rates of a corpus, from the headers of its audio files, or counted."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from layerprobe.probe.data.audio import audio_header
from layerprobe.probe.data.importers.base import Imported
from layerprobe.probe.progress import NullProgress

THREADS = 8  # they wait for the disk


def with_durations(imported: Imported, *, progress: NullProgress) -> Imported:
    """Add ``duration`` (seconds) and ``sampling_rate`` (Hz), NaN for files that can't be read whole; these are counted.

    Where a header states no length, or not the one that is there, the duration is that of what is there.
    """
    paths = imported.table["path"].tolist()
    progress.begin("read audio headers", len(paths), "files")
    found: list[tuple[float, float]] = []
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for one in pool.map(_read_header, paths):
                found.append(one)
                progress.advance()
    finally:
        progress.end()
    seconds, rates = (np.array(column) for column in zip(*found, strict=True))
    n_unread = int(np.isnan(rates).sum())
    n_unknown = int(np.isnan(seconds).sum()) - n_unread
    kinds = Counter(int(r) for r in rates[np.isfinite(rates)])
    warnings = [
        f"{np.nansum(seconds) / 3600:.2f} h of audio; " + ", ".join(f"{n} at {r} Hz" for r, n in sorted(kinds.items()))
    ]
    if n_unread:
        warnings.append(
            f"{n_unread} audio files can't be read; layerprobe manifest validate --audio names each with its reason"
        )
    if n_unknown:
        warnings.append(f"{n_unknown} audio files are of unknown length; their duration is left empty")
    table = imported.table.assign(duration=np.round(seconds, 4), sampling_rate=rates)
    return replace(imported, table=table, warnings=[*imported.warnings, *warnings])


def _read_header(path: str) -> tuple[float, float]:
    """Return the duration in seconds and the sampling rate in Hz; NaN where the file can't be read whole."""
    header = audio_header(path)
    if header is None or header.fault:
        return float("nan"), float("nan")
    return float("nan") if header.duration is None else header.duration, float(header.rate)
