"""A device ``cuda`` without a GPU: its tensors hold their values on the CPU and refuse what those of a GPU refuse.

A GPU refuses operands on different devices, other than scalars and indices, and conversion to numpy. Code that runs
here has each tensor on the right device; its speed and the GPU's own rounding stay unknown.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
FREE = 8 * 2**30  # bytes
MOVES = ("_to_copy", "copy_", "to")  # in inference mode operators are not decomposed, so "to" is one
READS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero")  # of values, for which the host waits
INDEXED = ("index", "index_put_", "_index_put_impl_")  # on a GPU, by indices that may be on the CPU


class OnGpu(Tensor):
    """A tensor that states a GPU as its device; its ``values`` are on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnGpu:
        made = Tensor._make_wrapper_subclass(cls, values.shape, strides=values.stride(), dtype=values.dtype, device=GPU)
        made.values = values
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, __: Any = (), ___: Any = None) -> Any:
        raise RuntimeError(f"{func} was called outside of pretended_gpu, or in another thread")


def _check_device(func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
    """Refuse operands on both devices, but for numbers, and for indices on the CPU of a tensor on the GPU."""
    operands = tensors
    if name in INDEXED and isinstance(args[0], OnGpu):
        operands = [x for x in (args[0], *args[2:]) if isinstance(x, Tensor)]
    if {isinstance(x, OnGpu) for x in operands if x.ndim or isinstance(x, OnGpu)} == {True, False}:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found cuda:0 and cpu")


class PretendedGpu(TorchDispatchMode):
    """Runs every operator on the CPU, and counts how often the host waits for the device.

    It waits where it reads values, and where it sends some that are not in pinned memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._pinned: list[Tensor] = []

    def _pin(self, values: Tensor) -> Tensor:
        self._pinned.append(values)
        return values

    def _is_pageable(self, values: Tensor) -> bool:
        address = values.untyped_storage().data_ptr()
        return values.ndim > 0 and address not in {one.untyped_storage().data_ptr() for one in self._pinned}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name.split("::")[1]
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, OnGpu)]
        if name in ("pin_memory", "_pin_memory"):
            if there:
                raise RuntimeError(f"{func}: only tensors of the CPU can be pinned")
            return self._pin(args[0].clone())
        pins = kwargs.pop("pin_memory", None)
        if name not in MOVES:
            _check_device(func, name, args, tensors)
        if name == "copy_":
            on_gpu = isinstance(args[0], OnGpu)
        elif kwargs.get("device") is not None:
            on_gpu = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = torch.device("cpu")
        elif named := [x for x in args if isinstance(x, torch.device)]:
            on_gpu = named[0].type == "cuda"
            args = tree_map_only(torch.device, lambda _: torch.device("cpu"), args)
        else:
            on_gpu = bool(there)
        if there and (name in READS or (name in MOVES and not on_gpu)):
            self.waits[name] += 1
        if name in MOVES and on_gpu and any(self._is_pageable(x) for x in tensors if not isinstance(x, OnGpu)):
            self.waits["copy of pageable memory"] += 1
        if isinstance(kwargs.get("generator"), torch.Generator) and on_gpu:
            raise RuntimeError(f"{func}: expected a generator of cuda, but found one of cpu")
        args, kwargs = tree_map_only(OnGpu, lambda x: x.values, (args, kwargs))
        found = func(*args, **kwargs)
        if not on_gpu:
            return self._pin(found) if pins else found
        known = {id(x.values): x for x in there}
        return tree_map_only(Tensor, lambda x: known[id(x)] if id(x) in known else OnGpu(x), found)


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """Make ``cuda`` such a device in this thread, and yield what counts its waits."""
    torch._C._ensureCUDADeviceGuardSet()
    lifts = torch._C._only_lift_cpu_tensors()
    with contextlib.ExitStack() as stack:
        overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a module's .to makes parameters anew
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.enter_context(mock.patch("torch.cuda._lazy_init"))
        for name, value in (("is_available", True), ("device_count", 1), ("mem_get_info", (FREE, FREE))):
            stack.enter_context(mock.patch(f"torch.cuda.{name}", return_value=value))
        yield stack.enter_context(PretendedGpu())
