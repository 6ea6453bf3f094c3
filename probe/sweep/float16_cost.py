"""The cost of storing a cache in float16: in its values, and in the scores of a sweep."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.metrics import DEFAULT_METRIC
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.vectors import varies_by_rounding

SAMPLE = 2_000  # utterances at most


def float16_loss(cache: Cache, manifest: Manifest) -> pd.DataFrame:
    """Round a sample of a float32 cache's rows to float16 and sweep both.

    Args:
        cache: in float32
        manifest: whose utterances are sampled, evenly, at most `SAMPLE` of those that the cache holds

    Returns:
        a row for each layer: ``error``, the root mean square of the rounding error over the layer's standard deviation,
        0 for a constant layer, which has nothing to lose;
        ``beyond``, values that float16 can't hold; ``score``, by how much the score of any target moves at most, NaN
        where values are beyond
    """
    held = {name: k for k, name in enumerate(cache.utterance_ids)}
    table = manifest.table[manifest.table["utterance_id"].isin(list(held))]
    table = table.iloc[np.linspace(0, len(table) - 1, min(len(table), SAMPLE)).astype(int)].drop_duplicates()
    rows = np.array([held[name] for name in table["utterance_id"]])
    layers = [cache.read_layer(name, rows) for name in cache.plan.layers]
    with np.errstate(over="ignore"):
        halves = [layer.astype(np.float16).astype(np.float32) for layer in layers]
    beyond = [int((~np.isfinite(half)).sum()) for half in halves]
    found = pd.DataFrame(
        {
            "layer": cache.plan.layers,
            "error": [
                0.0
                if varies_by_rounding(layer.ravel())
                else float(np.sqrt(np.mean((half - layer) ** 2)) / float(layer.std()))
                for layer, half in zip(layers, halves, strict=True)
            ],
            "beyond": beyond,
            "score": np.nan,
        }
    )
    if any(beyond):
        return found
    sample = replace(manifest, table=table.reset_index(drop=True))
    with tempfile.TemporaryDirectory() as folder:
        scores = [_scores(cache, kind, sample, rows, Path(folder) / str(k)) for k, kind in enumerate((layers, halves))]
    moved = (scores[0] - scores[1]).abs().groupby(level="layer").max()
    return found.assign(score=[float(moved[name]) for name in cache.plan.layers])


def _scores(
    cache: Cache, layers: list[np.ndarray], manifest: Manifest, rows: np.ndarray, folder: Path
) -> pd.Series[float]:
    n_poolings = len(cache.plan.poolings)
    with CacheWriter(folder / "sample.zarr", cache.plan, dim=cache.dim) as writer:
        for k, row in enumerate(rows):
            embeddings = np.stack([layer[k].reshape(n_poolings, -1) for layer in layers])
            writer.append(str(cache.utterance_ids[row]), str(cache.audio_hashes[row]), embeddings)
    # speakers may be unknown here: both scores are of the same folds
    plan = plan_sweep(manifest, permutations=1, weighted_sum_seeds=0, speakers=False)
    scores = sweep([open_cache(folder / "sample.zarr")], manifest, plan, out=folder / "run").scores
    kept = (scores["fold"] == POOLED) & (scores["metric"] == DEFAULT_METRIC) & (scores["control"] == "none")
    return scores[kept & (scores["probe"] == "ridge")].set_index(["layer", "target"])["value"]
