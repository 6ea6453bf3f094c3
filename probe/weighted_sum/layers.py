"""All layers of an encoder in turn, for probes over the whole of it: held where they are small, else read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.gram import shift_of

HOLD = 600 * 2**20  # bytes of layers that are kept in memory

# A layer's number and rows (n_rows,) -> embeddings (n_rows, n_features) float32
ReadLayer = Callable[[int, np.ndarray], np.ndarray]


class LayerStack:
    """Iterates over layers, each ``(n_rows, n_features)`` float32, less a constant that drops out of every result."""

    def __init__(
        self, read: ReadLayer, n_layers: int, rows: np.ndarray, *, hold: int = HOLD, device: str = "cpu"
    ) -> None:
        """Read the first layer, by whose size it is settled whether all are held."""
        self.n_layers, self.rows, self.device = n_layers, rows, device
        self._read = read
        self._shifts: dict[int, np.ndarray] = {}
        first = self._load(0)
        self.n_features = first.shape[1]
        self.is_held = n_layers * first.numel() * first.element_size() <= hold
        self._held = [first, *(self._load(k) for k in range(1, n_layers))] if self.is_held else []

    def __iter__(self) -> Iterator[Tensor]:
        """Layers in order; where they are not held, the next is read while one is worked on."""
        if self.is_held:
            yield from self._held
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._load, 0)
            for k in range(self.n_layers):
                layer = coming.result()
                if k + 1 < self.n_layers:
                    coming = reader.submit(self._load, k + 1)
                yield layer

    def shift(self, layer: int) -> np.ndarray:
        """What was taken off, ``(n_features,)``."""
        return self._shifts[layer]

    def some(self, places: np.ndarray) -> LayerStack:
        """The same layers for some of the rows, held.

        Args:
            places: ``(n_rows,)`` numbers into the rows of this stack
        """
        part = LayerStack.__new__(LayerStack)
        part.n_layers, part.n_features, part.rows, part.device = (
            self.n_layers,
            self.n_features,
            self.rows[places],
            self.device,
        )
        part._read, part._shifts, part.is_held = self._read, self._shifts, True
        index = torch.from_numpy(places).to(self.device)
        part._held = [layer[index] for layer in self]
        return part

    def first(self, n_layers: int) -> LayerStack:
        """The lowest layers alone."""
        part = LayerStack.__new__(LayerStack)
        part.__dict__.update(self.__dict__)
        part.n_layers, part._held = n_layers, self._held[:n_layers]
        return part

    def _load(self, k: int) -> Tensor:
        layer = np.asarray(self._read(k, self.rows), dtype=np.float32)
        if k not in self._shifts:
            self._shifts[k] = shift_of(layer).astype(np.float32)
        return torch.from_numpy(layer - self._shifts[k]).to(self.device)
