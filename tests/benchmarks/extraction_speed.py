"""Extraction against the usual loop: one utterance at a time, output_hidden_states=True, then mean and std.

The loop in float32 and on a bfloat16 copy, ours in float32 and bfloat16: all hear the same FLAC files, and ours write
their checksummed cache as well. They take turns in one process; medians of their ratios count, not seconds. The
machine's own limit, float32 matrix products, is measured in between.
"""

from __future__ import annotations

import argparse
import copy
import functools
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from probe.checkpoint import load_encoder
from probe.extract import extract
from probe.manifest import Header, Manifest

RATE = 16_000


def sounds(folder: Path, n: int) -> list[Path]:
    """Coloured noise of natural lengths (lognormal, median 4.9 s) as FLAC."""
    rng = np.random.default_rng(0)
    paths = []
    for i, seconds in enumerate(np.clip(rng.lognormal(np.log(4.9), 0.5, n), 1, 12)):
        noise = np.cumsum(rng.normal(size=int(seconds * RATE)))
        noise -= np.convolve(noise, np.ones(400) / 400, "same")
        paths.append(folder / f"{i}.flac")
        soundfile.write(paths[-1], 0.3 * noise / np.abs(noise).max(), RATE)
    return paths


def usual_loop(model: HubertModel, paths: list[Path]) -> np.ndarray:
    rows, dtype = [], next(model.parameters()).dtype
    with torch.no_grad():
        for path in paths:
            wave, _ = soundfile.read(path, dtype="float32")
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
            states = model(torch.from_numpy(wave)[None].to(dtype), output_hidden_states=True).hidden_states
            states = [s[0].float() for s in states]
            rows.append(torch.stack([torch.cat([s.mean(0), s.std(0, correction=0)]) for s in states]))
    return torch.stack(rows).numpy()


def matrix_rate() -> float:
    """GFLOP/s of float32 products of 2000 x 768 with 768 x 3072."""
    a, b = torch.randn(2000, 768), torch.randn(768, 3072)
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        a @ b
        n += 1
    return 2 * 2000 * 768 * 3072 * n / (time.perf_counter() - began) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = sounds(folder, options.utterances)
        seconds = sum(soundfile.info(p).duration for p in paths)
        torch.manual_seed(0)
        model = HubertModel(HubertConfig()).eval()
        model.save_pretrained(folder / "hubert-base")
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "hubert-base")
        folder_of = str(folder / "hubert-base")
        encoders = {p: load_encoder(folder_of, device="cpu", precision=p) for p in ("float32", "bfloat16")}
        copies = {"float32": model, "bfloat16": copy.deepcopy(model).to(torch.bfloat16)}
        table = pd.DataFrame({"utterance_id": [p.stem for p in paths], "path": map(str, paths), "speaker_id": "s"})
        manifest = Manifest(folder / "m.csv", Header("noise", "1", "none", {}), table)
        print(f"HuBERT-base, {len(paths)} utterances, {seconds:.1f} s, {torch.get_num_threads()} threads")

        def ours(precision: str) -> None:
            shutil.rmtree(folder / "c.zarr", ignore_errors=True)
            extract(manifest, encoders[precision], folder / "c.zarr")

        work = {f"loop {p}": functools.partial(usual_loop, m, paths) for p, m in copies.items()}
        work |= {f"extract {p}": functools.partial(ours, p) for p in encoders}
        speeds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(options.repeats):
            rate = matrix_rate()
            words = []
            for name, run in work.items():
                began, worked = time.perf_counter(), time.process_time()
                run()
                wall = time.perf_counter() - began
                speeds[name].append(seconds / wall)
                words.append(f"{name} {seconds / wall:.1f} s/s (cpu/wall {(time.process_time() - worked) / wall:.2f})")
            print("; ".join(words), f"; float32 products {rate:.0f} GFLOP/s", flush=True)
        for ours_name, theirs in (
            ("extract float32", "loop float32"),
            ("extract bfloat16", "loop float32"),
            ("extract bfloat16", "loop bfloat16"),
        ):
            ratios = [a / b for a, b in zip(speeds[ours_name], speeds[theirs], strict=True)]
            print(f"{ours_name} / {theirs}: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
