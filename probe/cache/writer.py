"""Filling a cache: rows are appended, replaced and removed a block at a time, and never by half."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr

from layerprobe.probe.cache.create import create_group, prepare_folder
from layerprobe.probe.cache.generation import read_generation, start_generation
from layerprobe.probe.cache.journal import (
    JOURNAL,
    BlockLine,
    append_block,
    n_complete_rows,
    read_journal,
    rewrite_journal,
)
from layerprobe.probe.cache.layout import (
    BLOCK,
    METADATA,
    CacheMismatchError,
    block_file,
    check_digests,
    consolidate,
    open_array,
    open_group,
    read_array,
    read_plan,
    row_arrays,
    utterance_names,
    write_quarantine,
)
from layerprobe.probe.cache.lease import leased
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import REMOVED_SPAN, SPAN_ARRAYS, Span, Spans, id_taken, in_whole_utterances
from layerprobe.probe.cache.storage import stored
from layerprobe.probe.filesystem import PARTIAL, digest_of, is_remote, make_durable, resolve
from layerprobe.probe.identities import normalise_name


class CacheWriter:
    """Adds rows to a cache, new or partial, under one plan; a context manager that is the store's only writer."""

    def __init__(self, path: Path | str, plan: ExtractionPlan, *, dim: int, encoder_folder: str = "") -> None:
        """Name the store; nothing is touched before the ``with``.

        Args:
            path: ``NAME.zarr``, or a URL such as ``s3://bucket/NAME.zarr``
            plan: under which every row is extracted
            dim: number of features of one pooling of one layer
            encoder_folder: absolute path of a local encoder, which a new cache records
        """
        self.path, self.plan, self._encoder_folder = resolve(path), plan, encoder_folder
        self._shape = (len(plan.layers), len(plan.poolings), dim)
        self._ids: list[str] = []  # "" where a row was removed
        self._hashes: list[str] = []
        self._row_of: dict[str, int] = {}
        self._spans: list[Span] = []  # of a span cache one for each row
        self._ids_of: dict[str, set[str]] = {}  # of a span cache the row ids of each utterance
        self.replaceable: set[str] = set()  # utterances that come anew: another one's span may take an id of theirs
        self._block: list[np.ndarray] = []  # rows of the last block, including those on disk
        self._changed: dict[int, dict[int, np.ndarray]] = {}  # of earlier blocks: rows to replace
        self._quarantine: list[tuple[str, str, str]] = []
        self._n_durable = 0
        self._tail_changed = False
        self._held = ExitStack()

    def __enter__(self) -> CacheWriter:
        """Create the store or resume it.

        Raises:
            CacheMismatchError: naming the fields that differ, if it was made under another plan
            InputError: if ``path`` holds something else, or another process writes to it
        """
        prepare_folder(self.path)
        with ExitStack() as held:
            self._lease = held.enter_context(leased(self.path))
            for leftover in () if is_remote(self.path) else self.path.rglob(f"*{PARTIAL}"):  # of a killed process
                leftover.unlink()
            self._resume() if (self.path / JOURNAL).exists() else self._create()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the rows that wait, also after an error or Ctrl-C, and end the lease."""
        with self._held:
            self.flush()

    @property
    def n_rows(self) -> int:
        """Number of rows, including removed ones."""
        return len(self._ids)

    @property
    def utterances(self) -> set[str]:
        """Utterances with a row, in a span cache also those of which a span is missing."""
        return set(self._ids_of if self.plan.spans else self._row_of)

    @property
    def cached(self) -> dict[str, str]:
        """Utterances that are cached already, each with the hash of the input that it was made from.

        In a span cache they are those whose spans all have a row.
        """
        if not self.plan.spans:
            return {name: self._hashes[row] for name, row in self._row_of.items()}
        parents = np.array([span.parent for span in self._spans], dtype=object)
        rows = np.flatnonzero(in_whole_utterances(parents, np.array(self._hashes, dtype=object)))
        return {parents[row]: self._hashes[row] for row in rows}

    def append(self, utterance_id: str, audio_hash: str, embeddings: np.ndarray, span: Span | None = None) -> None:
        """Add an utterance, or replace its row; a block is written after every 512 rows.

        Args:
            utterance_id: of the utterance, or of the span
            audio_hash: hash of the input and its span, by which a later run sees whether it has changed
            embeddings: ``(n_layers, n_poolings, dim)``
            span: of a span cache; None of any other

        Raises:
            ValueError: if the shape is another, or a span is given to a cache of utterances, or none to one of spans
            StorageOverflowError: if a value exceeds the range of the storage dtype
        """
        if (span is None) == bool(self.plan.spans):
            raise ValueError(f"the rows of {self.path} are {'spans' if self.plan.spans else 'utterances'}")
        values = stored(embeddings, self.plan.storage_dtype)
        self._append(normalise_name(utterance_id), audio_hash, values, span)

    def _append(self, name: str, audio_hash: str, values: np.ndarray, span: Span | None) -> None:
        """Add a row, or replace it; the name is normalised, and values are as they are stored."""
        if values.shape != self._shape:
            raise ValueError(f"embeddings are {values.shape}, not {self._shape}")
        row = self._row_of.get(name)
        if span is not None:
            self._set_span(row, name, span)
        if row is None:
            self._row_of[name] = len(self._ids)
            self._ids.append(name)
            self._hashes.append(audio_hash)
            self._block.append(values)
            if len(self._block) == BLOCK:
                self.flush()
            return
        self._hashes[row] = audio_hash
        self._touch(row, values)
        if sum(map(len, self._changed.values())) >= BLOCK:
            self.flush()

    def append_spans(self, audio_hash: str, ids: Sequence[str], embeddings: np.ndarray, spans: Spans) -> None:
        """Add all spans of one utterance, replace their rows, and remove its rows that are not among them any more.

        Args:
            audio_hash: as `probe.cache.spans.spans_content` makes it; a reader takes the rows of an utterance for
                complete if there are as many as it states
            ids: of the spans
            embeddings: ``(n_spans, n_layers, n_poolings, dim)``
            spans: of one utterance, aligned with the ids

        Raises:
            StorageOverflowError: if a value exceeds the range of the storage dtype; no row is written then
            InputError: if a span of another utterance has one of the ids
        """
        for begin in range(0, len(ids), BLOCK):  # in parts, since an hour of windows takes much memory
            stored(embeddings[begin : begin + BLOCK], self.plan.storage_dtype)
        names, parent = list(map(normalise_name, ids)), normalise_name(str(spans.parent[0]))
        self._drop_rows(self._ids_of.get(parent, set()) - set(names))
        for k, (name, values) in enumerate(zip(names, embeddings, strict=True)):
            self._append(name, audio_hash, values.astype(self.plan.storage_dtype), spans[k])

    def drop(self, utterance_ids: Collection[str]) -> None:
        """Remove rows: ids become empty and embeddings NaN; `probe.cache.compact.compact` frees the disk space."""
        spans = self.plan.spans
        self._drop_rows([name for u in utterance_ids for name in (self._ids_of[u] if spans else (u,))])

    def _drop_rows(self, ids: Collection[str]) -> None:
        removed = self._removed
        for name in list(ids):
            row = self._row_of.pop(name)
            self._ids[row] = self._hashes[row] = ""
            if self.plan.spans:
                self._set_span(row, name, REMOVED_SPAN)
            self._touch(row, removed)

    def _set_span(self, row: int | None, name: str, span: Span) -> None:
        """Set the span of a row, or of a new one if None, and keep account of the rows of each utterance."""
        span = replace(span, parent=normalise_name(span.parent))
        if row is None:
            self._spans.append(span)
        else:
            before = self._spans[row].parent
            if span.parent not in ("", before) and before not in self.replaceable:
                raise id_taken(self.path, name, before, span.parent)
            self._spans[row] = span
            self._ids_of[before].discard(name)
            if not self._ids_of[before]:
                del self._ids_of[before]
        if span.parent:
            self._ids_of.setdefault(span.parent, set()).add(name)
            self.replaceable.discard(span.parent)

    def refuse(self, utterance_id: str, path: str, reason: str) -> None:
        """Quarantine an utterance with its reason and remove its row, if any, whose input has changed since."""
        self._quarantine.append((utterance_id, path, reason))
        if utterance_id in (self._ids_of if self.plan.spans else self._row_of):
            self.drop([utterance_id])

    def flush(self) -> None:
        """Write waiting rows as whole shards, make them durable, then name them in the journal.

        Raises:
            InputError: if another process has taken the store over
            CacheDamagedError: if a block of which rows are replaced or removed can't be read
        """
        self._lease.check()
        changes_rows = bool(self._changed) or self._tail_changed
        if changes_rows:
            start_generation(self.path, rewriting=True)
        for block in sorted(self._changed):
            self._rewrite(block, self._changed[block])
        self._changed = {}
        if len(self._ids) > self._n_durable or self._tail_changed:
            block, has_grown = (len(self._ids) - 1) // BLOCK, len(self._ids) > self._n_durable
            self._resize(len(self._ids))
            self._write(block, np.stack(self._block))
            self._n_durable, self._tail_changed = len(self._ids), False
            if has_grown:
                consolidate(self.path)
        if changes_rows:
            start_generation(self.path)
        if len(self._block) == BLOCK:
            self._block = []
        write_quarantine(self.path, self._quarantine)

    @property
    def _removed(self) -> np.ndarray:
        """Values of a removed row: whoever reads the array without regard to empty ids gets NaN, not a stale row."""
        return np.full(self._shape, np.nan, dtype=self.plan.storage_dtype)

    def _touch(self, row: int, values: np.ndarray | None) -> None:
        begin = len(self._ids) - len(self._block)  # of the last block
        if row >= begin:
            self._tail_changed = True
            if values is not None:
                self._block[row - begin] = values
            return
        rows = self._changed.setdefault(row // BLOCK, {})
        if values is not None:
            rows[row] = values

    def _rewrite(self, block: int, rows: dict[int, np.ndarray]) -> None:
        values = None
        if rows:
            part = slice(block * BLOCK, min((block + 1) * BLOCK, self._n_durable))
            live = np.array([name != "" for name in self._ids[part]])
            values = read_array(self.path, self._embeddings, part, first=part.start, rows=live)
            for row, replacement in rows.items():
                values[row - part.start] = replacement
        self._write(block, values)

    def _write(self, block: int, embeddings: np.ndarray | None) -> None:
        """Write one block: ids and hashes as they are now, and embeddings if they are given."""
        rows = slice(block * BLOCK, min((block + 1) * BLOCK, len(self._ids)))
        columns = self._columns(rows)
        n_before = min(rows.stop, self._n_durable) - rows.start
        if n_before > 0:  # its files are about to differ from their digests; after a kill the next run repairs that
            append_block(self.path, BlockLine(block, n_before))
            # A removed row loses its id before its values: after a kill no id has a row of NaN. A replaced row gets
            # its new hash last: after a kill its old hash makes the next run encode it again.
            self._arrays["utterance_id"][rows] = columns["utterance_id"]
            make_durable(block_file(self.path, "utterance_id", block))
        if embeddings is not None:
            self._embeddings[rows] = embeddings
        for name, values in columns.items():
            self._arrays[name][rows] = values
        for name in self._arrays:
            make_durable(block_file(self.path, name, block))
            make_durable(self.path / name / METADATA)
        files = {name: digest_of(block_file(self.path, name, block)) for name in self._arrays}
        append_block(self.path, BlockLine(block, rows.stop - rows.start, files))

    def _columns(self, rows: slice) -> dict[str, np.ndarray]:
        """Return what the arrays but the embeddings hold of some rows, by name; the hash of the input is the last."""
        columns = {"utterance_id": np.array(self._ids[rows], dtype=object)}
        if self.plan.spans:
            spans = Spans.of(self._spans[rows])
            columns |= {name: getattr(spans, name) for name in SPAN_ARRAYS}
        return columns | {"audio_hash": np.array(self._hashes[rows], dtype=object)}

    def _resize(self, n: int) -> None:
        for array in self._arrays.values():
            array.resize((n, *array.shape[1:]))

    def _create(self) -> None:
        self._open_arrays(create_group(self.path, self.plan, self._shape, encoder_folder=self._encoder_folder))
        consolidate(self.path)
        start_generation(self.path)
        rewrite_journal(self.path, [])
        self._adopt([], [], [], [])

    def _resume(self) -> None:
        group = open_group(self.path, "r+")
        plan = read_plan(self.path, group)
        if plan != self.plan:
            raise CacheMismatchError(self.path, plan, self.plan)
        lines = read_journal(self.path)
        check_digests(self.path, plan, lines)
        rewrite_journal(self.path, lines.values())
        n = n_complete_rows(lines)
        self._open_arrays(group)
        self._resize(n)
        consolidate(self.path)
        ids = utterance_names(self.path, read_array(self.path, self._arrays["utterance_id"], slice(0, n)).tolist())
        live = np.array([name != "" for name in ids], dtype=bool)
        hashes = read_array(self.path, self._arrays["audio_hash"], slice(0, n)).tolist()
        tail = slice(n - n % BLOCK, n)  # a shard is only ever written whole, so its first rows come along
        block = list(read_array(self.path, self._embeddings, tail, first=tail.start, rows=live[tail]))
        spans = []
        if plan.spans:
            read = Spans(*(read_array(self.path, self._arrays[name], slice(0, n), rows=live) for name in SPAN_ARRAYS))
            spans = [read[row] if live[row] else REMOVED_SPAN for row in range(n)]
        self._adopt(ids, hashes, block, spans)
        for line in [line for line in lines.values() if not line.files]:  # of a killed process: finish the rewriting
            begin = line.block * BLOCK
            self._touch(begin, None)
            for row in range(begin, begin + line.rows):
                if not ids[row]:
                    self._touch(row, self._removed)
        if read_generation(self.path).rewriting and not (self._changed or self._tail_changed):
            start_generation(self.path)  # of a killed process that had changed nothing

    def _open_arrays(self, group: zarr.Group) -> None:
        self._arrays = {name: open_array(group, name) for name in row_arrays(self.plan)}
        self._embeddings = self._arrays["embeddings"]

    def _adopt(self, ids: list[str], hashes: list[str], block: list[np.ndarray], spans: list[Span]) -> None:
        self._ids, self._block, self._spans, self._ids_of = ids, block, spans, {}
        for name, span in zip(ids, spans, strict=False):
            if name:
                self._ids_of.setdefault(span.parent, set()).add(name)
        self._hashes = [digest if name else "" for name, digest in zip(ids, hashes, strict=True)]
        self._row_of = {name: row for row, name in enumerate(ids) if name}
        self._n_durable, self._tail_changed = len(ids), False
