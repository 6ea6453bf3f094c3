"""Group norm of a padded batch whose statistics leave the padding out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from layerprobe.probe.forward.stream.index_arrays import uploaded


class OwnStatistics(TorchFunctionMode):
    """Within it, in this thread alone, the first group norm counts the rows of each input and no padding.

    Only a group norm with one group for each channel is replaced, and only on inputs of the padded number of rows: that
    of the first convolution in base models of wav2vec 2.0's kind. The model is not changed.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        """Take the number of rows of each input in the batch; the longest has no padding."""
        super().__init__()
        self._rows = rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, or what stands in for it."""
        called = self._group_norm if func is functional.group_norm else func
        return called(*args, **(kwargs or {}))

    def _group_norm(
        self,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        is_padded = input.ndim == 3 and input.shape == (len(self._rows), num_groups, max(self._rows))
        if not is_padded or weight is None or bias is None:
            return functional.group_norm(input, num_groups, weight, bias, eps)
        return masked_group_norm(input, self._rows, weight, bias, eps=eps)


def masked_group_norm(x: Tensor, rows: Sequence[int], weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    """Normalise each channel of each input by the mean and the variance of its own rows.

    Args:
        x: ``(n_inputs, n_channels, n_rows)`` float32
        rows: of each input, ``1 <= rows <= n_rows``; those beyond are padding
        weight: ``(n_channels,)``
        bias: ``(n_channels,)``
        eps: added to the variance

    Returns:
        the same shape; rows of padding are finite and mean nothing
    """
    n = uploaded(np.asarray(rows), device=str(x.device))[:, None, None]
    counted = torch.arange(x.shape[-1], device=x.device) < n
    mean = (x * counted).sum(dim=-1, keepdim=True) / n
    centred = (x - mean).mul_(counted)
    variance = centred.square().sum(dim=-1, keepdim=True) / n
    scale = weight[:, None] * torch.rsqrt(variance + eps)
    return centred.mul_(scale).add_(bias[:, None])
