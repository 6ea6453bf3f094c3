"""Weights at aligned addresses in memory, so that no bit of a product follows where in a file they lie.

A file of safetensors is mapped into memory, and its tensors begin wherever its header ends. Matrix libraries add in
another order where an operand is not aligned to the width of their registers (of AVX-512, 64 bytes: oneMKL does so in
products of one row or one column), so that the same weights in another file would give other last bits.
"""

from __future__ import annotations

from torch import nn

ALIGNMENT = 64  # bytes, to which torch aligns the memory that it allocates


def align_weights(model: nn.Module) -> None:
    """Copy the tensors of a model on the CPU in place, if one of them begins at another address than a multiple of 64.

    All are copied then, so that no file stays mapped.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT for tensor in tensors):
        for tensor in tensors:
            tensor.data = tensor.data.clone()
