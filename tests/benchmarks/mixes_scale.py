"""Mixes of the layers of a large synthetic cache on disk: time and greatest memory of each group of mixes.

The default is 20,000 utterances of 25 layers of 1024 features, 3 targets, 5 folds and 3 seeds; MSP-Podcast has 104,000
(--utterances 104000: 5.3 GB of disk in the folder that --folder names, removed at the end). Each group runs in a
process of one thread. Layers are those of a residual stream whose spectra fall; each rating lies in one layer.

With --exact the fast solver is compared on a smaller cache, which fits in memory, with the solver that multiplies all
layers in each step: CCC of each target, and the distance of their weights.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.sweep_scale import TARGETS, plan
from benchmarks.weighted_sum_speed import residual_stream

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.metrics import ccc
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.sweep.data.inputs import make_dataset, row_indices
from layerprobe.probe.sweep.fits.mix_probes import MIXES, mix_groups, mix_probes
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.weighted_sum.large import LargeMixer
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, WEIGHT_PENALTIES, Mixer

AT_ONCE = 4000  # utterances of the cache that are made together
SEEDS = 3


def write_cache(path: Path, n: int, n_layers: int, dim: int) -> np.ndarray:
    """Write layers in 16 bits and return the ratings, ``(n, n_targets)``."""
    ratings = []
    extraction = plan(n_layers)
    with CacheWriter(path, type(extraction)(**{**vars(extraction), "storage_dtype": "float16"}), dim=dim) as writer:
        for begin in range(0, n, AT_ONCE):
            rng, structure = np.random.default_rng([0, begin]), np.random.default_rng(1)
            x, y = residual_stream(min(AT_ONCE, n - begin), n_layers, dim, rng, structure)
            ratings.append(y)
            for i, layers in enumerate(x.transpose(1, 0, 2)):
                writer.append(f"u{begin + i:06d}", f"{begin + i}", layers[:, None])
    return np.concatenate(ratings)


def fit_group(folder: Path, mixes: tuple[str, ...]) -> None:
    """Fit one group of mixes of the cache in a folder, and print its time and memory."""
    ratings = np.load(folder / "ratings.npy")
    names = [f"u{i:06d}" for i in range(len(ratings))]
    table = pd.DataFrame(
        {"utterance_id": names, "path": "none.wav", "speaker_id": [f"s{i // 60}" for i in range(len(names))]}
    )
    header = Header("synthetic", "1", "none", {name: Target(-9, 9, "none") for name in TARGETS})
    manifest = Manifest(folder / "m.csv", header, table.assign(**dict(zip(TARGETS, ratings.T, strict=True))))
    cache = open_cache(folder / "c.zarr")
    dataset = make_dataset([cache], manifest, plan_sweep(manifest, mixes=mixes, weighted_sum_seeds=SEEDS))
    (part,), rows = dataset.parts, row_indices(cache, dataset)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    layers = list(cache.plan.layers)
    keys = {"encoder": "synthetic", "control": "none"}

    def done(name: str) -> None:
        print(f"  {name} after {time.perf_counter() - began:.0f} s", flush=True)

    results = mix_probes(
        lambda k, r: cache.read_layer(layers[k], rows[r]), layers, part.data, part.plan, keys, advance=done
    )
    after = resource.getrusage(resource.RUSAGE_SELF)
    scores = pd.DataFrame(results.scores)
    pooled = scores[(scores["fold"] == "pooled") & (scores["metric"] == "ccc")]
    found = pooled.groupby(["probe", "target"], sort=False)["value"].mean().round(4).to_dict()
    print(
        f"{', '.join(mixes)}: {time.perf_counter() - began:.0f} s, {after.ru_utime - before.ru_utime:.0f} CPU s, "
        f"memory rose by {(after.ru_maxrss - before.ru_maxrss) / 2**20:.2f} GiB; mean CCC {found}",
        flush=True,
    )


def compare(n: int, n_layers: int, dim: int) -> None:
    """Print CCC and weights of the fast and of the exact solver."""
    x, y = residual_stream(n, n_layers, dim, np.random.default_rng(0))
    splits = fold_splits(np.arange(n) // 40, n_folds=5, n_inner_folds=4, rng=np.random.default_rng(1))
    scores, weights = {}, {}
    for name, solver in (("exact", Mixer), ("fast", LargeMixer)):
        for learns in (True, False):
            began = time.process_time()
            mixer = solver(lambda k, rows: x[k][rows], n_layers, y, splits=splits, memory=2**40)
            strengths = WEIGHT_PENALTIES if learns else (0.0,)
            chosen = mixer.choose(
                DEFAULT_PENALTIES, weight_penalties=strengths, max_iterations=60, seed=0, learns=learns
            )
            (fits,) = mixer.fit(
                chosen.penalty, weight_penalty=chosen.weight_penalty, max_iterations=60, seeds=(0,), learns=learns
            )
            seconds = time.process_time() - began
            predicted = np.empty_like(y)
            for split, fit in zip(splits, fits, strict=True):
                predicted[split.test] = fit.prediction
            kind = "learnt" if learns else "uniform"
            scores[name, kind] = np.array([ccc(y[:, t], predicted[:, t]) for t in range(y.shape[1])])
            weights[name, kind] = np.stack([fit.layer_weights for fit in fits])
            print(f"{name}, {kind} weights: CCC {scores[name, kind].round(4)}, {seconds:.1f} CPU s", flush=True)
    for kind in ("learnt", "uniform"):
        difference = np.abs(scores["exact", kind] - scores["fast", kind]).max()
        distance = np.abs(weights["exact", kind] - weights["fast", kind]).sum(axis=2).mean() / 2
        print(f"{kind} weights: CCC differs by {difference:.4f} at most, weights by {distance:.3f} (total variation)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=list(MIXES))
    parser.add_argument("--exact", action="store_true", help="compare with the exact solver, in memory")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--group", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.group:
        fit_group(options.folder, tuple(options.group.split(",")))
        return
    if options.exact:
        compare(options.utterances, options.layers, options.features)
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        began = time.perf_counter()
        np.save(
            folder / "ratings.npy", write_cache(folder / "c.zarr", options.utterances, options.layers, options.features)
        )
        print(f"cache written in {time.perf_counter() - began:.0f} s", flush=True)
        single = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        for group in mix_groups(tuple(options.mixes)):
            command = [sys.executable, __file__, "--group", ",".join(group), "--folder", str(folder)]
            subprocess.run(command, env=single, check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
