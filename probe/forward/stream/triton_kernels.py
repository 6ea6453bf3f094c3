"""Kernels in Triton's language, of which `probe.forward.stream.kernels` is the only caller.

Every kernel computes in float32 whatever it reads and writes, adds in an order that depends on its shapes alone, and
writes each element of its result once. Arrays are contiguous.
"""

# mypy: ignore-errors
# ruff: noqa: N803, PLR0913
# Triton compiles these functions; it ships no types, and is not installed everywhere. Its arguments are pointers and
# sizes, and those in capitals are compiled in.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize_on_alignment=["begins", "ends"])
def mean_and_std(x, begins, ends, out, DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program ``(u, c)``: mean and standard deviation of COLUMNS features over the rows of segment u, in two passes.

    Args:
        x: ``(n_rows, DIM)`` float32
        begins: first row of each segment, ``(n_segments,)`` int32
        ends: row behind the last of each segment, ``(n_segments,)`` int32
        out: ``(n_segments, 2, DIM)`` float32
        DIM: features
        ROWS: rows that are read at a time; sums of every ROWS-th row are added last
        COLUMNS: features of a program
    """
    segment = tl.program_id(0)
    begin, end = tl.load(begins + segment), tl.load(ends + segment)
    row, column = tl.arange(0, ROWS), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (column < DIM)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(begin, end, ROWS):
        at = x + (first + row).to(tl.int64)[:, None] * DIM + column[None, :]
        total += tl.load(at, mask=(first + row < end)[:, None] & inside, other=0.0)
    mean = tl.sum(total, 0) / (end - begin)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(begin, end, ROWS):
        at = x + (first + row).to(tl.int64)[:, None] * DIM + column[None, :]
        counted = (first + row < end)[:, None] & inside
        deviation = tl.where(counted, tl.load(at, mask=counted, other=0.0) - mean[None, :], 0.0)
        total += deviation * deviation
    to = out + segment.to(tl.int64) * (2 * DIM) + column
    tl.store(to, mean, mask=column < DIM)
    tl.store(to + DIM, tl.sqrt(tl.sum(total, 0) / (end - begin)), mask=column < DIM)


@triton.jit
def _normed(x, inside, weight, bias, column, eps, DIM: tl.constexpr, WEIGHTED: tl.constexpr):
    """Return the layer norm of rows ``(n_rows, n_columns)``, of which DIM columns are inside; 0 beyond these."""
    deviation = tl.where(inside, x - (tl.sum(x, 1) / DIM)[:, None], 0.0)
    normed = deviation * (1.0 / tl.sqrt(tl.sum(deviation * deviation, 1) / DIM + eps))[:, None]
    if WEIGHTED:
        real = column < DIM
        normed = normed * tl.load(weight + column, mask=real, other=0.0)[None, :]
        normed += tl.load(bias + column, mask=real, other=0.0)[None, :]
    return normed


@triton.jit
def add_and_norm(
    x, delta, weight, bias, stream, normed, eps,
    DIM: tl.constexpr, COLUMNS: tl.constexpr, ADDED: tl.constexpr, POST: tl.constexpr,
    WEIGHTED: tl.constexpr, STREAM: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """Program ``r``: the sum of row r of two arrays, and its layer norm.

    Args:
        x: ``(n_rows, DIM)`` float32
        delta: ``(n_rows, DIM)``, read if ADDED
        weight: ``(DIM,)`` float32, read if WEIGHTED
        bias: ``(DIM,)`` float32, read if WEIGHTED
        stream: ``(n_rows, DIM)`` float32, written if STREAM: the normed sum if POST, else the sum
        normed: ``(n_rows, DIM)``, written if NORMED: the normed sum
        eps: of the norm
        DIM: features
        COLUMNS: the power of 2 that is not below DIM
        ADDED: whether there is a delta
        POST: whether the normed sum is the new stream
        WEIGHTED: whether the norm has weights
        STREAM: whether the stream is written
        NORMED: whether the normed sum is written on its own
    """
    column = tl.arange(0, COLUMNS)
    inside = (column < DIM)[None, :]  # of one row
    at = tl.program_id(0).to(tl.int64) * DIM + column[None, :]
    total = tl.load(x + at, mask=inside, other=0.0)
    if ADDED:
        total += tl.load(delta + at, mask=inside, other=0.0).to(tl.float32)
    result = _normed(total, inside, weight, bias, column, eps, DIM, WEIGHTED)
    if STREAM:
        tl.store(stream + at, result if POST else total, mask=inside)
    if NORMED:
        tl.store(normed + at, result.to(normed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["n_rows", "n_windows"])
def norm_gelu_windows(
    y, weight, bias, out, n_rows, n_windows, eps,
    CHANNELS: tl.constexpr, COLUMNS: tl.constexpr, NORM: tl.constexpr, WEIGHTED: tl.constexpr,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Program ``p``: layer norm over channels and exact GELU of ROWS rows, written to each window that has them.

    Row r is at position k of window ``(r - k) / STRIDE``, for each k below KERNEL of which this is a whole number.

    Args:
        y: ``(n_rows, CHANNELS)``
        weight: ``(CHANNELS,)`` float32, read if WEIGHTED
        bias: ``(CHANNELS,)`` float32, read if WEIGHTED
        out: ``(n_windows, KERNEL * CHANNELS)``
        n_rows: rows
        n_windows: windows
        eps: of the norm
        CHANNELS: features of a row
        COLUMNS: the power of 2 that is not below CHANNELS
        NORM: whether there is a norm
        WEIGHTED: whether it has weights
        KERNEL: rows of a window
        STRIDE: rows between the first rows of windows
        ROWS: rows of a program
    """
    row, column = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside = (row < n_rows)[:, None] & (column < CHANNELS)[None, :]
    x = tl.load(y + row[:, None] * CHANNELS + column[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORM:
        x = _normed(x, inside, weight, bias, column, eps, CHANNELS, WEIGHTED)
    x = (0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))).to(out.dtype.element_ty)
    for position in tl.static_range(KERNEL):
        window = (row - position) // STRIDE
        has_it = (row >= position) & ((row - position) % STRIDE == 0) & (window < n_windows)
        to = out + window[:, None] * (KERNEL * CHANNELS) + position * CHANNELS + column[None, :]
        tl.store(to, x, mask=inside & has_it[:, None])


@triton.jit(do_not_specialize=["middle", "n_distances", "n_blocks"], do_not_specialize_on_alignment=["blocks"])
def attend_with_bias(
    qkv, gate, by_distance, blocks, out, scale, middle, n_distances, n_blocks,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    """Program ``(b, h)``: attention of one block of queries of head h to all frames of its sequence.

    The softmax is summed up block by block of keys (Milakov and Gimelshein, 2018), with powers of 2 in place of e.

    Args:
        qkv: queries, keys and values, ``(n_frames, 3, HEADS, WIDTH)`` in 16 bits
        gate: factor of the bias of each query, ``(n_frames, HEADS)`` float32, read if GATED
        by_distance: the bias of each distance from query to key, ``(HEADS, n_distances)`` float32
        blocks: first frame of the sequence, first query in it, and frames of it, ``(3, n_blocks)`` int32
        out: ``(n_frames, HEADS, WIDTH)`` in 16 bits
        scale: of the products of queries and keys, times the logarithm of e to the base 2
        middle: index of distance 0
        n_distances: as of ``by_distance``
        n_blocks: as of ``blocks``
        HEADS: their number
        WIDTH: of a head
        QUERIES: of a program
        KEYS: that are read at a time
        GATED: whether there are gates
    """
    block, head = tl.program_id(0), tl.program_id(1)
    begin, n_frames = tl.load(blocks + block), tl.load(blocks + 2 * n_blocks + block)
    query = tl.load(blocks + n_blocks + block) + tl.arange(0, QUERIES)
    feature, within = tl.arange(0, WIDTH), tl.arange(0, KEYS)
    real = query < n_frames
    frame = (begin + query).to(tl.int64)
    q = tl.load(
        qkv + frame[:, None] * (3 * HEADS * WIDTH) + head * WIDTH + feature[None, :], mask=real[:, None], other=0.0
    )
    factor = tl.full((QUERIES,), 1.4426950408889634, tl.float32)
    if GATED:
        factor = factor * tl.load(gate + frame * HEADS + head, mask=real, other=0.0)
    highest = tl.full((QUERIES,), -float("inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    mixed = tl.zeros((QUERIES, WIDTH), tl.float32)
    for first in range(0, n_frames, KEYS):
        key = first + within
        counted = key < n_frames
        at = (begin + key).to(tl.int64) * (3 * HEADS * WIDTH) + head * WIDTH
        k = tl.load(qkv + HEADS * WIDTH + at[None, :] + feature[:, None], mask=counted[None, :], other=0.0)
        distance = middle + key[None, :] - query[:, None]
        bias = tl.load(by_distance + head * n_distances + distance, mask=real[:, None] & counted[None, :], other=0.0)
        score = tl.dot(q, k) * scale + factor[:, None] * bias
        score = tl.where(counted[None, :], score, -float("inf"))
        higher = tl.maximum(highest, tl.max(score, 1))
        faded = tl.exp2(highest - higher)
        weight = tl.exp2(score - higher[:, None])
        total = total * faded + tl.sum(weight, 1)
        v = tl.load(qkv + 2 * HEADS * WIDTH + at[:, None] + feature[None, :], mask=counted[:, None], other=0.0)
        mixed = tl.dot(weight.to(v.dtype), v, mixed * faded[:, None])
        highest = higher
    to = out + frame[:, None] * (HEADS * WIDTH) + head * WIDTH + feature[None, :]
    tl.store(to, (mixed / total[:, None]).to(out.dtype.element_ty), mask=real[:, None])
