"""Time and memory of one pack of sample utterances, from which those of an extraction are estimated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from layerprobe.probe.extraction.encoding.embedding import is_out_of_memory
from layerprobe.probe.extraction.encoding.packs import PackingEncoder
from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.system import peak_memory, resident_memory, torch_threads


@dataclass(frozen=True)
class PackCost:
    """What encoding a pack took."""

    n_frames: int
    n_utterances: int
    seconds: float
    memory: int  # bytes that the process held at most in addition to what it held before
    device_memory: int  # bytes that torch held at most on a GPU, weights included; 0 on the CPU


def measure_pack(
    packing: PackingEncoder, inputs: Sequence[np.ndarray | str], *, poolings: tuple[str, ...], jobs: int, budget: int
) -> PackCost:
    """Encode sample utterances together twice and measure the second time, because the first is slower.

    On a GPU they are repeated until they fill the frame budget, since a small pack does not occupy it; where memory
    runs out, half as many are.

    Args:
        packing: an encoder of packs
        inputs: waveforms or texts, at least one, each of at least one frame
        poolings: keys of `probe.forward.pooling.POOLINGS`
        jobs: threads of matrix products, on the CPU
        budget: frames that run together
    """
    on_gpu = packing.device.startswith("cuda")
    utterances = [packing.input_chunks(data) for data in inputs]
    n_frames = _n_frames(packing, utterances)
    pack = utterances * max(1, budget // max(1, n_frames) if on_gpu else 1)
    before, peak = resident_memory(), peak_memory(anew=True)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(packing.device)
    with torch_threads(1 if on_gpu else jobs):
        while (seconds := _seconds_of(packing, pack, poolings)) is None:
            pack = pack[: -(-len(pack) // 2)]
    return PackCost(
        _n_frames(packing, pack),
        len(pack),
        seconds,
        max(0, peak_memory() - max(before, peak)),
        torch.cuda.max_memory_allocated(packing.device) if on_gpu else 0,
    )


def _n_frames(packing: PackingEncoder, utterances: Sequence[Sequence[InputChunk]]) -> int:
    return sum(packing.packed.n_frames(chunk) for chunks in utterances for chunk in chunks)


def _seconds_of(
    packing: PackingEncoder, pack: Sequence[Sequence[InputChunk]], poolings: tuple[str, ...]
) -> float | None:
    """Return the seconds of encoding a pack for the second time; None if memory does not suffice for several."""
    try:
        for _ in range(2):
            began = time.perf_counter()
            packing.embed_pack(pack, poolings=poolings).cpu()
        return time.perf_counter() - began
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(pack) == 1:
            raise
    torch.cuda.empty_cache()
    return None
