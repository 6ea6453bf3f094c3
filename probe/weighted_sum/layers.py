"""All layers of an encoder in sequence, kept in memory if they are small and otherwise read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.gram import feature_shift
from layerprobe.probe.vectors import is_rounding

MEMORY = 600 * 2**20  # bytes of layers that are kept in memory
COMPACT_MEMORY = 1000 * 2**20  # the same of layers in 16 bits
BLOCK_ROWS = 2048  # that are converted at a time
READ_ROWS = 1024  # of all layers that are read at a time

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


class CompactStack(LayerStack):
    """Layers in 16 bits, in memory if they fit and otherwise read again; features in units of their deviation.

    Units are learnt from all rows and cancel in every result, up to the rounding of 16 bits (5e-4 of a value).
    """

    def __init__(
        self, read: ReadLayer, n_layers: int, rows: np.ndarray, *, memory: int = COMPACT_MEMORY, device: str = "cpu"
    ) -> None:
        """Read the first layer, whose size decides whether all layers are kept in memory."""
        self._units: dict[int, np.ndarray] = {}
        super().__init__(read, n_layers, rows, memory=memory, device=device)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the layers in order, in float32."""
        for layer in super().__iter__():
            yield layer.float()

    def unit(self, layer: int) -> np.ndarray:
        """Return what each feature was multiplied by, ``(n_features,)``; 0 where it varies by rounding alone."""
        return self._units[layer]

    def shift(self, layer: int) -> np.ndarray:
        """Return the constant that was subtracted from a layer, ``(n_features,)``, in its units."""
        return np.asarray(self._shifts[layer] * self._units[layer])

    def blocks(self) -> Iterator[tuple[np.ndarray, Iterator[Tensor]]]:
        """Yield some rows after the others, each once: rising positions among the rows, and their layers in float32.

        Rows that are near each other on disk come together, so that all blocks take one reading.
        """
        near = np.arange(len(self.rows)) if self.in_memory else np.argsort(self.rows)
        for begin in range(0, len(near), READ_ROWS):
            positions = np.sort(near[begin : begin + READ_ROWS])
            yield positions, (self._block(k, positions) for k in range(self.n_layers))

    def _block(self, k: int, positions: np.ndarray) -> Tensor:
        if self.in_memory:
            return self._layers[k][positions[0] : positions[-1] + 1].float()
        return self._compact(np.asarray(self._read(k, self.rows[positions]), dtype=np.float32), k).float()

    def some(self, positions: np.ndarray) -> CompactStack:
        """Return the layers for some of the rows, in memory."""
        part, index = CompactStack.__new__(CompactStack), torch.from_numpy(positions).to(self.device)
        part.__dict__.update(self.__dict__)
        part.rows, part.in_memory = self.rows[positions], True
        part._layers = [layer[index] for layer in super().__iter__()]
        return part

    def _load(self, k: int) -> Tensor:
        layer = np.asarray(self._read(k, self.rows), dtype=np.float32)
        blocks = [slice(begin, begin + BLOCK_ROWS) for begin in range(0, len(layer), BLOCK_ROWS)]
        if k not in self._units:
            self._shifts[k] = feature_shift(layer).astype(np.float32)
            total, square = np.zeros((2, layer.shape[1]))
            for block in blocks:
                off = layer[block] - self._shifts[k]
                total, square = total + off.sum(axis=0, dtype=np.float64), square + (off**2).sum(axis=0)
            mean = total / len(layer)
            std = np.sqrt(np.maximum(square / len(layer) - mean**2, 0))
            constant = is_rounding(std, mean + self._shifts[k], np.float32)
            self._units[k] = np.where(constant, 0.0, 1 / np.where(constant, 1.0, std)).astype(np.float32)
        return self._compact(layer, k)

    def _compact(self, layer: np.ndarray, k: int) -> Tensor:
        compact = torch.empty(layer.shape, dtype=torch.float16)
        for begin in range(0, len(layer), BLOCK_ROWS):
            block = slice(begin, begin + BLOCK_ROWS)
            compact[block] = torch.from_numpy((layer[block] - self._shifts[k]) * self._units[k])
        return compact.to(self.device)


class Observed:
    """A stack whose layers are also given to a function as they pass, so that one reading serves two purposes."""

    def __init__(self, stack: LayerStack, observe: Callable[[int, Tensor], None]) -> None:
        """Take the stack, and the function of a layer's number and rows."""
        self._stack, self._observe = stack, observe
        self.shift = stack.shift

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the layers in order."""
        for k, layer in enumerate(self._stack):
            self._observe(k, layer)
            yield layer
