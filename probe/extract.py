"""Stage: a manifest and an encoder become a cache."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probe.audio import CHANNELS, RESAMPLER, UnusableSound, read_sound, sound_hash
from probe.cache import CacheWriter
from probe.encoder import LAYER_CONVENTION, SpeechEncoder
from probe.errors import InputError
from probe.manifest import Manifest
from probe.plan import ExtractionPlan
from probe.pooling import DEFAULT_POOLINGS, pool_layers, pooling_named
from probe.progress import Silent

DECODED_AHEAD = 8  # utterances that wait for the encoder
# Attention grows with the square of the length: two minutes are 6,000 frames and about 2 GB in HuBERT-large.
LONGEST_SECONDS = 120.0
LIBRARIES = ("torch", "transformers", "soxr", "soundfile")


Row = dict[Hashable, Any]  # of the manifest, by column


@dataclass(frozen=True)
class Extraction:
    """What a run of `extract` did."""

    path: Path
    n_cached_before: int
    n_extracted: int
    quarantine: pd.DataFrame  # utterance_id, path, reason
    seconds_of_sound: float  # that were extracted
    seconds: float  # that it took


@dataclass(frozen=True)
class _Sound:
    """One decoded utterance, or why there is none."""

    content: str
    waveform: np.ndarray  # empty where there is a reason
    reason: str = ""


def extraction_plan(encoder: SpeechEncoder, *, poolings: tuple[str, ...] = DEFAULT_POOLINGS) -> ExtractionPlan:
    """The plan under which ``encoder`` fills a cache."""
    for name in poolings:
        pooling_named(name)
    return ExtractionPlan(
        upstream=encoder.upstream,
        revision=encoder.revision,
        architecture=encoder.architecture,
        weights=encoder.weights_hash(),
        random_init=encoder.random_init,
        layers=encoder.layers,
        layer_convention=LAYER_CONVENTION,
        adapter=encoder.adapter,
        preprocessing=encoder.preprocessing,
        sampling_rate=encoder.sampling_rate,
        resampler=RESAMPLER,
        channels=CHANNELS,
        long_sound=encoder.long_sound,
        poolings=poolings,
        forward=encoder.forward,
        precision=encoder.precision,
        storage="float32",
        libraries=", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in LIBRARIES),
    )


def extract(
    manifest: Manifest,
    encoder: SpeechEncoder,
    out: Path | str,
    *,
    poolings: tuple[str, ...] = DEFAULT_POOLINGS,
    longest_seconds: float = LONGEST_SECONDS,
    watch: Silent | None = None,
) -> Extraction:
    """Pool every layer of every utterance into the cache at ``out``; what is there already is kept.

    Each utterance is heard alone in float32. A sound that can't be used is quarantined with its reason and the
    rest goes on; the refused ones are tried again by the next run.

    Raises:
        CacheMismatch: if ``out`` was extracted under another plan
        InputError: if a cached sound has changed since
        OSError: if the disk is full or can't be written; rows named in the journal stay
    """
    watch = watch or Silent()
    plan = extraction_plan(encoder, poolings=poolings)
    began = time.monotonic()
    seconds_of_sound = 0.0
    with CacheWriter(out, plan, dim=encoder.dim) as writer:
        cached = writer.cached
        table = manifest.table
        _refuse_changed(table[table["utterance_id"].isin(list(cached))], cached, out, watch)
        pending = table[~table["utterance_id"].isin(list(cached))]
        refused: list[tuple[str, str, str]] = []
        size = len(pending) * len(encoder.layers) * len(poolings) * encoder.dim * np.dtype(np.float32).itemsize
        watch.say(f"{len(pending)} utterances to extract, {size / 1e6:.1f} MB; {len(cached)} are cached already.")
        watch.begin("extract", len(pending), "utterances")
        try:
            for row, sound in _decoded_ahead(pending, encoder.sampling_rate, longest_seconds):
                try:
                    embeddings = _embed(encoder, sound, poolings)
                except UnusableSound as reason:
                    refused.append((row["utterance_id"], row["path"], str(reason)))
                    writer.refuse(*refused[-1])
                else:
                    writer.append(row["utterance_id"], sound.content, embeddings)
                    seconds_of_sound += len(sound.waveform) / encoder.sampling_rate
                rate = seconds_of_sound / max(time.monotonic() - began, 1e-9)
                watch.advance(1, f"{rate:.1f} s of sound per s, {len(refused)} quarantined")
        finally:
            watch.end()
    return Extraction(
        path=Path(out),
        n_cached_before=len(cached),
        n_extracted=len(pending) - len(refused),
        quarantine=pd.DataFrame(refused, columns=["utterance_id", "path", "reason"]),
        seconds_of_sound=seconds_of_sound,
        seconds=time.monotonic() - began,
    )


def _embed(encoder: SpeechEncoder, sound: _Sound, poolings: tuple[str, ...]) -> np.ndarray:
    """Embeddings ``(n_layers, n_poolings, dim)`` of one sound."""
    if sound.reason:
        raise UnusableSound(sound.reason)
    n, needed = len(sound.waveform), encoder.minimum_samples
    if n < needed:
        raise UnusableSound(f"too short: {n} samples at {encoder.sampling_rate} Hz, one frame needs {needed}")
    embeddings = pool_layers(encoder.hidden_states(sound.waveform), poolings=poolings).cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise UnusableSound("the encoder's answer is not finite")
    return embeddings


def _refuse_changed(table: pd.DataFrame, cached: dict[str, str], out: Path | str, watch: Silent) -> None:
    changed = []
    watch.begin("check cached sounds", len(table), "utterances")
    try:
        for row in table.to_dict("records"):
            if Path(row["path"]).exists() and _content(row) != cached[row["utterance_id"]]:
                changed.append(row["utterance_id"])
            watch.advance()
    finally:
        watch.end()
    if changed:
        raise InputError(
            f"{out}: {len(changed)} sounds have changed since they were cached, {changed[0]} first. "
            "Name another --out to extract them again."
        )


def _content(row: Row) -> str:
    """What a cached row was made from: the file's content hash and the span."""
    span = "".join(f" {name} {float(row[name])!r}" for name in ("start", "end") if pd.notna(row.get(name)))
    return sound_hash(str(row["path"])) + span


def _decode(row: Row, sampling_rate: int, longest_seconds: float) -> _Sound:
    span = {name: float(row[name]) for name in ("start", "end") if pd.notna(row.get(name))}
    try:
        waveform = read_sound(str(row["path"]), sampling_rate=sampling_rate, longest_seconds=longest_seconds, **span)
        return _Sound(_content(row), waveform)
    except UnusableSound as error:
        return _Sound("", np.empty(0, dtype=np.float32), str(error))


def _decoded_ahead(table: pd.DataFrame, sampling_rate: int, longest_seconds: float) -> Iterator[tuple[Row, _Sound]]:
    """Rows in order with their sound, decoded in a thread while the encoder works on an earlier one."""
    waiting: deque[tuple[Row, Future[_Sound]]] = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        for row in table.to_dict("records"):
            waiting.append((row, pool.submit(_decode, row, sampling_rate, longest_seconds)))
            if len(waiting) > DECODED_AHEAD:
                first, sound = waiting.popleft()
                yield first, sound.result()
        while waiting:
            first, sound = waiting.popleft()
            yield first, sound.result()
