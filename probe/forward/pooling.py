"""Pooling of frames to one vector per utterance and layer, from all frames at once or chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.chunks import FrameChunk

DEFAULT_POOLINGS: tuple[str, ...] = ("mean", "std")  # of audio


@dataclass(frozen=True)
class Pooling:
    """A function from an utterance's frames to a vector, in steps that merge, so that chunks can be pooled in turn."""

    counted: Callable[[int], range]  # which of the utterance's n_frames are pooled
    summarise: Callable[[Tensor], Tensor]  # (n_frames, dim) -> (k, dim)
    merge: Callable[[Tensor, Tensor, float], Tensor]  # two summaries, the second with that fraction of the frames
    vector: Callable[[Tensor], Tensor]  # (k, dim) -> (dim,)

    def __call__(self, hidden_states: Tensor) -> Tensor:
        """Pool the valid frames of one layer of an utterance, ``(n_frames, dim)``, ``n_frames >= 1``, to ``(dim,)``."""
        counted = self.counted(len(hidden_states))
        return self.vector(self.summarise(hidden_states[counted.start : counted.stop]))


def _mean(frames: Tensor) -> Tensor:
    if frames.is_cuda:  # no product, whose inputs TF32 would round
        return frames.mean(dim=0, keepdim=True)
    # a product with a row of 1/n is a third to a tenth of the time of a reduction over the first axis
    return frames.new_full((1, len(frames)), 1 / len(frames)) @ frames


def _mean_and_variance(frames: Tensor) -> Tensor:
    """Return mean and variance (divided by ``n_frames``), ``(2, dim)``, in two passes."""
    mean = _mean(frames)
    return torch.cat([mean, _mean((frames - mean).square())])


def _normed_mean(frames: Tensor) -> Tensor:
    """Return the mean of frames after layer norm without weights, as in s3prl's normalised weighted sum.

    A weighted sum of these means over layers equals the mean over frames of the weighted sum, so that s3prl's can be
    computed from a cache.
    """
    return _mean(torch.nn.functional.layer_norm(frames, frames.shape[-1:]))


def _merge_means(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    return a + (b - a) * fraction


def _merge_variances(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """Return the means and variances of two sets of frames together (Chan, Golub and LeVeque, 1983)."""
    merged = _merge_means(a, b, fraction)
    merged[1] += fraction * (1 - fraction) * (a[0] - b[0]).square()
    return merged


def _third(n_frames: int) -> int:
    return -(-n_frames // 3)


def _only(summary: Tensor) -> Tensor:
    return summary[0]


POOLINGS: dict[str, Pooling] = {
    "mean": Pooling(range, _mean, _merge_means, _only),
    # divided by n_frames: 0 for a single frame
    "std": Pooling(range, _mean_and_variance, _merge_variances, lambda summary: summary[1].sqrt()),
    "max": Pooling(range, lambda x: x.amax(dim=0)[None], lambda a, b, _: torch.maximum(a, b), _only),
    "min": Pooling(range, lambda x: x.amin(dim=0)[None], lambda a, b, _: torch.minimum(a, b), _only),
    "first_token": Pooling(lambda _: range(1), _mean, _merge_means, _only),  # the first frame only; of text [CLS]
    # means over the first and the last third of the frames, rounded up
    "first_third": Pooling(lambda n: range(_third(n)), _mean, _merge_means, _only),
    "last_third": Pooling(lambda n: range(n - _third(n), n), _mean, _merge_means, _only),
    "normed_mean": Pooling(range, _normed_mean, _merge_means, _only),
}


def pooling_named(name: str) -> Pooling:
    """Return the pooling of that name.

    Raises:
        InputError: if there is none; the message lists the choices
    """
    if name not in POOLINGS:
        raise InputError("LP344", f"pooling {name!r} is unknown; choose one of {', '.join(sorted(POOLINGS))}.")
    return POOLINGS[name]


def pool_layers(layers: Iterable[Tensor], *, poolings: tuple[str, ...]) -> Tensor:
    """Pool every layer of one utterance that was encoded in one chunk.

    Args:
        layers: the valid frames of each layer, ``n_layers`` tensors ``(n_frames, dim)``, each read once
        poolings: keys of `POOLINGS`, in the order of the result

    Returns:
        the utterance's embeddings, ``(n_layers, n_poolings, dim)``
    """
    return pool_frame_chunks([FrameChunk(layers)], poolings=poolings)


def pool_frame_chunks(frame_chunks: Iterable[FrameChunk], *, poolings: tuple[str, ...]) -> Tensor:
    """Pool every layer of one utterance whose frames come in one or several chunks, one of which is held at a time.

    Args:
        frame_chunks: in order; together they have every frame of the utterance once
        poolings: keys of `POOLINGS`, in the order of the result

    Returns:
        the utterance's embeddings, ``(n_layers, n_poolings, dim)``
    """
    summaries = FrameSummaries(poolings)
    for frame_chunk in frame_chunks:
        for layer, frames in enumerate(frame_chunk.layers):
            total = len(frames) if frame_chunk.total is None else frame_chunk.total
            summaries.add(layer, frames, first=frame_chunk.first, total=total)
    return summaries.vectors()


class FrameSummaries:
    """Pools the frames of every layer of an utterance, or of a span of one, which come in one or several parts."""

    def __init__(self, poolings: tuple[str, ...]) -> None:
        """Take keys of `POOLINGS`, in the order of the result."""
        self._functions = [pooling_named(name) for name in poolings]
        self._summaries: dict[tuple[int, int], tuple[Tensor, int]] = {}  # of layer and pooling, with the frames in it

    def add(self, layer: int, frames: Tensor, *, first: int, total: int) -> None:
        """Add consecutive frames of a layer, of which ``first`` is the first of ``total``."""
        for k, pooling in enumerate(self._functions):
            counted = pooling.counted(total)
            begin, end = max(counted.start - first, 0), min(counted.stop - first, len(frames))
            if begin < end:
                summary = pooling.summarise(frames[begin:end])
                self._summaries[layer, k] = _joined(pooling, self._summaries.get((layer, k)), summary, end - begin)

    def vectors(self) -> Tensor:
        """Return the embeddings, ``(n_layers, n_poolings, dim)``, once all frames were added."""
        n_layers = 1 + max(layer for layer, _ in self._summaries)
        vectors = [
            [f.vector(self._summaries[layer, k][0]) for k, f in enumerate(self._functions)] for layer in range(n_layers)
        ]
        return torch.stack([torch.stack(row) for row in vectors])


def _joined(pooling: Pooling, before: tuple[Tensor, int] | None, summary: Tensor, n: int) -> tuple[Tensor, int]:
    if before is None:
        return summary, n
    return pooling.merge(before[0], summary, n / (before[1] + n)), before[1] + n
