"""Frames become fixed vectors, padding left out, in one piece or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from layerprobe.probe.encoders.base import FrameChunk
from layerprobe.probe.exceptions import InputError

DEFAULT_POOLINGS: tuple[str, ...] = ("mean", "std")  # of sound


@dataclass(frozen=True)
class Pooling:
    """One way from an utterance's frames to a vector, in steps that merge, so that long sound is pooled by pieces."""

    counted: Callable[[int], range]  # of all n_frames of the utterance those that count
    summarise: Callable[[Tensor], Tensor]  # (n_frames, dim) -> (k, dim)
    merge: Callable[[Tensor, Tensor, float], Tensor]  # two summaries, the second with that share of the frames
    vector: Callable[[Tensor], Tensor]  # (k, dim) -> (dim,)

    def __call__(self, hidden_states: Tensor) -> Tensor:
        """Pool the valid frames of one layer of an utterance, ``(n_frames, dim)``, ``n_frames >= 1``, to ``(dim,)``."""
        counted = self.counted(len(hidden_states))
        return self.vector(self.summarise(hidden_states[counted.start : counted.stop]))


def _mean(frames: Tensor) -> Tensor:
    # a product with a row of 1/n is a third to a tenth of the time of a reduction over the first axis
    return frames.new_full((1, len(frames)), 1 / len(frames)) @ frames


def _mean_and_variance(frames: Tensor) -> Tensor:
    """Divided by ``n_frames``, in two passes."""
    mean = _mean(frames)
    return torch.cat([mean, _mean((frames - mean).square())])


def _normed_mean(frames: Tensor) -> Tensor:
    """Mean of frames that were each layer-normalised without weights, as in s3prl's normalised weighted sum.

    A mix of these over layers is exactly the average of the mix over frames, so that sum can be replayed from a cache.
    """
    return _mean(torch.nn.functional.layer_norm(frames, frames.shape[-1:]))


def _merge_means(a: Tensor, b: Tensor, share: float) -> Tensor:
    return a + (b - a) * share


def _merge_variances(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Means and variances joined (Chan, Golub and LeVeque, 1983)."""
    merged = _merge_means(a, b, share)
    merged[1] += share * (1 - share) * (a[0] - b[0]).square()
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
    # means over the first and the last third of the frames, rounded up
    "first_token": Pooling(lambda _: range(1), _mean, _merge_means, _only),  # the first frame alone; of text [CLS]
    "first_third": Pooling(lambda n: range(_third(n)), _mean, _merge_means, _only),
    "last_third": Pooling(lambda n: range(n - _third(n), n), _mean, _merge_means, _only),
    "normed_mean": Pooling(range, _normed_mean, _merge_means, _only),
}


def pooling_named(name: str) -> Pooling:
    """The pooling of that name.

    Raises:
        InputError: naming the choices, if there is none
    """
    if name not in POOLINGS:
        raise InputError(f"pooling {name!r} is unknown; choose one of {', '.join(sorted(POOLINGS))}.")
    return POOLINGS[name]


def pool_layers(layers: Iterable[Tensor], *, poolings: tuple[str, ...]) -> Tensor:
    """Pool every layer of one utterance that was heard in one piece.

    Args:
        layers: the valid frames of each layer, ``n_layers`` tensors ``(n_frames, dim)``, each read once
        poolings: keys of `POOLINGS`, in the order of the result

    Returns:
        the utterance's embeddings, ``(n_layers, n_poolings, dim)``
    """
    return pool_frame_chunks([FrameChunk(layers)], poolings=poolings)


def pool_frame_chunks(frame_chunks: Iterable[FrameChunk], *, poolings: tuple[str, ...]) -> Tensor:
    """Pool every layer of one utterance whose frames come in one or several stretches; no more than one is held.

    Returns:
        the utterance's embeddings, ``(n_layers, n_poolings, dim)``
    """
    functions = [pooling_named(name) for name in poolings]
    summaries: dict[tuple[int, int], tuple[Tensor, int]] = {}  # of layer and pooling, with the frames in it
    for frame_chunk in frame_chunks:
        for layer, frames in enumerate(frame_chunk.layers):
            total = len(frames) if frame_chunk.total is None else frame_chunk.total
            for k, pooling in enumerate(functions):
                counted = pooling.counted(total)
                first = max(counted.start - frame_chunk.first, 0)
                last = min(counted.stop - frame_chunk.first, len(frames))
                if first < last:
                    summary = pooling.summarise(frames[first:last])
                    summaries[layer, k] = _joined(pooling, summaries.get((layer, k)), summary, last - first)
    n_layers = 1 + max(layer for layer, _ in summaries)
    vectors = [[f.vector(summaries[layer, k][0]) for k, f in enumerate(functions)] for layer in range(n_layers)]
    return torch.stack([torch.stack(row) for row in vectors])


def _joined(pooling: Pooling, before: tuple[Tensor, int] | None, summary: Tensor, n: int) -> tuple[Tensor, int]:
    if before is None:
        return summary, n
    return pooling.merge(before[0], summary, n / (before[1] + n)), before[1] + n
