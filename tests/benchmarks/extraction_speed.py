"""Extraction against the loops that people write, on the same FLAC files, side by side in one run.

* loop float32: one utterance at a time, output_hidden_states=True, mean and standard deviation; as users run it, with
  all threads in each product
* padded float32: random batches of 8, zero-padded with an attention mask, as toolkits run them
* loop bfloat16: the first loop on a bfloat16 copy of the model, one thread for each core, as ours runs
* extract: ours, reading, decoding, pooling and writing its checksummed cache included

The loops encode every sixteenth of the files, ours in float32 every fourth, in bfloat16 all: what it does once (hashing
weights, measuring its precision, two to three seconds) is divided over more audio in a corpus than over a few files.
They take turns; medians of ratios within a round count, not seconds. The machine's own limit, matrix products in each
precision with one thread for each core, is measured in every round, and so is the fraction of it that the encoder's
arithmetic reaches (counted by torch's flop counter on transformers' model,
which leaves out attention's own, 3 % at these lengths).
"""

from __future__ import annotations

import argparse
import copy
import functools
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.data.manifest.schema import Header, Manifest
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.extract import Extraction, extract
from layerprobe.probe.system import cores

RATE = 16_000
LARGE: dict[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {"base": {}, "large": LARGE}


def write_audio_files(folder: Path, n: int) -> list[Path]:
    """Coloured noise of natural lengths (lognormal, median 4.9 s, 1 to 12 s) as FLAC."""
    rng = np.random.default_rng(0)
    paths = []
    for i, seconds in enumerate(np.clip(rng.lognormal(np.log(4.9), 0.5, n), 1, 12)):
        noise = np.cumsum(rng.normal(size=int(seconds * RATE)))
        noise -= np.convolve(noise, np.ones(400) / 400, "same")
        paths.append(folder / f"{i}.flac")
        soundfile.write(paths[-1], 0.3 * noise / np.abs(noise).max(), RATE)
    return paths


def read(path: Path) -> np.ndarray:
    wave, _ = soundfile.read(path, dtype="float32")
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def pooled(states: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([torch.cat([s.mean(0), s.std(0, correction=0)]) for s in states])


@torch.no_grad()
def encode_alone(model: HubertModel, path: Path) -> torch.Tensor:
    wave = torch.from_numpy(read(path))[None].to(next(model.parameters()).dtype)
    return pooled([s[0].float() for s in model(wave, output_hidden_states=True).hidden_states])


@torch.no_grad()
def encode_padded(model: HubertModel, paths: list[Path]) -> None:
    order = np.random.default_rng(0).permutation(len(paths))
    for begin in range(0, len(order), 8):
        waves = [torch.from_numpy(read(paths[k])) for k in order[begin : begin + 8]]
        lengths = torch.tensor([len(w) for w in waves])
        batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()
        states = model(batch, attention_mask=mask, output_hidden_states=True).hidden_states
        frames = model._get_feat_extract_output_lengths(lengths)
        for k, n in enumerate(frames):
            pooled([s[k, :n] for s in states])


def one_thread_a_core(work: Callable[[Any], Any], items: list[Any]) -> None:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(work, items))
    torch.set_num_threads(threads)


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of products of 2000 x 768 with 768 x 3072, one thread a core."""
    a, b = torch.randn(2000, 768).to(dtype), torch.randn(768, 3072).to(dtype)
    done, lock, end = [0], threading.Lock(), time.perf_counter() + 0.7

    def multiply(_: int) -> None:
        while time.perf_counter() < end:
            a @ b
            with lock:
                done[0] += 1

    began = time.perf_counter()
    one_thread_a_core(multiply, list(range(cores())))
    return 2 * 2000 * 768 * 3072 * done[0] / (time.perf_counter() - began) / 1e9


def work_per_second(model: HubertModel) -> float:
    """Return GFLOP per second of audio, for an utterance of 5.5 s."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, int(5.5 * RATE)))
    return float(counter.get_total_flops()) / 5.5 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CONFIGS, default="base")
    parser.add_argument("--utterances", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), options.model, options.utterances, options.repeats)


def compare(folder: Path, size: str, n: int, repeats: int) -> None:
    paths = write_audio_files(folder, n)
    seconds = sum(soundfile.info(p).duration for p in paths)
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**CONFIGS[size])).eval()
    upstream = str(folder / f"hubert-{size}")
    model.save_pretrained(upstream)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(upstream)
    encoders = {p: load_audio_encoder(upstream, device="cpu", precision=p) for p in ("float32", "bfloat16")}
    mixed_precision = copy.deepcopy(model).to(torch.bfloat16)
    work = work_per_second(model)
    print(f"HuBERT-{size}, {n} utterances, {seconds:.0f} s, {cores()} cores, {work:.1f} GFLOP per s of audio")

    def ours(precision: str, files: list[Path]) -> Extraction:
        shutil.rmtree(folder / "c.zarr", ignore_errors=True)
        table = pd.DataFrame({"utterance_id": [p.stem for p in files], "path": map(str, files), "speaker_id": "s"})
        manifest = Manifest(folder / "m.csv", Header("noise", "1", "none", {}), table)
        return extract(manifest, encoders[precision], folder / "c.zarr")

    few, quarter = paths[::16], paths[::4]
    contenders: dict[str, tuple[list[Path], Callable[[], Any]]] = {
        "loop float32": (few, lambda: [encode_alone(model, p) for p in few]),
        "padded float32": (few, functools.partial(encode_padded, model, few)),
        "loop bfloat16": (few, lambda: one_thread_a_core(functools.partial(encode_alone, mixed_precision), few)),
        "extract float32": (quarter, functools.partial(ours, "float32", quarter)),
        "extract bfloat16": (paths, functools.partial(ours, "bfloat16", paths)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    rates_of: dict[str, list[float]] = {p: [] for p in encoders}
    busy: list[float] = []
    for _ in range(repeats):
        for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            rates_of[precision].append(matrix_rate(dtype))
        for name, (files, run) in contenders.items():
            began, worked = time.perf_counter(), time.process_time()
            done = run()
            wall = time.perf_counter() - began
            encoded = sum(soundfile.info(p).duration for p in files)
            speeds[name].append(encoded / wall)
            print(
                f"  {name}: {encoded / wall:.1f} s/s (cpu/wall {(time.process_time() - worked) / wall:.2f})", flush=True
            )
            if isinstance(done, Extraction):
                busy.append(done.stages.encode)
        for precision, rates in rates_of.items():
            rates[-1] = speeds[f"extract {precision}"][-1] * work / rates[-1]
    for ours_name, theirs in (
        ("extract bfloat16", "loop float32"),
        ("extract bfloat16", "padded float32"),
        ("extract bfloat16", "loop bfloat16"),
        ("extract float32", "loop float32"),
    ):
        ratios = [a / b for a, b in zip(speeds[ours_name], speeds[theirs], strict=True)]
        print(
            f"{ours_name} / {theirs}: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    for precision, rates in rates_of.items():
        print(f"{precision}: {statistics.median(rates):.0%} of the machine's matrix rate")
    print(f"the encoder's threads were at work {min(busy):.1%} of the time or more")


if __name__ == "__main__":
    main()
