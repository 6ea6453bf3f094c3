"""Reading a cache of pooled embeddings: by layer and pooling, as numpy, pandas or xarray.

`probe.cache.layout` describes the files. Rows that the journal does not name, and rows that were removed, are never
read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr

from layerprobe.probe.cache.generation import CacheChangedError, Generation, check_generation, stable_generation
from layerprobe.probe.cache.journal import CacheDamagedError, n_complete_rows, read_journal
from layerprobe.probe.cache.labelled import labelled_array
from layerprobe.probe.cache.layout import (
    ADVICE,
    BLOCK,
    CacheMismatchError,
    block_file,
    check_digests,
    open_array,
    open_group,
    read_array,
    read_encoder_folder,
    read_plan,
    read_quarantine,
    row_arrays,
    utterance_names,
)
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import SPAN_ARRAYS, Spans, in_whole_utterances
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import connect
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.identities import normalise_name
from layerprobe.probe.layer_names import describe_layers, resolve_layer

if TYPE_CHECKING:
    import xarray

__all__ = ["BLOCK", "Cache", "CacheChangedError", "CacheMismatchError", "block_file", "open_cache", "read_quarantine"]

READ_AT_ONCE = 16 * BLOCK  # rows


@dataclass(frozen=True, eq=False)
class Cache:
    """A cache opened for reading: pooled embeddings ``(n_utterances, n_layers, n_poolings, dim)`` and their plan.

    Rows of unfinished blocks and removed rows are left out everywhere but in ``n_rows``. In a span cache each row, and
    what is called an utterance here, is a span of one; utterances of which a span is missing are left out.
    """

    path: Path
    plan: ExtractionPlan
    utterance_ids: np.ndarray  # (n_utterances,) str
    audio_hashes: np.ndarray  # (n_utterances,) str, hash and span of the input
    quarantine: pd.DataFrame  # utterance_id, path, reason
    array_rows: np.ndarray  # (n_utterances,) row of each utterance in the arrays on disk, ascending
    n_rows: int  # rows on disk, including removed ones
    generation: Generation  # at opening; the places of rows are right as long as the cache has it
    _embeddings: zarr.Array[Any] = field(repr=False)
    encoder_folder: str = ""  # absolute path that a local encoder was loaded from
    spans: Spans | None = None  # of each row; None where the rows are whole utterances

    @property
    def n_utterances(self) -> int:
        """Number of utterances that can be read."""
        return len(self.utterance_ids)

    @property
    def contents(self) -> dict[str, str]:
        """Utterances that are cached, each with the hash of the input of its row or of its spans' rows."""
        names = self.utterance_ids if self.spans is None else self.spans.parent
        return dict(zip(map(str, names), map(str, self.audio_hashes), strict=True))

    @property
    def n_removed(self) -> int:
        """Number of rows on disk whose utterance was removed; ``layerprobe cache compact`` frees their space."""
        return self.n_rows - self.n_utterances

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, ``"0"``, ``"1"``, … and ``"final"``, or of acoustic features."""
        return self.plan.layers

    @property
    def poolings(self) -> tuple[str, ...]:
        """Names of the poolings, such as ``("mean", "std")``."""
        return self.plan.poolings

    @property
    def dim(self) -> int:
        """Number of features of one pooling of one layer."""
        return int(self._embeddings.shape[-1])

    @property
    def values_per_utterance(self) -> int:
        """Number of values of an utterance: layers times poolings times dim."""
        return int(np.prod(self._embeddings.shape[1:]))

    def rows_fingerprint(self, utterance_ids: Collection[str] | None = None) -> str:
        """Return the fingerprint of utterances and the hashes of the inputs that their rows were made from.

        Args:
            utterance_ids: those that count, in any order; None for all. One that the cache lacks changes the
                fingerprint.
        """
        hashes = dict(zip(map(str, self.utterance_ids), self.audio_hashes, strict=True))
        names = hashes if utterance_ids is None else map(str, utterance_ids)
        return combined_fingerprint(*sorted(f"{name} {hashes.get(name, '')}" for name in names))

    def __len__(self) -> int:
        """Return the number of utterances."""
        return self.n_utterances

    def read_layer(self, layer: str | int, rows: np.ndarray | None = None, *, pooling: str | None = None) -> np.ndarray:
        """Read one layer of all utterances, or of some.

        Args:
            layer: its name, ``"5"`` or ``"final"``, or its number, counted from 0
            rows: ``(n_rows,)`` row numbers without repetition, in the order of the result; None for all. No more is
                held in memory than the result and what is read at once.
            pooling: the one to read; None for all side by side, in the order of ``poolings``

        Returns:
            ``(n_rows, dim)`` float32 for one pooling, ``(n_rows, n_poolings * dim)`` for all

        Raises:
            InputError: if there is no such layer or pooling
            CacheChangedError: if rows were changed or moved since the cache was opened
            CacheDamagedError: if a chunk is missing or its checksum does not match
        """
        index, poolings = self._layer_index(layer), self._pooling_slice(pooling)
        rows = np.arange(self.n_utterances) if rows is None else rows
        try:
            embeddings = self._read(index, poolings, rows)
        finally:  # rows that are being changed may look damaged
            check_generation(self.path, self.generation)
        return embeddings

    def _read(self, index: int, poolings: slice, rows: np.ndarray) -> np.ndarray:
        n = int(self.array_rows[-1]) + 1 if self.n_utterances else 0
        target = np.full(n, -1)  # of each row on disk its row in the result
        target[self.array_rows[rows]] = np.arange(len(rows))
        n_poolings = len(range(len(self.poolings))[poolings])
        layer_embeddings = np.empty((len(rows), n_poolings * self.dim), dtype=np.float32)
        for begin in range(0, n, READ_AT_ONCE):
            wanted = target[begin : begin + READ_AT_ONCE]
            if (wanted >= 0).any():
                first, last = np.flatnonzero(wanted >= 0)[[0, -1]]
                wanted, part = wanted[first : last + 1], slice(begin + int(first), begin + int(last) + 1)
                read = wanted >= 0
                values = read_array(self.path, self._embeddings, part, index, poolings, first=part.start, rows=read)
                layer_embeddings[wanted[read]] = values.reshape(len(values), -1)[read]
        return layer_embeddings

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Read all layers of some utterances, ``(n_rows, n_layers, n_poolings, dim)`` float32.

        Args:
            rows: ``(n_rows,)`` row numbers without repetition

        Raises:
            CacheDamagedError: if a chunk is missing or its checksum does not match
        """
        layers = [self.read_layer(name, rows) for name in self.layers]
        return np.stack(layers, axis=1).reshape(len(rows), len(layers), len(self.poolings), -1)

    def frame(self, layer: str | int, pooling: str | None = None) -> pd.DataFrame:
        """Read one layer as a table with a row per utterance.

        Args:
            layer: its name or number, as for `read_layer`
            pooling: the one to read; None for all

        Returns:
            float32, indexed by ``utterance_id``; columns are ``0`` … ``dim - 1`` for one pooling, and ``mean_0``,
            ``mean_1``, …, ``std_0``, … for all. The index of spans also has their parent, start, end, label and
            duration.

        Raises:
            InputError: if there is no such layer or pooling
            CacheDamagedError: if a chunk is missing or its checksum does not match
        """
        values = self.read_layer(layer, pooling=pooling)
        names: list[Any] = list(range(self.dim))
        columns = names if pooling is not None else [f"{name}_{k}" for name in self.poolings for k in names]
        index = pd.Index(self.utterance_ids, name="utterance_id")
        if self.spans is not None:
            columns_of_spans = self.spans.frame()
            columns_of_spans.insert(0, "utterance_id", self.utterance_ids)
            index = pd.MultiIndex.from_frame(columns_of_spans)
        return pd.DataFrame(values, index=index, columns=columns)

    def to_xarray(self) -> xarray.DataArray:
        """Return the embeddings as an array with labelled dimensions, read when they are used.

        Returns:
            float32 ``(utterance_id, layer, pooling, feature)`` with coordinates ``utterance_id``, ``layer``,
            ``pooling`` and ``audio_hash``, of spans also ``parent``, ``start``, ``end``, ``label`` and ``duration``; a
            selection reads only the layers and rows that it needs

        Raises:
            InputError: if xarray is not installed
        """
        return labelled_array(
            self.read_layer,
            utterance_ids=self.utterance_ids,
            of_rows={"audio_hash": self.audio_hashes, **_columns(self.spans)},
            layers=self.layers,
            poolings=self.poolings,
            dim=self.dim,
            attributes={"encoder": self.plan.upstream, "fingerprint": self.plan.fingerprint()},
        )

    def __repr__(self) -> str:
        """Return what the cache holds, in one line."""
        facts = [f"{name} {value}" if name in ("dim", "fingerprint") else value for name, value in self._facts()]
        return f"<Cache {str(self.path)!r}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        """Return what the cache holds as a table, for notebooks."""
        facts = [("cache", str(self.path)), *self._facts()]
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in facts
        )
        return f"<table>{rows}</table>"

    def _facts(self) -> list[tuple[str, str]]:
        of_spans = "utterances" if self.spans is None else f"spans of {self.spans.n_parents} utterances"
        removed = f" ({self.n_removed} removed rows on disk)" if self.n_removed else ""
        size = self.n_rows * self.values_per_utterance * self._embeddings.dtype.itemsize
        kind = "layers" if self.plan.is_stack else "features"
        return [
            ("encoder", self.plan.upstream + ("" if self.plan.random_init is None else ", random weights")),
            ("utterances", f"{self.n_utterances} {of_spans}{removed}"),
            (kind, f"{len(self.layers)} {kind} ({describe_layers(self.layers)})"),
            ("poolings", " and ".join(self.poolings) + " pooling"),
            ("dim", str(self.dim)),
            ("stored as", f"{self.plan.storage_dtype}, {size / 1e6:.1f} MB"),
            ("fingerprint", self.plan.fingerprint()),
        ]

    def _layer_index(self, layer: str | int) -> int:
        try:
            return self.layers.index(resolve_layer(layer, self.layers))
        except ValueError as error:
            raise InputError("LP345", f"{self.path} has {error}.") from error

    def _pooling_slice(self, pooling: str | None) -> slice:
        if pooling is None:
            return slice(0, len(self.poolings))
        if pooling not in self.poolings:
            raise InputError("LP421", f"{self.path} has no pooling {pooling!r}; it has {', '.join(self.poolings)}.")
        index = self.poolings.index(pooling)
        return slice(index, index + 1)


def open_cache(path: Path | str) -> Cache:
    """Open a cache for reading.

    Args:
        path: ``NAME.zarr``, or a URL such as ``s3://bucket/NAME.zarr``

    Raises:
        InputError: if there is no cache at ``path``, or one of another format
        CacheChangedError: if rows are changed or moved while it is being opened
        CacheDamagedError: if its journal can't be read, or ids or hashes are not what was written
    """
    path = connect(path)
    group = open_group(path, "r")
    generation = stable_generation(path)
    lines = read_journal(path)
    plan = read_plan(path, group)
    check_digests(path, plan, lines)
    n = n_complete_rows(lines)
    ids, hashes = (
        read_array(path, open_array(group, name), slice(0, n)).astype(object) for name in ("utterance_id", "audio_hash")
    )
    ids = np.array(utterance_names(path, ids), dtype=object)
    short = [name for name in row_arrays(plan) if open_array(group, name).shape[0] < n]
    if short:
        raise CacheDamagedError(
            "LP411", f"{path}: {short[0]} is shorter than the {n} rows that the journal names. {ADVICE}"
        )
    spans = _read_spans(path, group, ids) if plan.spans else None
    live = np.flatnonzero(ids != "" if spans is None else in_whole_utterances(spans.parent, hashes))
    spans = None if spans is None else spans.take(live)
    embeddings, quarantine = open_array(group, "embeddings"), read_quarantine(path)
    check_generation(path, generation)
    folder = read_encoder_folder(group)
    return Cache(path, plan, ids[live], hashes[live], quarantine, live, n, generation, embeddings, folder, spans)


def _read_spans(path: Path, group: zarr.Group, ids: np.ndarray) -> Spans:
    """Read the spans of rows with these ids; those of removed rows have no parent."""
    live, part = ids != "", slice(0, len(ids))
    spans = Spans(*(read_array(path, open_array(group, name), part, rows=live) for name in SPAN_ARRAYS))
    parents, labels = (np.where(live, column.astype(object), "") for column in (spans.parent, spans.label))
    return replace(spans, parent=np.array([normalise_name(name) for name in parents], dtype=object), label=labels)


def _columns(spans: Spans | None) -> dict[str, np.ndarray]:
    return {} if spans is None else {name: getattr(spans, name) for name in SPAN_ARRAYS}
