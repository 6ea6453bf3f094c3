"""The largest tensor that operators return, views of others included."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """Records the number of values in the largest tensor that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.n_values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        self.n_values = max([self.n_values, *(x.numel() for x in tree_leaves(made) if isinstance(x, Tensor))])
        return made
