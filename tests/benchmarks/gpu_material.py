"""Encoders and audio files of the benchmark on a GPU, and what feeds an encoder: decoding and writing, each alone."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from benchmarks.gpu_peers import LARGE
from benchmarks.gpu_scores import NARROW
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.audio_hashes import AudioHashes, records
from layerprobe.probe.data.manifest.schema import Header, Manifest
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.settings import ExtractionSettings, extraction_plan
from layerprobe.probe.system import cores

RATE = 16_000
MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "base": (HubertConfig, HubertModel, {}),
    "large": (HubertConfig, HubertModel, LARGE),
    "wavlm-large": (WavLMConfig, WavLMModel, LARGE),
}


@dataclass(frozen=True)
class Sizes:
    """How much audio each kind of item encodes, in utterances."""

    few: int  # of loops, whose vectors give the errors
    many: int  # of batches and packs
    files: tuple[int, int]  # of extractions: what is done once is known from their difference
    longest: float  # seconds
    budget: int  # frames of a batch or pack
    square: int  # rows of the square product that measures the matrix rate


CARD = Sizes(few=32, many=512, files=(512, 3072), longest=12.0, budget=16_896, square=8192)
REHEARSAL = Sizes(few=3, many=8, files=(6, 24), longest=4.0, budget=400, square=256)


def save_model(name: str, folder: Path, *, tiny: bool) -> Path:
    """Write a model of random weights, with its feature extractor."""
    config, model, settings = MODELS[name]
    torch.manual_seed(0)
    built = model(config(**(settings | NARROW if tiny else settings)))
    with torch.no_grad():  # norms that are no identities, and biases that are not zero
        for parameter in built.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.02 * torch.randn(parameter.shape))
    built.save_pretrained(folder / name)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / name)
    return folder / name


def load_peer(folder: Path, device: str) -> Any:
    """Transformers' own model in float32."""
    _, model, _ = MODELS[folder.name]
    return model.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False).to(device)


def make_waveforms(n: int, *, longest: float, rate: int = RATE) -> list[np.ndarray]:
    """Coloured noise, loud and soft eight times a second, of natural lengths (lognormal, median 4.9 s, from 1 s)."""
    lengths = np.clip(np.random.default_rng(1).lognormal(np.log(4.9), 0.5, n), 1, longest)  # the same at every rate
    rng, seconds = np.random.default_rng(0), 120
    noise = np.cumsum(rng.normal(size=seconds * rate))
    noise -= np.convolve(noise, np.ones(400) / 400, "same")
    noise *= np.interp(np.arange(len(noise)) / rate, np.arange(8 * seconds) / 8, rng.uniform(0.1, 1, 8 * seconds))
    whole = (0.3 * noise / np.abs(noise).max()).astype(np.float32)
    begins = rng.uniform(0, seconds - longest, n)
    return [whole[int(b * rate) : int((b + s) * rate)].copy() for b, s in zip(begins, lengths, strict=True)]


def write_corpus(folder: Path, waveforms: list[np.ndarray], *, rate: int = RATE) -> Manifest:
    """The manifest of FLAC files that hold these waveforms, written in all cores' threads."""
    folder.mkdir()
    paths = [folder / f"u{i:06d}.flac" for i in range(len(waveforms))]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda path, waveform: soundfile.write(path, waveform, rate), paths, waveforms))
    table = pd.DataFrame({"utterance_id": [p.stem for p in paths], "path": map(str, paths), "speaker_id": "s"})
    return Manifest(folder / "m.csv", Header("noise", "1", "none", {}), table)


def first_of(manifest: Manifest, n: int) -> Manifest:
    return Manifest(manifest.path, manifest.header, manifest.table.head(n))


def decoding_rate(encoder: SpeechEncoder, manifest: Manifest) -> float:
    """Seconds of audio that one core decodes, checks and prepares in a second."""
    reader = make_input_reader(encoder, manifest.table, AudioHashes(), ExtractionSettings())
    seconds, began = 0.0, time.perf_counter()
    for row in records(manifest.table):
        data = reader.read(row).data
        if not isinstance(data, np.ndarray):
            raise TypeError("a speech encoder reads waveforms")
        encoder.input_chunks(data)
        seconds += len(data) / encoder.sampling_rate
        if time.perf_counter() - began > 2:
            break
    return seconds / (time.perf_counter() - began)


def writing_rate(encoder: SpeechEncoder, path: Path, *, dtype: str, n: int) -> float:
    """Bytes of embeddings that one writer puts into a cache in a second."""
    settings = ExtractionSettings(storage_dtype=dtype)
    row = np.random.default_rng(0).normal(size=(len(encoder.layers), 2, encoder.dim)).astype(np.float32)
    began = time.perf_counter()
    with CacheWriter(path, extraction_plan(encoder, settings), dim=encoder.dim) as writer:
        for i in range(n):
            writer.append(f"u{i:06d}", f"row {i}", row + i)
    taken = time.perf_counter() - began
    shutil.rmtree(path)
    return n * row.size * np.dtype(dtype).itemsize / taken
