"""Extraction against the usual loop: one utterance at a time, output_hidden_states=True, then mean and std.

Both hear the same FLAC files and ours writes its checksummed cache as well. They take turns in one process; medians of
their ratios count, not seconds. The machine's own limit, float32 matrix products, is measured in between.
"""

from __future__ import annotations

import argparse
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

from probe.encoder import load_encoder
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
    rows = []
    with torch.no_grad():
        for path in paths:
            wave, _ = soundfile.read(path, dtype="float32")
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
            states = model(torch.from_numpy(wave)[None], output_hidden_states=True).hidden_states
            rows.append(torch.stack([torch.cat([s[0].mean(0), s[0].std(0, correction=0)]) for s in states]))
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
    parser.add_argument("--utterances", type=int, default=6)
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
        encoder = load_encoder(str(folder / "hubert-base"), device="cpu")
        table = pd.DataFrame({"utterance_id": [p.stem for p in paths], "path": map(str, paths), "speaker_id": "s"})
        manifest = Manifest(folder / "m.csv", Header("noise", "1", "none", {}), table)
        print(
            f"HuBERT-base, random weights, {len(paths)} utterances, {seconds:.1f} s, {torch.get_num_threads()} threads"
        )
        ratios = []
        for _ in range(options.repeats):
            rate = matrix_rate()
            began, worked = time.perf_counter(), time.process_time()
            usual_loop(model, paths)
            loop, busy = time.perf_counter() - began, time.process_time() - worked
            shutil.rmtree(folder / "c.zarr", ignore_errors=True)
            began, worked = time.perf_counter(), time.process_time()
            extract(manifest, encoder, folder / "c.zarr")
            ours, busy_ours = time.perf_counter() - began, time.process_time() - worked
            ratios.append(loop / ours)
            print(
                f"loop {seconds / loop:5.2f} s/s (cpu/wall {busy / loop:.2f})  extract {seconds / ours:5.2f} s/s "
                f"(cpu/wall {busy_ours / ours:.2f})  ratio {ratios[-1]:.2f}  float32 products {rate:.0f} GFLOP/s"
            )
        print(f"median ratio to the usual loop: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
