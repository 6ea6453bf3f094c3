"""Kernels for the steps between matrix products on a GPU, each of which torch would read and write several times.

They run where Triton, which torch needs on Linux but not elsewhere, can compile them for the GPU; each is tried once
there, attention with the widest heads that it takes, and compared with torch's operators. Where one fails, torch's
operators do all that they would have done, and `kernels_used` states why. What fails after that raises.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

QUERIES = 64  # of a program of attention
# Of a head in attention with a bias: 64 takes 72 KiB of the 99 KiB that a block has on most GPUs, 128 would take 120.
WIDTHS = (16, 32, 64)
COMPILED = "layerprobe.probe.forward.stream.triton_kernels"


def available(device: torch.device | str) -> bool:
    """Return whether the kernels run on a device; the first call for a device tries them, for some seconds."""
    return _fault(*_key(device)) is None


def kernels_used(device: torch.device | str) -> str:
    """Return a sentence: whether Triton's kernels run on a device or torch's operators, and why the latter."""
    kind, index = _key(device)
    fault = _fault(kind, index)
    if fault is None:
        return f"Kernels of Triton {_version()} run between matrix products on {kind}:{index}."
    return f"Between matrix products torch's operators run on {device}, slower than kernels of Triton: {fault}."


def _key(device: torch.device | str) -> tuple[str, int]:
    found = torch.device(device)
    if str(found) == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # the current one
        return found.type, torch.cuda.current_device()
    return found.type, found.index or 0


def _version() -> str:
    return str(importlib.import_module("triton").__version__)


@functools.cache
def _fault(kind: str, index: int) -> str | None:
    """Return why the kernels do not run on a device, or None if they do."""
    if kind != "cuda" and os.environ.get("TRITON_INTERPRET", "0") != "1":
        return "they are for a GPU"
    try:
        importlib.import_module("triton")
    except ImportError as error:
        return f"Triton cannot be imported ({_short(error)})"
    for name, trial in _TRIALS.items():
        try:
            found, expected = trial(torch.device(kind, index) if kind == "cuda" else torch.device("cpu"))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler, an assembler and a driver take part, each with its own exceptions
            return f"{name} failed with {type(error).__name__} ({_short(error)})"
        difference = float((found.float() - expected).norm() / expected.norm())
        if not difference < (1e-5 if found.dtype == torch.float32 else 2e-2):  # bfloat16 has 8e-3; NaN fails
            return f"{name} differs by {difference:.1e} from torch"
    return None


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "without a message"


def _kernels() -> Any:
    return importlib.import_module(COMPILED)


_LAUNCHING = threading.Lock()


@contextmanager
def _on(x: Tensor) -> Iterator[None]:
    """Make a tensor's GPU the current one, where Triton launches, for one thread at a time.

    Triton 3.6 loads a kernel when it is first launched; another thread that launches it meanwhile finds no function.
    """
    with _LAUNCHING, torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        yield


def _power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


def mean_and_std(rows: Tensor, begins: Tensor, ends: Tensor) -> Tensor:
    """Return mean and standard deviation (divided by n) of segments of rows.

    Args:
        rows: ``(n_rows, dim)`` float32
        begins: first row of each segment, ``(n_segments,)`` int32
        ends: row behind the last, ``(n_segments,)`` int32; no segment is empty

    Returns:
        ``(n_segments, 2, dim)`` float32
    """
    rows, dim = rows.contiguous(), rows.shape[1]
    out = rows.new_empty(len(begins), 2, dim)
    columns = 64
    with _on(rows):
        _kernels().mean_and_std[len(begins), -(-dim // columns)](
            rows, begins, ends, out, DIM=dim, ROWS=64, COLUMNS=columns, num_warps=4
        )
    return out


def add_norm(
    x: Tensor, delta: Tensor | None, norm: tuple[Tensor | None, Tensor | None, float], *, post: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Add to the residual stream and normalise the sum, as `probe.forward.stream.operators.add_norm`.

    Args:
        x: the stream, ``(n_frames, dim)`` float32
        delta: what to add, ``(n_frames, dim)``; None for nothing
        norm: weight and bias ``(dim,)`` float32 of the layer norm, None without weights, and its epsilon
        post: whether the normed sum is the new stream, else the sum itself is
        dtype: of the normed sum

    Returns:
        the new stream ``(n_frames, dim)`` float32, and the normed sum in ``dtype``
    """
    x, (weight, bias, eps) = x.contiguous(), norm
    delta = None if delta is None else delta.contiguous()
    writes_stream = post or delta is not None
    writes_normed = not (post and dtype == torch.float32)  # else they are the same
    stream = torch.empty_like(x) if writes_stream else x
    normed = torch.empty_like(x, dtype=dtype) if writes_normed else stream
    dim = x.shape[1]
    with _on(x):
        _kernels().add_and_norm[len(x),](
            x, x if delta is None else delta, x if weight is None else weight, x if bias is None else bias,
            stream, normed, eps, DIM=dim, COLUMNS=_power_of_2(dim), ADDED=delta is not None, POST=post,
            WEIGHTED=weight is not None, STREAM=writes_stream, NORMED=writes_normed, num_warps=4,
        )  # fmt: skip
    return stream, normed


