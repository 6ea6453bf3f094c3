"""Memory of the pooling of spans: that of overlapping windows is bounded, and a full disk ends no process."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from layerprobe.probe.extraction.estimate import _memory_of_spans
from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed import span_pooling
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.packed.pooling import GATHERED, SegmentPooling
from layerprobe.probe.forward.pooling import POOLINGS

DIM, N_FRAMES = 4, 6000
ALL = tuple(POOLINGS)


class LargestTensor(TorchDispatchMode):
    """Notes the most rows of ``DIM`` features that an operator returns."""

    rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.ndim and found.shape[-1] == DIM:
            self.rows = max(self.rows, found.numel() // DIM)
        return found


@pytest.fixture
def windows():
    """Windows that overlap thirty times, of different lengths, one longer than what is gathered at a time."""
    begins = np.arange(0, N_FRAMES - 160, 5)
    counts = np.where(np.arange(len(begins)) % 3, 150, 131)
    return np.append(begins, 0), np.append(counts, N_FRAMES)


@pytest.mark.parametrize("kind", ["ranges", "pack"])
def test_overlapping_windows_gather_no_more_than_the_stream(rng, windows, kind):
    frames = torch.from_numpy(rng.normal(3, 1, size=(N_FRAMES, DIM))).float()
    if kind == "ranges":
        pooling = SegmentPooling.of_ranges(*windows, ALL, device="cpu")
    else:
        chunk = InputChunk({"frames": torch.zeros(N_FRAMES)}, slice(None), 0, None)
        pack = Pack.of([[chunk]], lambda one: len(one.inputs["frames"]))
        pooling = SegmentPooling(pack, ALL, device="cpu", spans=[windows])
    with LargestTensor() as largest:
        found = pooling(frames)
    n_found = found.numel() // DIM
    assert N_FRAMES <= largest.rows <= max(GATHERED, N_FRAMES, n_found) < windows[1].sum() / 10
    for k, (begin, count) in enumerate(zip(*windows, strict=True)):  # each as if it were alone, to the bit
        alone = SegmentPooling.of_ranges(np.array([0]), np.array([count]), ALL, device="cpu")
        assert torch.equal(found[k], alone(frames[begin : begin + count])[0])


def test_rows_lie_in_memory_where_the_disk_of_temporary_files_is_full():
    shape = (1000, 1, 1, 10_000)  # more than is held
    assert isinstance(span_pooling._rows(shape), np.memmap)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # no file may be larger
    try:
        rows = span_pooling._rows(shape)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(rows, np.memmap)
    rows[:] = 1
    assert rows.shape == shape


def test_the_estimate_counts_frames_and_rows_of_spans():
    frames = 2 * 4 * GATHERED * 100  # and their deviations
    assert _memory_of_spans(10, 50, 100) == frames + 10 * 50 * 4
    assert _memory_of_spans(1e6, 50, 100) == frames + span_pooling.HELD
