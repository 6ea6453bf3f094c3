"""A small run without concepts: arousal is one of them, valence has nothing to do with any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from helpers.planted import store

from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.results.run_folder import Predictions
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

N, N_SPEAKERS, DIM = 240, 24, 12
LAYERS = tuple(map(str, range(4)))
CONCEPTS = ("duration", "gender", "duration+gender")
EMPTY = "0"  # the layer that carries nothing


def erased_run(root: Path, *, permutations: int = 39, seed: int = 0) -> Path:
    """Write a run without duration, gender and both, and return it.

    All layers but the first carry duration, gender and valence. Arousal is duration with noise; nothing carries
    dominance.

    Args:
        root: folder for caches and the run
        permutations: of the ratings
        seed: of all numbers
    """
    rng = np.random.default_rng(seed)
    speaker = np.arange(N) % N_SPEAKERS
    duration, valence = rng.normal(size=(2, N))
    is_female = speaker % 2 == 0
    x = rng.normal(size=(N, len(LAYERS), DIM))
    for layer in range(1, len(LAYERS)):
        x[:, layer, :4] += np.outer(duration, [1.5, -1.0, 0.5, 0.0])
        x[:, layer, 4:6] += 1.5 * is_female[:, None]
        x[:, layer, 6:9] += np.outer(valence, [1.0, 1.0, -1.0])
    arousal = duration + 0.3 * rng.normal(size=N)
    table = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(N)], "path": "x.wav"})
    table = table.assign(
        speaker_id=[f"s{s:02d}" for s in speaker],
        gender=np.where(is_female, "female", "male"),
        arousal=arousal,
        valence=valence + 0.3 * rng.normal(size=N),
        dominance=rng.normal(size=N),
        emotion=np.where(arousal > 0, "glad", "calm"),
    )
    scales = {name: Target(-100, 100) for name in ("arousal", "valence", "dominance")}
    header = Header("erased", "1", "none", scales, nominal={"emotion": Nominal(("calm", "glad"))})
    manifest = Manifest(root / "my.csv", header, table)
    acoustic = store(
        root / "acoustic.zarr", np.stack([duration, duration**2], axis=1)[:, :, None], layers=("duration", "loudness"),
        upstream="acoustic",
    )  # fmt: skip
    plan = plan_sweep(manifest, permutations=permutations, weighted_sum_seeds=0, controls=("permuted",))
    folder = root / "run"
    encoder = store(root / "hubert.zarr", x, layers=LAYERS, upstream="facebook/hubert")
    sweep([encoder], manifest, plan, out=folder, without=(",".join(CONCEPTS),), concepts=[acoustic], command="x")
    return folder


def column(predictions: Predictions, **keys: str) -> np.ndarray:
    """Return the held-out predictions of the one column with these keys, ``(n_utterances,)``."""
    own = np.ones(len(predictions.columns), dtype=bool)
    conditions = {"probe": "ridge", "control": "none", "erased": "", "baseline": ""}
    for name, value in (conditions | keys).items():
        own &= (predictions.columns[name] == value).to_numpy()
    (place,) = np.flatnonzero(own)
    return np.asarray(predictions.prediction[:, place], dtype=float)