def norm_gelu_windows(
    y: Tensor,
    norm: tuple[Tensor | None, Tensor | None, float] | None,
    kernel: int,
    stride: int,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Normalise, apply exact GELU and lay out windows, as `probe.forward.stream.operators.norm_gelu_windows`.

    Args:
        y: what a convolution returned, ``(n_rows, channels)``
        norm: weight and bias ``(channels,)`` float32 of a layer norm and its epsilon; None for no norm
        kernel: rows of a window of the next convolution; 1 after the last
        stride: rows between windows; 1 after the last
        dtype: of the result

    Returns:
        ``((n_rows - kernel) // stride + 1, kernel * channels)``
    """
    y, (n_rows, channels) = y.contiguous(), y.shape
    weight, bias, eps = (None, None, 0.0) if norm is None else norm
    n_windows = (n_rows - kernel) // stride + 1
    out = y.new_empty(n_windows, kernel * channels, dtype=dtype)
    rows = 8
    with _on(y):
        _kernels().norm_gelu_windows[-(-n_rows // rows),](
            y, y if weight is None else weight, y if bias is None else bias, out, n_rows, n_windows, eps,
            CHANNELS=channels, COLUMNS=_power_of_2(channels), NORM=norm is not None, WEIGHTED=weight is not None,
            KERNEL=kernel, STRIDE=stride, ROWS=rows, num_warps=4,
        )  # fmt: skip
    return out


def attends(x: Tensor, width: int) -> bool:
    """Return whether `attend_with_bias` takes queries of this precision and device, and heads of this width."""
    fits = x.dtype in (torch.bfloat16, torch.float16) and width in WIDTHS
    return fits and available(x.device)


def attend_with_bias(qkv: Tensor, blocks: Tensor, heads: int, by_distance: Tensor, gate: Tensor | None) -> Tensor:
    """Let frames attend to all of their own sequence, with a bias by the distance of query and key.

    Args:
        qkv: queries, keys and values side by side, ``(n_frames, 3 * dim)`` in 16 bits
        blocks: of each `QUERIES` queries the first frame of their sequence, the first query in it, and the number of
            its frames, ``(3, n_blocks)`` int32
        heads: their number
        by_distance: ``(heads, 2 * longest - 1)`` float32, from a key that is ``longest - 1`` frames before its query to
            one as many after it
        gate: factor of the bias for each query and head, ``(n_frames, heads)`` float32; None for 1

    Returns:
        ``(n_frames, dim)`` in the precision of ``qkv``
    """
    qkv, by_distance, blocks = qkv.contiguous(), by_distance.contiguous(), blocks.contiguous()
    gate = None if gate is None else gate.contiguous()
    n_frames, dim = len(qkv), qkv.shape[1] // 3
    out = qkv.new_empty(n_frames, dim)
    n_distances = by_distance.shape[1]
    with _on(qkv):
        _kernels().attend_with_bias[blocks.shape[1], heads](
            qkv, by_distance if gate is None else gate, by_distance, blocks, out,
            math.log2(math.e) / math.sqrt(dim // heads), n_distances // 2, n_distances, blocks.shape[1],
            HEADS=heads, WIDTH=dim // heads, QUERIES=QUERIES, KEYS=64, GATED=gate is not None,
            num_warps=4, num_stages=3,
        )  # fmt: skip
    return out


def _random(device: torch.device, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def _try_mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    x = _random(device, 70, 96)
    begins, ends = (torch.tensor(values, dtype=torch.int32, device=device) for values in ((0, 65), (65, 70)))
    parts = (x[:65], x[65:])
    expected = torch.stack([torch.stack([part.mean(0), part.std(0, correction=0)]) for part in parts])
    return mean_and_std(x, begins, ends), expected


def _try_add_norm(device: torch.device) -> tuple[Tensor, Tensor]:
    x, delta = _random(device, 3, 96), _random(device, 3, 96, seed=1).bfloat16()
    weight, bias = _random(device, 2, 96, seed=2)
    _, normed = add_norm(x, delta, (weight, bias, 1e-5), post=False, dtype=torch.bfloat16)
    return normed, functional.layer_norm(x + delta, (96,), weight, bias)


def _try_norm_gelu_windows(device: torch.device) -> tuple[Tensor, Tensor]:
    y = _random(device, 12, 96).bfloat16()
    weight, bias = _random(device, 2, 96, seed=2)
    x = functional.gelu(functional.layer_norm(y.float(), (96,), weight, bias))
    return norm_gelu_windows(y, (weight, bias, 1e-5), 3, 2, dtype=torch.bfloat16), x.unfold(0, 3, 2).mT.flatten(1)


def _try_attend_with_bias(device: torch.device) -> tuple[Tensor, Tensor]:
    n, heads, width = 70, 2, max(WIDTHS)
    qkv, gate = _random(device, n, 3 * heads * width).half(), _random(device, n, heads, seed=1)
    by_distance = _random(device, heads, 2 * n - 1, seed=2)
    blocks = torch.tensor([[0, 0], [0, QUERIES], [n, n]], dtype=torch.int32, device=device)
    distance = torch.arange(n, device=device) - torch.arange(n, device=device)[:, None] + n - 1
    q, k, v = qkv.float().view(n, 3, heads, width).permute(1, 2, 0, 3)
    mask = gate.T[:, :, None] * by_distance[:, distance]
    mixed = ((q @ k.mT / math.sqrt(width)) + mask).softmax(-1) @ v
    return attend_with_bias(qkv, blocks, heads, by_distance, gate), mixed.transpose(0, 1).flatten(1)


_TRIALS: dict[str, Callable[[torch.device], tuple[Tensor, Tensor]]] = {  # on tiny input: of the kernel, and of torch
    "mean and standard deviation": _try_mean_and_std,
    "sum and norm": _try_add_norm,
    "norm and GELU": _try_norm_gelu_windows,
    "attention with a bias": _try_attend_with_bias,
}
