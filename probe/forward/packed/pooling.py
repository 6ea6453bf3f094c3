"""Pooling of a pack's frames by utterance, on the device that they are on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.pooling import POOLINGS, pooling_named
from layerprobe.probe.forward.stream import kernels
from layerprobe.probe.forward.stream.index_arrays import parts, starts, uploaded, within

# Frames that are summed one after another. Sums of sums lose less to rounding than one long sum, and a GPU computes
# them next to each other. Blocks begin with their utterance, so its sums do not depend on the other utterances.
BLOCK = 32
# Rows of which a processor holds intermediate results at a time: 2 MiB of 1024 features, which stay in its cache
TILE = 512
# Frames of spans that are gathered at a time, unless the stream has more: those of windows that overlap are many times
# its own. A span is never divided, so that its sums stay the same.
GATHERED = 4096

_MEANS = ("mean", "first_token", "first_third", "last_third")  # means of the frames that `Pooling.counted` names


class SegmentPooling:
    """The poolings of `probe.forward.pooling` for all utterances of a pack, without a loop over these.

    All sums are in float32 and in an order that depends on the utterance alone. On a GPU no operator waits for the
    host or adds atomically, so that a pack gives the same bits each time.
    """

    def __init__(
        self,
        pack: Pack,
        poolings: tuple[str, ...],
        *,
        device: str,
        spans: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Find the frames that each pooling counts of each utterance, and send their indices to the device.

        Args:
            pack: with every chunk of its utterances
            poolings: keys of `probe.forward.pooling.POOLINGS`, in the order of the result
            device: of the streams
            spans: of each utterance the first frame of each of its spans, and how many frames they have; these take the
                place of utterances, one utterance's after the other's. None pools whole utterances

        Raises:
            InputError: if there is no such pooling
            ValueError: if chunks of an utterance are missing
        """
        rows, segments = _counted_rows(pack)
        if spans is not None:
            rows, segments = _rows_of_spans(rows, segments, spans)
        self._prepare(rows, segments, poolings, device, at_once=max(GATHERED, pack.n_frames))

    @classmethod
    def of_ranges(
        cls, begins: np.ndarray, counts: np.ndarray, poolings: tuple[str, ...], *, device: str
    ) -> SegmentPooling:
        """Return the pooling of ranges of one stream, which may overlap, in place of utterances.

        Args:
            begins: ``(n_ranges,)`` first frame of each
            counts: ``(n_ranges,)`` frames of each, at least 1
            poolings: as of `SegmentPooling`
            device: of the stream
        """
        pooling = cls.__new__(cls)
        segments = _Segments(starts(counts), counts, np.arange(len(counts)))
        n_frames = int((begins + counts).max()) if len(begins) else 0
        rows = _consecutive(begins, counts)
        pooling._prepare(rows, segments, poolings, device, at_once=max(GATHERED, n_frames))
        return pooling

    def _prepare(
        self, rows: np.ndarray | None, segments: _Segments, poolings: tuple[str, ...], device: str, *, at_once: int
    ) -> None:
        for name in poolings:
            pooling_named(name)
        self._poolings = poolings
        self._parts: list[SegmentPooling] = []
        if rows is not None and len(rows) > at_once:  # of spans, which are in the order of rows
            for part in parts(segments.counts, at_once):
                counts = segments.counts[part]
                one = type(self).__new__(type(self))
                begin = int(segments.begins[part.start])
                own = _Segments(starts(counts), counts, np.arange(len(counts)))
                one._prepare(rows[begin : begin + counts.sum()], own, poolings, device, at_once=len(rows))
                self._parts.append(one)
            return
        upload = _Upload()
        self._rows = None if rows is None else upload.add(rows)
        order = np.argsort(segments.utterances)
        self._order = None if np.array_equal(order, np.arange(len(order))) else upload.add(order)
        self._in_one_kernel = "std" in poolings and kernels.available(device)  # which returns the mean, too
        self._begins, self._ends = upload.add(segments.begins), upload.add(segments.begins + segments.counts)
        self._means = [name for name in _MEANS if name in poolings or (name == "mean" and "std" in poolings)]
        if self._in_one_kernel:
            self._means.remove("mean")
        self._of_means = _Sums.of([segments.counted_by(name) for name in self._means], upload)
        self._blocks = _Blocks.of(segments, upload, tile=None if torch.device(device).type == "cuda" else TILE)
        self._indices = upload.to(device)

    def __call__(self, frames: Tensor) -> Tensor:
        """Pool one layer's stream ``(n_frames, dim)`` to ``(n_utterances, n_poolings, dim)`` float32."""
        if self._parts:
            return torch.cat([part(frames) for part in self._parts])
        at = self._indices
        rows = frames if self._rows is None else frames.index_select(0, at[self._rows])
        pooled = dict(zip(self._means, self._of_means(rows, at), strict=True)) if self._means else {}
        if self._in_one_kernel:
            pooled["mean"], pooled["std"] = kernels.mean_and_std(rows, at[self._begins], at[self._ends]).unbind(1)
        elif "std" in self._poolings:
            pooled["std"] = self._blocks.variance(rows, pooled["mean"], at).sqrt()
        for name in ("max", "min"):
            if name in self._poolings:
                pooled[name] = self._blocks.extreme(rows, name, at)
        if "normed_mean" in self._poolings:
            pooled["normed_mean"] = self._blocks.normed_mean(rows, at)
        stacked = torch.stack([pooled[name] for name in self._poolings], dim=1)
        return stacked if self._order is None else stacked.index_select(0, at[self._order])


