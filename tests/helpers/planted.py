"""Caches and manifests in which a signal is planted in known layers."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from helpers.cache_rows import PLAN

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.sweep.settings import plan_sweep

N, N_LAYERS, DIM = 240, 5, 6


LAYERS = tuple(map(str, range(N_LAYERS)))


TARGETS = ("arousal", "valence")


def store(path, embeddings, ids=None, **plan):
    plan = replace(PLAN, **({"layers": LAYERS, "poolings": ("mean",)} | plan))
    ids = [f"u{i}" for i in range(len(embeddings))] if ids is None else ids
    with CacheWriter(path, plan, dim=embeddings.shape[-1]) as writer:
        for name, values in zip(ids, embeddings, strict=True):
            writer.append(name, f"hash of {name}", values[:, None])
    return open_cache(path)


def manifest_of(ratings, path, **columns):
    n = len(ratings)
    table = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(n)], "speaker_id": [f"s{i % 24}" for i in range(n)]})
    table = table.assign(path="x.wav", **{t: ratings[:, k] for k, t in enumerate(TARGETS)}, **columns)
    return Manifest(path, Header("planted", "1", "none", {t: Target(-100, 100) for t in TARGETS}), table)


def quick(manifest, **options):
    """A plan with few iterations of the weighted sum and few permutations, for tests of everything else."""
    return replace(plan_sweep(manifest, **{"permutations": 5} | options), weighted_sum_seeds=(0,), mix_iterations=5)


class Log(NullProgress):
    """A progress that keeps the lines that a command would print to standard error."""

    def __init__(self):
        self.lines = []

    def log(self, message):
        self.lines.append(message)
