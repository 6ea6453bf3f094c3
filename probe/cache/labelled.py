"""A cache as an xarray.DataArray whose values are read when they are used (needs ``xarray``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerprobe.probe.exceptions import InputError

if TYPE_CHECKING:
    import xarray

    from layerprobe.probe.cache.store import Cache


def labelled_array(cache: Cache) -> xarray.DataArray:
    """Return a cache's embeddings as an array with labelled dimensions.

    Raises:
        InputError: if xarray is not installed
    """
    try:
        import xarray
        from xarray.backends import BackendArray
        from xarray.core import indexing
    except ImportError as error:
        raise InputError(
            "Cache.to_xarray needs the package xarray: pip install 'layerprobe[xarray]'. Cache.read_layer and "
            "Cache.frame do without."
        ) from error

    class Embeddings(BackendArray):
        """Embeddings of a cache as xarray's lazy indexing takes them."""

        shape = (cache.n_utterances, len(cache.layers), len(cache.poolings), cache.dim)
        dtype = np.dtype(np.float32)

        def __getitem__(self, key: Any) -> Any:
            support = indexing.IndexingSupport.OUTER
            return indexing.explicit_indexing_adapter(key, self.shape, support, lambda part: read_part(cache, part))

    values = indexing.LazilyIndexedArray(Embeddings())
    dims = ("utterance_id", "layer", "pooling", "feature")
    return xarray.DataArray(
        xarray.Variable(dims, values),  # type: ignore[no-untyped-call]
        coords={
            "utterance_id": cache.utterance_ids,
            "layer": list(cache.layers),
            "pooling": list(cache.poolings),
            "audio_hash": ("utterance_id", cache.audio_hashes),
        },
        name="embeddings",
        attrs={"encoder": cache.plan.upstream, "fingerprint": cache.plan.fingerprint()},
    )


def read_part(cache: Cache, key: tuple[Any, ...]) -> np.ndarray:
    """Read a part of the embeddings.

    Args:
        cache: the cache
        key: an integer, a slice or an array of numbers for each of utterance, layer, pooling and feature; arrays
            select along their own dimension
    """
    sizes = (cache.n_utterances, len(cache.layers), len(cache.poolings), cache.dim)
    rows, layers, poolings, features = (
        np.atleast_1d(np.arange(size)[part]) for size, part in zip(sizes, key, strict=True)
    )
    needed, position = np.unique(rows, return_inverse=True)
    values = np.empty((len(rows), len(layers), len(poolings), len(features)), dtype=np.float32)
    for k, layer in enumerate(layers):
        one = cache.read_layer(cache.layers[layer], needed).reshape(len(needed), *sizes[2:])
        values[:, k] = one[position][:, poolings][:, :, features]
    scalars = tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in key)
    return values[scalars]
