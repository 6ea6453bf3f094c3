"""Poolings of a pack against those of its utterances, one at a time."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from helpers.pretended_gpu import pretended_gpu
from torch.utils._python_dispatch import TorchDispatchMode

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.chunks import FrameChunk, InputChunk
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.packed.pooling import BLOCK, TILE, SegmentPooling
from layerprobe.probe.forward.pooling import POOLINGS, pool_frame_chunks
from layerprobe.probe.forward.stream import kernels

DIM = 24
ALL = tuple(POOLINGS)
LENGTHS = (40, 1, BLOCK, 3, 2 * BLOCK + 1, 1, 7, TILE + BLOCK + 1, 40, 2)  # the last but two needs two tiles


def chunk(n_frames: int, counted: slice = slice(None), first: int = 0, total: int | None = None) -> InputChunk:
    return InputChunk({"frames": torch.zeros(n_frames)}, counted, first, total)


def packed(*utterances: list[InputChunk]) -> Pack:
    return Pack.of(utterances, lambda one: len(one.inputs["frames"]))


def one_at_a_time(pack: Pack, frames: torch.Tensor, poolings: tuple[str, ...]) -> torch.Tensor:
    """Return what `pool_frame_chunks` gives of each utterance in float64."""
    found = []
    for k in range(pack.n_utterances):
        chunks = [
            FrameChunk([frames[begin:end][one.counted].double()], one.first, one.total)
            for one, owner, (begin, end) in zip(pack.chunks, pack.utterances, pack.spans(), strict=True)
            if owner == k
        ]
        found.append(pool_frame_chunks(sorted(chunks, key=lambda one: one.first), poolings=poolings)[0])
    return torch.stack(found)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest error of a vector, relative to its norm; absolute where that is 0."""
    norm = expected.norm(dim=-1)
    return float(((found - expected).norm(dim=-1) / torch.where(norm > 0, norm, 1)).max())


@pytest.fixture
def frames_of(rng):
    def frames(pack: Pack) -> torch.Tensor:
        """Frames of which some features are far from zero, where a sum of squares would lose the variance."""
        centre = np.where(np.arange(DIM) % 3, 0, 300)
        return torch.from_numpy(rng.normal(centre, 2, size=(pack.n_frames, DIM))).float()

    return frames


@pytest.mark.parametrize("poolings", [ALL, *((name,) for name in ALL), ("std", "max", "mean"), ("mean", "mean")])
def test_every_pooling_of_utterances_of_any_lengths(frames_of, poolings):
    pack = packed(*([chunk(n)] for n in LENGTHS))
    frames = frames_of(pack)
    found = SegmentPooling(pack, poolings, device="cpu")(frames)
    assert found.shape == (len(LENGTHS), len(poolings), DIM)
    assert found.dtype == torch.float32
    for k, name in enumerate(poolings):
        assert relative_error(found[:, k], one_at_a_time(pack, frames, (name,))[:, 0]) < 1e-6, name


def test_frames_of_chunks_that_do_not_count_are_left_out(frames_of):
    """Chunks of long audio with context on one or both sides, a padded window, and an utterance of one chunk."""
    pack = packed(
        [chunk(70, slice(0, 60), 0, 150), chunk(60, slice(10, 40), 60, 150), chunk(75, slice(15, 75), 90, 150)],
        [chunk(50, slice(0, 1), 0, 1)],
        [chunk(50, slice(50), 0, 57), chunk(50, slice(7), 50, 57)],
        [chunk(33)],
    )
    frames = frames_of(pack)
    unseen = torch.ones(pack.n_frames, dtype=torch.bool)
    for one, (begin, end) in zip(pack.chunks, pack.spans(), strict=True):
        unseen[begin:end][one.counted] = False
    frames[unseen] = torch.nan
    found = SegmentPooling(pack, ALL, device="cpu")(frames)
    expected = one_at_a_time(pack, frames, ALL)
    assert torch.isfinite(expected).all()
    for k, name in enumerate(ALL):
        assert relative_error(found[:, k], expected[:, k]) < 1e-6, name


def test_other_utterances_do_not_change_a_bit(frames_of):
    pack = packed(*([chunk(n)] for n in LENGTHS))
    frames = frames_of(pack)
    together = SegmentPooling(pack, ALL, device="cpu")(frames)
    for (begin, end), k in zip(pack.spans(), pack.utterances, strict=True):
        alone = SegmentPooling(packed([chunk(end - begin)]), ALL, device="cpu")(frames[begin:end])
        assert torch.equal(alone[0], together[k])


def test_one_frame_has_no_deviation(frames_of):
    pack = packed([chunk(1)], [chunk(1)])
    frames = frames_of(pack)
    found = SegmentPooling(pack, ("mean", "std"), device="cpu")(frames)
    assert torch.equal(found[:, 0], frames)
    assert not found[:, 1].any()


def test_a_frame_that_is_no_number_is_not_hidden(frames_of):
    pack = packed([chunk(40)], [chunk(40)])
    frames = frames_of(pack)
    frames[39, 0] = torch.nan
    for name in ("max", "min", "mean", "std"):
        found = SegmentPooling(pack, (name,), device="cpu")(frames)
        assert torch.isnan(found[0, 0, 0]), name
        assert torch.isfinite(found[1]).all(), name


def test_the_number_of_operators_does_not_grow_with_utterances(frames_of):
    operators = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            del types
            if not func.is_view:
                operators.append(func)
            return func(*args, **(kwargs or {}))

    counts = []
    for n in (6, 64):
        pack = packed(*([chunk(1 + k % 4)] for k in range(n)))
        frames, pool = frames_of(pack), SegmentPooling(pack, ("mean", "std"), device="cpu")
        operators.clear()
        with torch.inference_mode(), Count():
            pool(frames)
        counts.append(len(operators))
    assert counts[0] == counts[1] <= 12


def test_on_a_gpu_the_host_does_not_wait(frames_of, monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda _: False)
    pack = packed([chunk(70, slice(0, 60), 0, 90), chunk(60, slice(10, 40), 60, 90)], [chunk(40)], [chunk(3)])
    frames = frames_of(pack)
    expected = SegmentPooling(pack, ALL, device="cpu")(frames)
    with pretended_gpu() as gpu:
        found = SegmentPooling(pack, ALL, device="cuda")(frames.pin_memory().to("cuda"))
        assert not gpu.waits
    assert torch.equal(found.values, expected)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(InputError, match=r"^pooling 'meen' is unknown"):
        SegmentPooling(packed([chunk(3)]), ("meen",), device="cpu")


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([chunk(9, slice(5), 0, 12)], "utterance 0 of a pack has 5 frames of 12: give all its chunks."),
        ([chunk(9, slice(0))], "utterance 0 of a pack has no frame."),
    ],
)
def test_a_pack_that_lacks_frames_of_an_utterance_is_refused(chunks, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SegmentPooling(packed(chunks), ("mean",), device="cpu")
