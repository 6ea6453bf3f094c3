"""Pooling of the spans of one utterance whose frames come in chunks, one of which is held at a time.

A span that is the whole utterance, or that has frames in several chunks, is pooled as an utterance is: a whole span
holds what the utterance does, to the bit. The others, of which there are many, are pooled together without a loop.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import IO

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.forward.chunks import FrameChunk
from layerprobe.probe.forward.frame_times import FrameRanges
from layerprobe.probe.forward.packed.pooling import SegmentPooling
from layerprobe.probe.forward.pooling import FrameSummaries

# Bytes of an utterance's pooled spans up to which these are held in memory. More of them, as of an hour in windows, lie
# in a file without a name, which the system may write to the disk and read again, or in memory where the disk is full.
HELD = 32 * 2**20


def pool_spans(
    frame_chunks: Iterable[FrameChunk],
    ranges_of: Callable[[int], FrameRanges],
    *,
    poolings: tuple[str, ...],
    n_layers: int,
    dim: int,
) -> np.ndarray:
    """Pool the frames of each span in every layer.

    Args:
        frame_chunks: of one utterance, in order; together they have every frame once
        ranges_of: returns the frames of each span, given the number of frames of the utterance
        poolings: keys of `probe.forward.pooling.POOLINGS`, in the order of the result
        n_layers: of the encoder
        dim: number of features of a layer

    Returns:
        ``(n_spans, n_layers, n_poolings, dim)`` float32
    """
    found: np.ndarray | None = None
    ranges: FrameRanges | None = None
    partial: dict[int, FrameSummaries] = {}  # by span
    for frame_chunk in frame_chunks:
        pool: _ChunkPooling | None = None
        pooled: list[Tensor] = []
        for layer, frames in enumerate(frame_chunk.layers):
            if ranges is None or found is None:
                total = len(frames) if frame_chunk.total is None else frame_chunk.total
                ranges = ranges_of(total)
                found = _rows((len(ranges.begins), n_layers, len(poolings), dim))
            if pool is None:
                pool = _ChunkPooling(ranges, frame_chunk.first, len(frames), poolings, str(frames.device))
            if pool.together is not None:
                pooled.append(pool.together(frames))
            for k in pool.separate:
                begin = int(ranges.begins[k])
                first = max(begin, frame_chunk.first)
                part = frames[first - frame_chunk.first : int(ranges.ends[k]) - frame_chunk.first]
                summaries = partial.setdefault(k, FrameSummaries(poolings))
                summaries.add(layer, part, first=first - begin, total=int(ranges.counts[k]))
        if pool is None or found is None or ranges is None:
            continue
        if pooled:
            found[pool.inside] = torch.stack(pooled, dim=1).cpu().numpy()
        for k in [k for k in pool.separate if ranges.ends[k] <= pool.end]:
            found[k] = partial.pop(k).vectors().cpu().numpy()
    if found is None:
        raise ValueError("an utterance without frames has no spans")
    return found


class _ChunkPooling:
    """Which spans have frames in a chunk: those pooled together, and those pooled one by one."""

    def __init__(self, ranges: FrameRanges, first: int, n_frames: int, poolings: tuple[str, ...], device: str) -> None:
        self.end = first + n_frames
        within = (ranges.begins >= first) & (ranges.ends <= self.end) & ~ranges.whole
        self.inside = np.flatnonzero(within)
        self.separate = np.flatnonzero((ranges.begins < self.end) & (ranges.ends > first) & ~within).tolist()
        begins, counts = ranges.begins[within] - first, ranges.counts[within]
        self.together = SegmentPooling.of_ranges(begins, counts, poolings, device=device) if len(self.inside) else None


def _rows(shape: tuple[int, ...]) -> np.ndarray:
    if 4 * int(np.prod(shape)) <= HELD:
        return np.empty(shape, dtype=np.float32)
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file, 4 * int(np.prod(shape)))
            return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
    except OSError:  # the disk of temporary files is full
        return np.empty(shape, dtype=np.float32)


def _reserve(file: IO[bytes], n_bytes: int) -> None:
    """Have the disk hold a file's bytes: one that it can't hold would end the process when it is written.

    Raises:
        OSError: if the disk has less space
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, n_bytes)
        return
    zeros = bytes(2**20)  # macOS
    for begin in range(0, n_bytes, len(zeros)):
        file.write(zeros[: n_bytes - begin])
    file.flush()
