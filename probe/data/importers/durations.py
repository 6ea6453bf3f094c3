"""Durations and sampling rates of a corpus' sounds, from their headers, if they are asked for."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import soundfile

from layerprobe.probe.data.importers.base import Imported
from layerprobe.probe.progress import NullProgress

THREADS = 8  # that wait for the disk


def with_durations(imported: Imported, *, progress: NullProgress) -> Imported:
    """Add ``duration`` (seconds) and ``sampling_rate`` (Hz); what can't be read has none, and is counted."""
    paths = imported.table["path"].tolist()
    progress.begin("open every sound", len(paths), "sounds")
    found: list[tuple[float, float]] = []
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for one in pool.map(_told, paths):
                found.append(one)
                progress.advance()
    finally:
        progress.end()
    seconds, rates = (np.array(column) for column in zip(*found, strict=True))
    unread = int(np.isnan(seconds).sum())
    kinds = Counter(int(r) for r in rates[np.isfinite(rates)])
    warnings = [
        f"{np.nansum(seconds) / 3600:.2f} h of sound; " + ", ".join(f"{n} at {r} Hz" for r, n in sorted(kinds.items()))
    ]
    if unread:
        warnings.append(f"{unread} sounds can't be read; extract will name each with its reason")
    table = imported.table.assign(duration=np.round(seconds, 4), sampling_rate=rates)
    return replace(imported, table=table, warnings=[*imported.warnings, *warnings])


def _told(path: str) -> tuple[float, float]:
    try:
        header = soundfile.info(path)
    except soundfile.LibsndfileError:
        return float("nan"), float("nan")
    return header.frames / header.samplerate, float(header.samplerate)
