"""Whether extraction scales with the length and the number of audio files: seconds per second of audio, and memory.

* length: HuBERT-base encodes audio files of 1 to 30 s; seconds of work per second of audio, and attention's fraction of
  the arithmetic, which alone may grow
* number: a narrow HuBERT encodes many audio files of 1 s; seconds per utterance and peak memory, few compared with many
* memory: HuBERT-base and -large over natural lengths; greatest memory above the model's own
* again: the same command on a complete cache, from the command line

Each measurement is a process of its own, so that its greatest memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from benchmarks.extraction_speed import CONFIGS, RATE, write_audio_files
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
from transformers.utils import logging

from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.extract import run_extraction

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
NARROW = SMALL | {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
ALL = CONFIGS | {"narrow": NARROW}
HEADER = Header("noise", "1", "none", {"arousal": Target(1, 7, "none")})


def save_encoder(size: str, folder: Path) -> str:
    logging.disable_progress_bar()
    path = folder / f"hubert-{size}"
    if not path.exists():
        torch.manual_seed(0)
        HubertModel(HubertConfig(**ALL[size])).save_pretrained(path)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(path)
    return str(path)


def measure(table: Path, encoder: str, out: Path) -> None:
    """In a process of its own: print seconds of work and greatest memory as JSON."""
    rows = pd.read_csv(table, dtype=str)
    loaded = load_audio_encoder(encoder, device="cpu")
    model = sum(p.nbytes for module in loaded.modules() for p in module.parameters(recurse=False))
    began = time.perf_counter()
    done = run_extraction(Manifest(table, HEADER, rows), loaded, out)
    figures = {
        "seconds": time.perf_counter() - began,
        "audio": done.audio_seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "model": model,
    }
    print(json.dumps(figures))


def in_subprocess(table: Path, encoder: str, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(table), encoder, str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def write_table(path: Path, paths: list[Path]) -> Path:
    names = [f"u{i}" for i in range(len(paths))]
    table = pd.DataFrame({"utterance_id": names, "path": map(str, paths), "speaker_id": names, "arousal": 2})
    write_manifest(path, table, HEADER)
    return path


def lengths(folder: Path) -> None:
    encoder = save_encoder("base", folder)
    model = HubertModel(HubertConfig())
    print("length: seconds of work per 100 s of audio, and attention's fraction of the arithmetic")
    for seconds in (1, 2, 5, 10, 20, 30):
        rng = np.random.default_rng(0)
        paths = [folder / f"{seconds}-{k}.flac" for k in range(max(8, 240 // seconds))]
        for path in paths:
            soundfile.write(path, 0.1 * rng.normal(size=seconds * RATE), RATE)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, seconds * RATE))
        n_frames = (seconds * RATE - 400) // 320 + 1
        attention = (
            4 * n_frames**2 * model.config.hidden_size * model.config.num_hidden_layers
        )  # which torch counts not
        fraction = attention / (attention + counter.get_total_flops())
        figures = in_subprocess(write_table(folder / f"{seconds}.csv", paths), encoder, folder / f"{seconds}.zarr")
        print(
            f"  {seconds:2d} s: {100 * figures['seconds'] / figures['audio']:.2f} s, attention {fraction:.1%}",
            flush=True,
        )


def numbers(folder: Path, many: int) -> None:
    encoder = save_encoder("narrow", folder)
    rng = np.random.default_rng(0)
    paths = [folder / f"n{k}.wav" for k in range(200)]
    for path in paths:
        soundfile.write(path, 0.1 * rng.normal(size=RATE), RATE)
    print("number: milliseconds per utterance of 1 s, and greatest memory")
    for n in (1000, many):
        table = write_table(folder / f"n{n}.csv", [paths[k % len(paths)] for k in range(n)])
        figures = in_subprocess(table, encoder, folder / f"n{n}.zarr")
        line = f"{1000 * figures['seconds'] / n:.2f} ms, {figures['memory'] / 2**20:.0f} MiB"
        print(f"  {n} utterances: {line}", flush=True)


def memory(folder: Path, n: int) -> None:
    print("memory: greatest above the model's float32 weights and above a process that only loads the libraries")
    idle = "import resource, layerprobe.probe.extraction.extract, layerprobe.probe.encoders.loading; "
    idle += "import transformers.models.hubert.modeling_hubert; "
    idle += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    libraries = int(subprocess.run([sys.executable, "-c", idle], capture_output=True, text=True, check=True).stdout)
    paths = write_audio_files(folder, n)
    for size in ("base", "large"):
        figures = in_subprocess(
            write_table(folder / f"{size}.csv", paths), save_encoder(size, folder), folder / f"{size}.zarr"
        )
        above = figures["memory"] - figures["model"]
        print(
            f"  {size}: model {figures['model'] / 2**30:.2f} GiB, {above / 2**30:.2f} GiB above it, of which libraries "
            f"{libraries / 2**20:.2f} GiB",
            flush=True,
        )


def again(folder: Path) -> None:
    print("again: the same command on a complete cache")
    for size in ("base", "large"):
        if not (folder / f"{size}.zarr").exists():
            continue
        began = time.perf_counter()
        loaded = load_audio_encoder(save_encoder(size, folder), device="cpu")
        loaded = time.perf_counter() - began
        table = pd.read_csv(folder / f"{size}.csv", dtype=str)
        done = run_extraction(Manifest(folder / f"{size}.csv", HEADER, table), loaded, folder / f"{size}.zarr")
        print(f"  {size}: {loaded:.2f} s to load the encoder, {done.seconds:.2f} s of work", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=3, metavar=("TABLE", "ENCODER", "OUT"))
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--utterances", type=int, default=64, help="for memory")
    options = parser.parse_args()
    if options.measure:
        table, encoder, out = options.measure
        return measure(Path(table), encoder, Path(out))
    with tempfile.TemporaryDirectory() as name:
        lengths(Path(name))
        numbers(Path(name), options.many)
        memory(Path(name), options.utterances)
        again(Path(name))
    return None


if __name__ == "__main__":
    main()
