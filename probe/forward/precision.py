"""Precision of matrix products and convolutions, and which utterances run together: what ``auto`` means on a device."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from layerprobe.probe.exceptions import InputError

# Of the numbers that are multiplied. TF32 keeps float32's numbers and rounds them to 10 bits inside a product.
PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
T = TypeVar("T")
AUTO = "auto"
FORWARDS = (AUTO, "single", "packed")  # which utterances run together; auto packs them on a GPU

_REDUCTIONS = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")


def precision_for(precision: str, *, device: str, known: bool) -> str:
    """Return the precision of matrix products, with ``auto`` resolved.

    ``auto`` is 16 bits where the hardware multiplies them, in known architectures, and float32 elsewhere.

    Raises:
        InputError: if it is unknown, or not available on that device
    """
    if precision not in (AUTO, *PRECISIONS):
        raise InputError(
            "LP340", f"precision {precision!r} is unknown; choose one of {', '.join((AUTO, *PRECISIONS))}."
        )
    on_gpu = device.startswith("cuda")
    if precision == "float16" and not on_gpu:
        raise InputError("LP341", "float16 is for GPUs. On the CPU use bfloat16 or float32.")
    if precision == "tf32" and not on_gpu:
        raise InputError("LP341", "tf32 is for GPUs. On the CPU use float32.")
    if precision != AUTO:
        return precision
    if not known:
        return "float32"
    if on_gpu:
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.cpu.get_capabilities().get("amx_bf16", False) else "float32"


def is_packed(forward: str, *, device: str) -> bool:
    """Return whether utterances run together, with ``auto`` resolved: on a GPU of CUDA.

    On other devices the packed passes have not been tried, and some lack the float64 that group norm is folded in.

    Raises:
        InputError: if ``forward`` is unknown
    """
    if forward not in FORWARDS:
        raise InputError("LP340", f"forward pass {forward!r} is unknown; choose one of {', '.join(FORWARDS)}.")
    return forward == "packed" or (forward == AUTO and device.startswith("cuda"))


@contextmanager
def multiplying_in(precision: str) -> Iterator[None]:
    """Set how torch multiplies float32 numbers to what a precision means, whatever a user chose, and restore that.

    In ``float32`` no product and no convolution rounds its inputs: on a GPU cuDNN's convolutions do by torch's default,
    and products after ``torch.set_float32_matmul_precision("high")``. In ``tf32`` both do. In 16 bits the convolutions
    that are left in float32 do, which is no less exact than 16-bit products, whose sums are in float32.

    Torch's switches hold for the whole process. So threads that multiply in the same way do so together, and a thread
    that multiplies in another way waits until none of them is inside, for as long as they run if there is always one.
    Hold them for one forward pass, never while a generator is suspended. Products of a user's own in other threads
    meanwhile follow them, too. A forked process begins without the threads of its parent.

    Args:
        precision: a key of `PRECISIONS`

    Raises:
        RuntimeError: if this thread multiplies in another way already, for which it would wait for itself
    """
    switches = _switches_for(precision)
    _SWITCHES.enter(switches)
    try:
        yield
    finally:
        _SWITCHES.leave()


def steps_in(precision: str, steps: Iterator[T]) -> Iterator[T]:
    """Yield what ``steps`` does, each computed by `multiplying_in` that precision."""
    while True:
        with multiplying_in(precision):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step


@functools.cache
def _switches_for(precision: str) -> dict[str, str]:
    """Return the values of torch's switches, those of `_read`."""
    products = "tf32" if precision == "tf32" else "ieee"
    convolutions = "ieee" if precision == "float32" else "tf32"
    return {"cuda.matmul": products, "cudnn.conv": convolutions, "mkldnn.matmul": "ieee", "mkldnn.conv": "ieee"}


@functools.cache
def _backends() -> dict[str, Any]:
    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return dict(zip(_switches_for("float32"), parts, strict=True))


class _ProcessSwitches:
    """Torch's switches, set by the first thread that needs them and restored by the last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._now: dict[str, str] = {}
        self._before: dict[str, str] = {}
        self._reductions: dict[str, tuple[bool, bool]] = {}
        self._mine = threading.local()

    def enter(self, switches: dict[str, str]) -> None:
        depth = getattr(self._mine, "depth", 0)
        with self._changed:
            if depth and self._now != switches:
                raise RuntimeError("this thread multiplies in another precision already")
            self._changed.wait_for(lambda: self._inside == 0 or self._now == switches)
            if self._inside == 0:
                self._set(switches)
            self._inside += 1
        self._mine.depth = depth + 1

    def leave(self) -> None:
        self._mine.depth -= 1
        with self._changed:
            self._inside -= 1
            if self._inside == 0:
                self._restore()
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Keep other threads from changing the switches while the process is copied."""
        self._changed.acquire()

    def after_fork_in_parent(self) -> None:
        """Let them change the switches again."""
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Forget the other threads, which a forked process does not have and would wait for."""
        self._changed = threading.Condition()
        was_inside, self._inside = self._inside, getattr(self._mine, "depth", 0)
        if was_inside and not self._inside:
            self._restore()

    def _set(self, switches: dict[str, str]) -> None:
        matmul: Any = torch.backends.cuda.matmul
        parts = _backends()
        # the switches that torch's kernels read; those of before 2.9 set these, and are not needed
        self._before = {name: part.fp32_precision for name, part in parts.items()}
        self._reductions = {name: (getattr(matmul, name), getattr(matmul, f"{name}_split_k")) for name in _REDUCTIONS}
        self._now = switches
        for name, part in parts.items():
            part.fp32_precision = switches[name]
        for name, (_, split) in self._reductions.items():
            setattr(matmul, name, (False, split))  # parts of a sum of 16-bit products are added in float32

    def _restore(self) -> None:
        for name, part in _backends().items():
            part.fp32_precision = self._before[name]
        for name, values in self._reductions.items():
            setattr(torch.backends.cuda.matmul, name, values)


_SWITCHES = _ProcessSwitches()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(
        before=_SWITCHES.before_fork,
        after_in_parent=_SWITCHES.after_fork_in_parent,
        after_in_child=_SWITCHES.after_fork_in_child,
    )
