"""A plan and rows for caches whose content depends on the number of the row alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.writer import CacheWriter

DIM = 4


PLAN = ExtractionPlan(
    upstream="test",
    revision="",
    architecture="TestModel",
    weights="00ff",
    random_init=None,
    layers=("0", "1", "2"),
    layer_convention="c",
    adapter="",
    preprocessing="{}",
    sampling_rate=16_000,
    resampler="soxr HQ",
    audio_channels="mean",
    end_silence="kept",
    text_column=None,
    chunking="one chunk",
    poolings=("mean", "std"),
    forward="transformers",
    precision="float32",
    storage_dtype="float32",
    libraries="torch 2.11",
)


def rows(n, start=0):
    """Yield ids, audio hashes and embeddings that depend on the number of the row alone."""
    for i in range(start, start + n):
        yield f"ü{i}", f"hash{i}", np.random.default_rng(i).normal(size=(3, 2, DIM)).astype(np.float32)


def fill(path, n, start=0, plan=PLAN):
    with CacheWriter(path, plan, dim=DIM) as writer:
        for row in rows(n, start):
            writer.append(*row)


def content_hash(path):
    """Hash the names and bytes of all chunks of a cache on disk."""
    digest = hashlib.sha256()
    for file in sorted(Path(path).glob("*/c/**/*")):
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()
