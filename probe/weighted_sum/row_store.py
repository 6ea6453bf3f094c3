"""All layers of an encoder by rows, in one scale, so that mini-batches of utterances are gathered at once."""

from __future__ import annotations

import torch
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.weighted_sum.layers import COMPACT_MEMORY, MEMORY, LayerStack, Observed, ReadLayer
from layerprobe.probe.weighted_sum.scaling import Scaling

LEVELS = 127  # of an 8-bit value, on either side of 0
CONVERTED_ROWS = 2048  # at a time


class RowStore:
    """Rows of all layers, ``(n_rows, n_layers, n_features)``, in 32, 16 or 8 bits, the fewer the larger they are.

    The number of bits depends on their size alone, so results are the same on every machine. In 8 bits each layer and
    feature has steps of its largest absolute value over 127.
    """

    def __init__(
        self, read: ReadLayer, n_layers: int, sets: TrainingSets, *, memory: float, device: str = "cpu"
    ) -> None:
        """Read the layers once.

        Args:
            read: returns rows of a layer, ``(n_rows, n_features)``
            n_layers: number of layers of the encoder
            sets: training sets, whose order the rows have
            memory: bytes that the rows may take
            device: the torch device

        Raises:
            InputError: if they do not fit in ``memory``
        """
        stack = LayerStack(read, n_layers, sets.order, memory=MEMORY, device=device)
        self.sets, self.device, self.n_layers, self.n_features = sets, device, n_layers, stack.n_features
        n_values = n_layers * len(sets.order) * self.n_features
        compact = torch.float16 if 2 * n_values <= COMPACT_MEMORY else torch.int8
        dtype = torch.float32 if stack.in_memory else compact
        if (size := n_values * dtype.itemsize) > memory:
            raise InputError(
                "LP564",
                f"Gradient descent keeps all layers in memory, {size / 2**30:.1f} GiB, and "
                f"{memory / 2**30:.1f} GiB are available. Leave that weighted sum out.",
            )
        self._rows = torch.empty(
            (len(sets.order), n_layers, self.n_features),
            dtype=dtype,
            device=device,
        )
        self._steps = torch.ones(n_layers, self.n_features, device=device)
        self._found = torch.empty(0, n_layers, self.n_features, device=device)
        scaling = Scaling.learn(Observed(stack, self._keep), sets, standardise=False)
        self.norms = scaling.norm.cpu()  # (n_sets, n_layers)
        self.scales = scaling.scale.amax(dim=(1, 2))  # (n_sets,)
        self.means = scaling.mean  # (n_sets, n_layers, n_features)

    def rows(self, positions: Tensor) -> Tensor:
        """Return some rows, ``(n_rows, n_layers, n_features)`` float32, which the next call may overwrite."""
        if self._rows.dtype == torch.float32:
            return self._rows.index_select(0, positions.to(self.device))
        if len(self._found) < len(positions):  # memory that is always new takes longer than the conversion
            self._found = torch.empty(len(positions), self.n_layers, self.n_features, device=self.device)
        found = self._found[: len(positions)]
        return found.copy_(self._rows.index_select(0, positions.to(self.device))).mul_(self._steps)

    def _keep(self, k: int, layer: Tensor) -> None:
        """Store a layer in steps that make the most of its bits."""
        if self._rows.dtype != torch.float32:
            largest = torch.maximum(layer.amax(dim=0), -layer.amin(dim=0))
            limit = LEVELS if self._rows.dtype == torch.int8 else 1
            self._steps[k] = torch.where(largest > 0, largest / limit, 1.0)
        for begin in range(0, len(layer), CONVERTED_ROWS):
            values = layer[begin : begin + CONVERTED_ROWS] / self._steps[k]
            if self._rows.dtype == torch.int8:
                values = values.round()
            self._rows[begin : begin + CONVERTED_ROWS, k] = values.to(self._rows.dtype)
