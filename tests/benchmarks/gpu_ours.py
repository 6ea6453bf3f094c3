"""What the benchmark on a GPU runs of this package: the packed pass alone, single utterances, and extractions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.extraction.encoding.embedding import embed
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings

POOLINGS = ("mean", "std")


def in_packs(encoder: SpeechEncoder, chunks: list[Any], budget: int) -> list[list[Any]]:
    """Utterances in the corpus' order, as many as have at most ``budget`` frames."""
    if encoder.packed is None:
        raise ValueError("the encoder encodes utterances singly")
    packs, n = list[list[Any]](), budget + 1
    for utterance in chunks:
        frames = sum(encoder.packed.n_frames(chunk) for chunk in utterance)
        if n + frames > budget:
            packs.append([])
            n = 0
        packs[-1].append(utterance)
        n += frames
    return packs


def packed_pass(encoder: SpeechEncoder, packs: list[list[Any]], rows: Tensor) -> Tensor:
    """From chunks on the host to rows on the host, which are copied while the next pack runs."""
    begin = 0
    for pack in packs:
        rows[begin : begin + len(pack)].copy_(encoder.embed_pack(pack, poolings=POOLINGS), non_blocking=True)
        begin += len(pack)
    return rows


def single_pass(encoder: SpeechEncoder, waveforms: list[np.ndarray]) -> Tensor:
    return torch.stack([torch.from_numpy(embed(encoder, waveform, poolings=POOLINGS)) for waveform in waveforms])


def extract(
    encoder: SpeechEncoder, manifest: Manifest, out: Path, dtype: str, n_rows: int, notes: list[str]
) -> Tensor | None:
    """Extract a corpus, note what bound it, and return the first rows of the cache."""
    shutil.rmtree(out, ignore_errors=True)
    done = run_extraction(manifest, encoder, out, ExtractionSettings(storage_dtype=dtype))
    if done.stages is not None:
        notes.append(done.stages.sentence())
    return torch.from_numpy(open_cache(out).read_rows(np.arange(n_rows)).astype(np.float32)) if n_rows else None
