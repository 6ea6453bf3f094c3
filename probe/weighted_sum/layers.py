"""All layers of an encoder in sequence, kept in memory if they are small and otherwise read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.gram import feature_shift

MEMORY = 600 * 2**20  # bytes of layers that are kept in memory

# A layer's number and rows (n_rows,) -> embeddings (n_rows, n_features) float32
ReadLayer = Callable[[int, np.ndarray], np.ndarray]


class LayerStack:
    """Iterable over layers, each ``(n_rows, n_features)`` float32, less a constant that cancels in every result."""

    def __init__(
        self, read: ReadLayer, n_layers: int, rows: np.ndarray, *, memory: int = MEMORY, device: str = "cpu"
    ) -> None:
        """Read the first layer, whose size decides whether all layers are kept in memory."""
        self.n_layers, self.rows, self.device = n_layers, rows, device
        self._read = read
        self._shifts: dict[int, np.ndarray] = {}
        first = self._load(0)
        self.n_features = first.shape[1]
        self.in_memory = n_layers * first.numel() * first.element_size() <= memory
        self._layers = [first, *(self._load(k) for k in range(1, n_layers))] if self.in_memory else []

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the layers in order; if they are not in memory, the next is read while one is used."""
        if self.in_memory:
            yield from self._layers
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._load, 0)
            for k in range(self.n_layers):
                layer = coming.result()
                if k + 1 < self.n_layers:
                    coming = reader.submit(self._load, k + 1)
                yield layer

    def shift(self, layer: int) -> np.ndarray:
        """Return the constant that was subtracted from a layer, ``(n_features,)``."""
        return self._shifts[layer]

    def some(self, positions: np.ndarray) -> LayerStack:
        """Return the layers for some of the rows, in memory.

        Args:
            positions: ``(n_rows,)`` positions among the rows of this stack
        """
        part = LayerStack.__new__(LayerStack)
        part.n_layers, part.n_features, part.rows, part.device = (
            self.n_layers,
            self.n_features,
            self.rows[positions],
            self.device,
        )
        part._read, part._shifts, part.in_memory = self._read, self._shifts, True
        index = torch.from_numpy(positions).to(self.device)
        part._layers = [layer[index] for layer in self]
        return part

    def first(self, n_layers: int) -> LayerStack:
        """Return the lowest ``n_layers`` layers."""
        part = LayerStack.__new__(LayerStack)
        part.__dict__.update(self.__dict__)
        part.n_layers, part._layers = n_layers, self._layers[:n_layers]
        return part

    def _load(self, k: int) -> Tensor:
        layer = np.asarray(self._read(k, self.rows), dtype=np.float32)
        if k not in self._shifts:
            self._shifts[k] = feature_shift(layer).astype(np.float32)
        return torch.from_numpy(layer - self._shifts[k]).to(self.device)