@dataclass(frozen=True)
class _Segments:
    """Utterances as consecutive rows; each array ``(n_utterances,)``, in the order of rows."""

    begins: np.ndarray  # first row
    counts: np.ndarray  # rows, >= 1
    utterances: np.ndarray  # index of the utterance

    def counted_by(self, pooling: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row that a pooling counts of each utterance, and how many it counts."""
        counted = [POOLINGS[pooling].counted(int(n)) for n in self.counts]
        return self.begins + [one.start for one in counted], np.array([len(one) for one in counted])


def _counted_rows(pack: Pack) -> tuple[np.ndarray | None, _Segments]:
    """Return the frames of a stream that count, by utterance, and where each utterance is among them.

    None stands for all frames in their own order.
    """
    begins, counts = np.empty(len(pack.chunks), dtype=np.int64), np.empty(len(pack.chunks), dtype=np.int64)
    for k, (chunk, length, (begin, _)) in enumerate(zip(pack.chunks, pack.lengths, pack.spans(), strict=True)):
        counted = range(*chunk.counted.indices(length))
        begins[k], counts[k] = begin + counted.start, len(counted)
    utterances = np.array(pack.utterances)
    _check_whole(pack, utterances, counts)
    if len(pack.chunks) == pack.n_utterances and counts.sum() == pack.n_frames:
        return None, _Segments(begins, counts, utterances)
    order = np.lexsort((np.array([chunk.first for chunk in pack.chunks]), utterances))
    n_counted = np.bincount(utterances, weights=counts, minlength=pack.n_utterances).astype(np.int64)
    segments = _Segments(starts(n_counted), n_counted, np.arange(pack.n_utterances))
    return _consecutive(begins[order], counts[order]), segments


def _rows_of_spans(
    rows: np.ndarray | None, utterances: _Segments, spans: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, _Segments]:
    """Return the frames of a stream that are in spans, span by span, and where each span is among them."""
    first = np.empty(len(spans), dtype=np.int64)
    first[utterances.utterances] = utterances.begins
    begins = np.concatenate([first[k] + begin for k, (begin, _) in enumerate(spans)])
    counts = np.concatenate([count for _, count in spans])
    of_spans = _consecutive(begins, counts)
    segments = _Segments(starts(counts), counts, np.arange(len(counts)))
    return of_spans if rows is None else rows[of_spans], segments


def _check_whole(pack: Pack, utterances: np.ndarray, counts: np.ndarray) -> None:
    n_counted = np.bincount(utterances, weights=counts, minlength=pack.n_utterances)
    for chunk, k, n in zip(pack.chunks, pack.utterances, counts, strict=True):
        total = n if chunk.total is None else chunk.total
        if n_counted[k] != total:
            raise ValueError(f"utterance {k} of a pack has {n_counted[k]:.0f} frames of {total}: give all its chunks.")
    if len(n_counted) and not n_counted.all():
        raise ValueError(f"utterance {int(np.argmin(n_counted))} of a pack has no frame.")


def _consecutive(begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers begin to begin + count of each range, one range after another.

    >>> _consecutive(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    rows: np.ndarray = np.repeat(begins, counts) + within(counts)
    return rows


def _ends(counts: np.ndarray) -> np.ndarray:
    """Return where ranges that follow each other begin, and where the last one ends: ``(n + 1,)``."""
    return np.concatenate([[0], np.cumsum(counts)])


def _block_counts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many blocks each range has, ``(n_ranges,)``, and how many rows each block, ``(n_blocks,)``."""
    n_blocks = -(-counts // BLOCK)
    before = within(n_blocks) * BLOCK  # rows of the range before the block
    return n_blocks, np.minimum(np.repeat(counts, n_blocks) - before, BLOCK)


class _Upload:
    """Index arrays that reach the device in one copy."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> int:
        """Add integers, or real numbers, which arrive as int32 or float32; return their index in the result of `to`."""
        self._arrays.append(np.ascontiguousarray(values, dtype=np.float32 if values.dtype.kind == "f" else np.int32))
        return len(self._arrays) - 1

    def to(self, device: str) -> list[Tensor]:
        """Return all arrays on a device; the host does not wait for the copy."""
        whole = uploaded(np.concatenate([values.view(np.int32) for values in self._arrays]), device=device)
        parts = torch.split(whole, [len(values) for values in self._arrays])
        return [
            part.view(torch.float32) if values.dtype.kind == "f" else part
            for part, values in zip(parts, self._arrays, strict=True)
        ]


@dataclass(frozen=True)
class _Sums:
    """Means over ranges of rows: sums of blocks, then sums of these; each field is an index in the uploaded arrays."""

    n_kinds: int
    rows: int  # of all ranges, one after another
    block_ends: int  # where each block begins among these rows, and where the last ends
    blocks: int  # numbers of all blocks
    range_ends: int  # where each range begins among the blocks, and where the last ends
    weights: int  # of each block: one over the rows of its range

    @classmethod
    def of(cls, kinds: Sequence[tuple[np.ndarray, np.ndarray]], upload: _Upload) -> _Sums:
        """Take first row and number of rows of every utterance, for each kind of range."""
        begins = np.concatenate([begins for begins, _ in kinds]) if kinds else np.zeros(0, dtype=np.int64)
        counts = np.concatenate([counts for _, counts in kinds]) if kinds else np.zeros(0, dtype=np.int64)
        n_blocks, in_block = _block_counts(counts)
        return cls(
            len(kinds),
            upload.add(_consecutive(begins, counts)),
            upload.add(_ends(in_block)),
            upload.add(np.arange(n_blocks.sum())),
            upload.add(_ends(n_blocks)),
            upload.add(np.repeat(1 / counts, n_blocks)),
        )

    def __call__(self, rows: Tensor, at: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the means over the ranges, ``(n_utterances, dim)`` for each kind, of rows ``(n_rows, dim)``."""
        sums = _sums(rows, at[self.rows], at[self.block_ends])
        return _sums(sums, at[self.blocks], at[self.range_ends], at[self.weights]).chunk(self.n_kinds)


@dataclass(frozen=True)
class _Blocks:
    """Blocks of whole utterances, in the order of rows; each field but the last is an index in the uploaded arrays."""

    padded: int  # rows of each block, (n_blocks * BLOCK,); short blocks repeat their last row
    segment: int  # of each row
    numbers: int  # of all blocks
    range_ends: int  # where each utterance begins among the blocks, and where the last ends
    weights: int  # of each block: one over the rows of its utterance
    tiles: tuple[_Tile, ...]

    @classmethod
    def of(cls, segments: _Segments, upload: _Upload, *, tile: int | None) -> _Blocks:
        """Take utterances; intermediate results of about so many rows are held at a time, or of all if None."""
        n_blocks, in_block = _block_counts(segments.counts)
        ends = _ends(in_block)
        padded = ends[:-1, None] + np.minimum(np.arange(BLOCK), in_block[:, None] - 1)
        cuts = [] if tile is None else (np.flatnonzero(np.diff(ends[:-1] // tile)) + 1).tolist()
        return cls(
            upload.add(padded.ravel()),
            upload.add(np.repeat(np.arange(len(segments.counts)), segments.counts)),
            upload.add(np.arange(len(in_block))),
            upload.add(_ends(n_blocks)),
            upload.add(np.repeat(1 / segments.counts, n_blocks)),
            tuple(_Tile.of(ends[a : b + 1], a, upload) for a, b in itertools.pairwise([0, *cuts, len(in_block)])),
        )

    def variance(self, rows: Tensor, means: Tensor, at: list[Tensor]) -> Tensor:
        """Return the mean over each utterance of squared differences from its mean, ``(n_utterances, dim)``."""
        segment = at[self.segment]
        return self._mean(lambda part: means.index_select(0, segment[part]).sub_(rows[part]).square_(), at)

    def normed_mean(self, rows: Tensor, at: list[Tensor]) -> Tensor:
        """Return the mean over each utterance of its rows after layer norm without weights, ``(n_utterances, dim)``."""
        return self._mean(lambda part: functional.layer_norm(rows[part], rows.shape[-1:]), at)

    def _mean(self, of: Callable[[slice], Tensor], at: list[Tensor]) -> Tensor:
        sums = [_sums(of(tile.rows), at[tile.within], at[tile.block_ends]) for tile in self.tiles]
        return _sums(_joined(sums), at[self.numbers], at[self.range_ends], at[self.weights])

    def extreme(self, rows: Tensor, which: str, at: list[Tensor]) -> Tensor:
        """Return the max or min over each utterance, ``(n_utterances, dim)``; NaN where a frame is NaN."""
        extremes = []
        for tile in self.tiles:
            blocks = rows.index_select(0, at[self.padded][tile.padded]).view(-1, BLOCK, rows.shape[1])
            extremes.append(blocks.amax(1) if which == "max" else blocks.amin(1))
        # unsafe: on a GPU the check of the offsets would wait for the device
        return torch.segment_reduce(_joined(extremes), which, offsets=at[self.range_ends], unsafe=True)


@dataclass(frozen=True)
class _Tile:
    """Consecutive blocks of which intermediate results are held together."""

    rows: slice
    padded: slice  # of `_Blocks.padded`
    within: int  # index of the numbers of its rows, from 0
    block_ends: int  # index of where its blocks begin among its rows, and where the last ends

    @classmethod
    def of(cls, ends: np.ndarray, first: int, upload: _Upload) -> _Tile:
        """Take where its blocks begin among all rows and where the last ends, and the number of its first block."""
        return cls(
            slice(int(ends[0]), int(ends[-1])),
            slice(first * BLOCK, (first + len(ends) - 1) * BLOCK),
            upload.add(np.arange(ends[-1] - ends[0])),
            upload.add(ends - ends[0]),
        )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sums(rows: Tensor, which: Tensor, ends: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sums of rows: of ``which[ends[k]:ends[k + 1]]`` for each k, times weights if given.

    A bag of embeddings is a sum of rows that needs no atomic addition, and is fast on the CPU, too.
    """
    return functional.embedding_bag(which, rows, ends, mode="sum", per_sample_weights=weights, include_last_offset=True)
