"""The ridge sweep of a large synthetic cache on disk: 25 layers of 1024 features, its time and greatest memory.

MSP-Podcast has 104,000 utterances (--utterances 104000: 10.6 GB of disk in the folder that --folder names, removed at
the end); the default is 20,000, of 2 GB.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

TARGETS = ("arousal", "valence", "dominance")


def plan(n_layers: int) -> ExtractionPlan:
    layers = tuple(map(str, range(n_layers)))
    texts = dict.fromkeys(("revision", "weights", "layer_convention", "adapter", "preprocessing", "resampler"), "")
    texts |= dict.fromkeys(("audio_channels", "end_silence", "chunking", "forward", "libraries"), "")
    return ExtractionPlan(
        upstream="synthetic", architecture="none", random_init=None, layers=layers, sampling_rate=16_000,
        text_column=None, poolings=("mean",), precision="float32", storage_dtype="float32", **texts,
    )  # fmt: skip


def write_cache(path: Path, ratings: np.ndarray, n_layers: int, dim: int) -> None:
    """Noise, in which the ratings lie the deeper the layer."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(ratings.shape[1], dim)).astype(np.float32)
    depth = np.linspace(0, 1, n_layers, dtype=np.float32)[:, None]
    with CacheWriter(path, plan(n_layers), dim=dim) as writer:
        for i, row in enumerate(ratings.astype(np.float32)):
            noise = rng.standard_normal((n_layers, dim), dtype=np.float32)
            writer.append(f"u{i:06d}", f"noise {i}", (noise + 0.1 * depth * (row @ directions))[:, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument(
        "--weighted-sum-seeds", type=int, default=0, help="of the weighted sum, which reads layers again"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        n = options.utterances
        ratings = np.random.default_rng(1).uniform(1, 7, size=(n, 3))
        names = [f"u{i:06d}" for i in range(n)]
        speakers = [f"s{i // 60}" for i in range(n)]
        table = pd.DataFrame({"utterance_id": names, "path": "none.wav", "speaker_id": speakers})
        header = Header("synthetic", "1", "none", {name: Target(1, 7, "none") for name in TARGETS})
        table = table.assign(**dict(zip(TARGETS, ratings.T, strict=True)))
        manifest = Manifest(folder / "m.csv", header, table)  # of files that do not exist, so it is not read from disk
        began = time.perf_counter()
        write_cache(folder / "c.zarr", ratings, options.layers, options.features)
        print(f"cache written in {time.perf_counter() - began:.0f} s", flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.perf_counter()
        sweep(
            [open_cache(folder / "c.zarr")],
            manifest,
            plan_sweep(manifest, weighted_sum_seeds=options.weighted_sum_seeds),
            out=folder / "run",
        )
        seconds = time.perf_counter() - began
        above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        one_layer = n * options.features * 4
        print(
            f"{n} x {options.layers} x {options.features}: swept in {seconds:.0f} s, with 5 permutations of 3 "
            f"targets and {options.weighted_sum_seeds} seeds of the weighted sum; "
            f"memory rose by {above / 2**30:.2f} GiB, one layer is {one_layer / 2**30:.2f} GiB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
