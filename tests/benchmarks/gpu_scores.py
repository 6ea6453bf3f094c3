"""Scores of a sweep and of a training on a GPU compared with those on the CPU: the largest difference of a CCC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from benchmarks.sweep_scale import TARGETS, write_cache
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
from layerprobe.probe.regressor.train import train
from layerprobe.probe.sweep.fits.mix_probes import MIXES
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

GOAL = 1e-4  # of a difference of CCC
NARROW = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
    "conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout", "layerdrop"),
    0.0,
)  # whose masks depend on the device


def manifest_of(folder: Path, n: int, n_speakers: int, ratings: np.ndarray) -> Manifest:
    """Utterances of speakers in turn, of audio that need not exist."""
    names = [f"u{i:06d}" for i in range(n)]
    speakers = [f"s{i % n_speakers}" for i in range(n)]
    table = pd.DataFrame(
        {"utterance_id": names, "path": [str(folder / f"{name}.flac") for name in names], "speaker_id": speakers}
    )
    header = Header("synthetic", "1", "none", {name: Target(1, 7, "none") for name in TARGETS})
    return Manifest(folder / "m.csv", header, table.assign(**dict(zip(TARGETS, ratings.T, strict=True))))


def differences(on_device: pd.DataFrame, on_cpu: pd.DataFrame) -> dict[str, float]:
    """Largest difference of a CCC, by probe; infinite where a score is missing on one of them."""
    keys = [name for name in on_cpu.columns if name != "value"]
    tables = [table[table["metric"] == "ccc"] for table in (on_device, on_cpu)]
    both = tables[0].merge(tables[1], on=keys, how="outer", suffixes=("", "_cpu"))
    difference = (both["value"] - both["value_cpu"]).abs()
    same = both["value"].isna() & both["value_cpu"].isna() & (len(tables[0]) == len(tables[1]))
    both["difference"] = difference.where(~same, 0.0).fillna(np.inf)
    name = "probe" if "probe" in both else "target"
    return {str(key): float(value) for key, value in both.groupby(name)["difference"].max().items()}


def sweep_differences(folder: Path, device: str, *, n: int, n_layers: int, dim: int) -> dict[str, float]:
    """Of every probe and mix, on a synthetic cache of ``n`` utterances."""
    folder.mkdir()
    ratings = np.random.default_rng(1).uniform(1, 7, size=(n, len(TARGETS)))
    manifest = manifest_of(folder, n, 20, ratings)
    write_cache(folder / "c.zarr", ratings, n_layers, dim)
    scores = {}
    for where in (device, "cpu"):
        plan = plan_sweep(
            manifest, device=where, permutations=9, weighted_sum_seeds=1, mixes=tuple(MIXES), probes=("mlp",)
        )
        out = folder / ("on_cpu" if where == "cpu" else "on_device")
        scores[where] = sweep([open_cache(folder / "c.zarr")], manifest, plan, out=out).scores
    return differences(scores[device], scores["cpu"])


def train_differences(folder: Path, device: str, *, n: int) -> dict[str, float]:
    """Of a small encoder that is fine-tuned for two epochs in float32, without dropout."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    loudness = rng.uniform(0.02, 0.5, size=n)
    ratings = np.stack([1 + 12 * loudness, rng.uniform(1, 7, n), 7 - 12 * loudness], axis=1)
    manifest = manifest_of(folder, n, 10, ratings)
    for path, level in zip(manifest.table["path"], loudness, strict=True):
        soundfile.write(path, level * rng.uniform(-1, 1, size=int(rng.uniform(0.6, 1.6) * 16_000)), 16_000)
    torch.manual_seed(0)
    HubertModel(HubertConfig(**NARROW, **NO_DROPOUT)).save_pretrained(folder / "encoder")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder / "encoder")
    scores = {}
    for where in (device, "cpu"):
        run = train(
            manifest,
            EncoderOptions(audio_encoder=str(folder / "encoder"), audio_layer="mix"),
            out=folder / ("on_cpu" if where == "cpu" else "on_device"),
            head=HeadOptions(dropout=0.0, hidden=32),
            optimiser=OptimiserOptions(epochs=2, batch_size=16, precision="float32", max_batch_frames=600),
            device=where,
        )
        scores[where] = run.scores
    return differences(scores[device], scores["cpu"])
