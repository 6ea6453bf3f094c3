"""Embeddings as an xarray.DataArray whose values are read when they are used (needs ``xarray``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerprobe.probe.exceptions import InputError

if TYPE_CHECKING:
    import xarray

ReadLayer = Callable[[str, np.ndarray], np.ndarray]  # a layer's name, rows (n_rows,) -> (n_rows, n_poolings * dim)


def labelled_array(
    read_layer: ReadLayer,
    *,
    utterance_ids: np.ndarray,
    of_rows: dict[str, np.ndarray],
    layers: Sequence[str],
    poolings: Sequence[str],
    dim: int,
    attributes: dict[str, str],
) -> xarray.DataArray:
    """Return embeddings as an array with labelled dimensions, ``(utterance_id, layer, pooling, feature)`` float32.

    Args:
        read_layer: reads rows of a layer, all poolings side by side; rows are given once each
        utterance_ids: ``(n_utterances,)``
        of_rows: coordinates with a value for each utterance, ``(n_utterances,)``, by name
        layers: names of the layers
        poolings: names of the poolings
        dim: number of features of one pooling of one layer
        attributes: of the array

    Raises:
        InputError: if xarray is not installed
    """
    try:
        import xarray
        from xarray.backends import BackendArray
        from xarray.core import indexing
    except ImportError as error:
        raise InputError(
            "LP436",
            "Cache.to_xarray needs the package xarray: pip install 'layerprobe[xarray]'. Cache.read_layer and "
            "Cache.frame do without.",
        ) from error

    class Embeddings(BackendArray):
        """Embeddings as xarray's lazy indexing takes them."""

        shape = (len(utterance_ids), len(layers), len(poolings), dim)
        dtype = np.dtype(np.float32)

        def __getitem__(self, key: Any) -> Any:
            outer = indexing.IndexingSupport.OUTER
            return indexing.explicit_indexing_adapter(key, self.shape, outer, self._read)

        def _read(self, key: tuple[Any, ...]) -> np.ndarray:
            return read_part(read_layer, layers, self.shape, key)

    dims = ("utterance_id", "layer", "pooling", "feature")
    return xarray.DataArray(
        xarray.Variable(dims, indexing.LazilyIndexedArray(Embeddings())),
        coords={
            "utterance_id": utterance_ids,
            "layer": list(layers),
            "pooling": list(poolings),
            **{name: ("utterance_id", values) for name, values in of_rows.items()},
        },
        name="embeddings",
        attrs=attributes,
    )


def read_part(read_layer: ReadLayer, layers: Sequence[str], shape: tuple[int, ...], key: tuple[Any, ...]) -> np.ndarray:
    """Read a part of the embeddings, and no layer outside of it.

    Args:
        read_layer: reads rows of a layer, all poolings side by side; rows are given once each
        layers: names of the layers
        shape: of all embeddings, ``(n_utterances, n_layers, n_poolings, dim)``
        key: an integer, a slice or an array of numbers for each dimension; arrays select along their own dimension
    """
    rows, chosen, poolings, features = (
        np.atleast_1d(np.arange(size)[part]) for size, part in zip(shape, key, strict=True)
    )
    needed, position = np.unique(rows, return_inverse=True)
    values = np.empty((len(rows), len(chosen), len(poolings), len(features)), dtype=np.float32)
    for k, layer in enumerate(chosen):
        embeddings = read_layer(layers[layer], needed).reshape(len(needed), *shape[2:])
        values[:, k] = embeddings[position][:, poolings][:, :, features]
    scalars = tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in key)
    return np.asarray(values[scalars])
