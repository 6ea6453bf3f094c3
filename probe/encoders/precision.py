"""Precision of matrix products, and which utterances run together: what ``auto`` means on a device."""

from __future__ import annotations

import torch

from layerprobe.probe.exceptions import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
FORWARDS = (AUTO, "single", "packed")  # which utterances run together; auto packs them on a GPU


def precision_for(precision: str, *, device: str, known: bool) -> str:
    """Return the precision of matrix products, with ``auto`` resolved.

    ``auto`` is 16 bits where the hardware multiplies them, in known architectures, and float32 elsewhere.

    Raises:
        InputError: if it is unknown, or not available on that device
    """
    if precision not in (AUTO, *PRECISIONS):
        raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join((AUTO, *PRECISIONS))}.")
    on_gpu = device.startswith("cuda")
    if precision == "float16" and not on_gpu:
        raise InputError("float16 is for GPUs. On the CPU use bfloat16 or float32.")
    if precision != AUTO:
        return precision
    if not known:
        return "float32"
    if on_gpu:
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.cpu.get_capabilities().get("amx_bf16", False) else "float32"


def is_packed(forward: str, *, device: str) -> bool:
    """Return whether utterances run together, with ``auto`` resolved: on a GPU.

    Raises:
        InputError: if ``forward`` is unknown
    """
    if forward not in FORWARDS:
        raise InputError(f"forward pass {forward!r} is unknown; choose one of {', '.join(FORWARDS)}.")
    return forward == "packed" or (forward == AUTO and device != "cpu")
