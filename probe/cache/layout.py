"""On-disk layout of a cache: a zarr group of format 3 that zarr and xarray open as it is.

========================  ============================================  ==========================================
array                     dimensions                                    content
========================  ============================================  ==========================================
``embeddings``            ``(utterance, layer, pooling, feature)``      float32 or float16; NaN in removed rows
``utterance_id``          ``(utterance,)``                              str; "" in removed rows
``audio_hash``            ``(utterance,)``                              str, hash and span of the input; "" as above
``layer``, ``pooling``    ``(layer,)``, ``(pooling,)``                  str, coordinates
``extraction``            ``()``                                        int8, a container variable; its value is 0
``parent``, ``label``     ``(utterance,)``                              str, of a span cache alone; "" as above
``start``, ``end``        ``(utterance,)``                              float64 seconds, of a span cache alone; NaN …
``duration``              ``(utterance,)``                              float64 seconds, of the span's utterance
========================  ============================================  ==========================================

In a span cache a row is a span of an utterance, and ``utterance_id`` holds the span's id (`probe.cache.spans`).

A shard of ``embeddings`` holds a block of 512 utterances and an inner chunk one layer of it, so that writing a block
and reading one layer over all utterances are both sequential; every chunk of every array carries its crc32c. A block
is written, made durable, and only then named in the journal: rows that the journal does not name are never read.

Files that are not arrays (journal, lease, lock, quarantine, hashes of audio files, measured precision) lie in the
folder of the array ``extraction``: zarr lists the members of a group and warns of foreign files there, but never looks
into the folder of an array. A scalar that carries nothing but attributes is a container variable in the CF conventions.

The group's attribute ``format_version`` governs the arrays; the files have it too, as a column or key of each line.
The group's metadata are consolidated after each block, so that a reader that uses them sees the rows of finished blocks
alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from layerprobe.probe.cache.journal import FILES, JOURNAL, BlockLine, CacheDamagedError, check_format_version
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import SPAN_ARRAYS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import (
    QUARANTINE,
    QUARANTINE_COLUMNS,
    digest_of,
    is_remote,
    read_table,
    replace_file,
    zarr_store,
)
from layerprobe.probe.identities import normalise_name
from layerprobe.probe.version import CACHE_FORMAT_VERSION

BLOCK = 512  # utterances in a shard: 50 MB for 25 layers of 1024 in one pooling
ARRAYS = ("embeddings", "utterance_id", "audio_hash")  # those with a row per utterance in every cache
COORDINATES = ("layer", "pooling")
CACHE_QUARANTINE = f"{FILES}/{QUARANTINE}"
METADATA = "zarr.json"
ENCODER_FOLDER = "encoder_folder"  # attribute of the group
REQUESTS_AT_ONCE = 16  # to an object store, which takes its time to answer
ADVICE = "Run layerprobe cache verify to see what is damaged."


class CacheMismatchError(InputError):
    """The cache was made under another plan than the one requested."""

    def __init__(
        self,
        path: Path,
        plan: ExtractionPlan,
        requested: ExtractionPlan,
        advice: str = "Name another --out, or request what it holds.",
    ) -> None:
        """Name every field that differs, with both values."""
        if plan.forward_option != requested.forward_option:
            how = {"single": "one by one", "packed": "together"}[plan.forward_option]
            advice += f" Its utterances were encoded {how}, which is --forward {plan.forward_option}."
        super().__init__("LP403", f"{path} was extracted with {'; '.join(plan.differences(requested))}. {advice}")
        self._made_of = path, plan, requested, advice

    def __reduce__(self) -> tuple[type[CacheMismatchError], tuple[Path, ExtractionPlan, ExtractionPlan, str]]:
        """Return what makes the error anew in another process."""
        return type(self), self._made_of


def row_arrays(plan: ExtractionPlan) -> tuple[str, ...]:
    """Return the names of a cache's arrays with a value for each row, the embeddings first."""
    return (*ARRAYS, *SPAN_ARRAYS) if plan.spans else ARRAYS


def group_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of the zarr group at ``path``; none if there is no group."""
    try:
        content = json.loads((path / METADATA).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    attributes = content.get("attributes", {}) if isinstance(content, dict) else {}
    return attributes if isinstance(attributes, dict) else {}


def check_format(path: Path) -> None:
    """Check that a cache at ``path``, if there is one, has the format of this version.

    Raises:
        InputError: if it was written in another format
    """
    attributes = group_attributes(path)
    found = attributes.get("format_version", attributes.get("layerprobe_format"))
    if "fingerprint" in attributes:
        check_format_version(path, found)


def open_group(path: Path, mode: str) -> zarr.Group:
    """Open the zarr group of a cache to read (``r``) or to write (``r+``).

    Raises:
        InputError: if there is no cache at ``path``, or one of another format
    """
    check_format(path)
    if not (path / JOURNAL).exists() or not (path / METADATA).exists():
        raise InputError("LP400", f"{path} is no cache of embeddings. Make one with layerprobe extract.")
    # Consolidated metadata may be of an earlier block than the arrays' own.
    return zarr.open_group(zarr_store(path), mode="r" if mode == "r" else "r+", use_consolidated=False)


def consolidate(path: Path) -> None:
    """Copy the metadata of all arrays into the group's, so that a reader needs one request for them.

    Xarray warns of a group without. ``zarr.consolidate_metadata`` does the same, but is not durable.

    Raises:
        CacheDamagedError: if the metadata of an array are missing or can't be read
    """
    group = json.loads((path / METADATA).read_bytes())
    of_spans = SPAN_ARRAYS if group.get("attributes", {}).get("plan", {}).get("spans") else ()
    names = [*ARRAYS, *of_spans, *COORDINATES, FILES]
    try:
        metadata = {name: json.loads((path / name / METADATA).read_bytes()) for name in names}
    except (FileNotFoundError, ValueError) as error:
        raise CacheDamagedError(
            "LP411", f"{path}: the metadata of an array can't be read ({error}). {ADVICE}"
        ) from error
    group["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    replace_file(path / METADATA, json.dumps(group, indent=2), durable=True)


def consolidated_metadata(path: Path) -> dict[str, Any]:
    """Return the copies of the arrays' metadata that the group has, by name of the array."""
    content = json.loads((path / METADATA).read_bytes()).get("consolidated_metadata") or {}
    return dict(content.get("metadata", {}))


def read_encoder_folder(group: zarr.Group) -> str:
    """Return the absolute path that a local encoder was loaded from; empty for others, and where it is not known."""
    return str(dict(group.attrs).get(ENCODER_FOLDER, ""))


def read_plan(path: Path, group: zarr.Group) -> ExtractionPlan:
    """Read the plan under which a cache was extracted.

    Raises:
        InputError: if the plan has other fields than those of this version
    """
    content: Any = dict(group.attrs)["plan"]
    known = {field.name for field in fields(ExtractionPlan)}
    other = sorted(known.symmetric_difference({"spans", *content}))  # the plan of whole utterances lacks it
    if other:
        raise InputError(
            "LP402",
            f"{path} was made by another version, whose plans differ in {', '.join(other)}. Make the cache anew with "
            "layerprobe extract and another --out.",
        )
    return ExtractionPlan.from_json(content)


def open_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open one of `row_arrays`.

    Raises:
        CacheDamagedError: if the group has no such array, or its metadata can't be read
    """
    try:
        with zarr.config.set({"array.write_empty_chunks": True}):  # labels that are all "" and blocks of removed rows
            array = group.get(name)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CacheDamagedError(
            "LP411", f"{group.store_path}: the metadata of {name} can't be read ({error}). {ADVICE}"
        ) from error
    if not isinstance(array, zarr.Array):
        raise CacheDamagedError("LP411", f"{group.store_path}: {name} is no array. {ADVICE}")
    return array


def read_array(
    path: Path, array: zarr.Array[Any], *index: slice | int, first: int = 0, rows: np.ndarray | None = None
) -> np.ndarray:
    """Read a part of an array and check that none of its rows is missing.

    Args:
        path: of the cache
        array: the array
        index: the part, as zarr takes it
        first: number of the first row in the part, for messages
        rows: ``(n_rows,)`` bool, rows of the part that must be there; None for all. Removed rows are not.

    Raises:
        CacheDamagedError: if a chunk's checksum does not match, or a row is missing
    """
    try:
        values = np.asarray(array[index])
    except (ValueError, OSError, RuntimeError) as error:
        raise CacheDamagedError("LP410", f"{path}: {array.name} is damaged ({error}). {ADVICE}") from error
    if values.dtype.kind == "f" and np.isnan(values).any():
        missing = np.isnan(values.reshape(len(values), -1)).any(axis=1) & (True if rows is None else rows)
        if missing.any():
            numbers = np.flatnonzero(missing)
            raise CacheDamagedError(
                "LP410", f"{path}: {len(numbers)} rows from {first + numbers[0]} on are missing. {ADVICE}"
            )
    return values


def check_digests(path: Path, plan: ExtractionPlan, lines: dict[int, BlockLine]) -> None:
    """Check that utterance ids, audio hashes and spans are those that were written.

    The embeddings, which are large, are left to `probe.cache.verify.verify`.

    Raises:
        CacheDamagedError: if a file is missing or another
    """
    written = [(name, line) for line in lines.values() for name in row_arrays(plan)[1:] if line.files]

    def matches(name: str, line: BlockLine) -> bool:
        try:
            return digest_of(block_file(path, name, line.block)) == line.files.get(name)
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(REQUESTS_AT_ONCE if is_remote(path) else 1) as pool:
        found = pool.map(lambda pair: matches(*pair), written)
        for (name, line), same in zip(written, found, strict=True):
            if not same:
                raise CacheDamagedError(
                    "LP410", f"{path}: {name} of block {line.block} is not what was written. {ADVICE}"
                )


def block_file(path: Path, name: str, block: int) -> Path:
    """Return the path of one block's file of one of `row_arrays`."""
    return path.joinpath(name, "c", str(block), *(["0"] * (3 if name == "embeddings" else 0)))


def utterance_names(path: Path, ids: Iterable[str]) -> list[str]:
    """Return the ids of a cache's rows normalised as manifests' are, so that both can be joined; "" in removed rows.

    Raises:
        InputError: if two rows are of one utterance then, so that neither can be trusted
    """
    names = [normalise_name(str(name)) for name in ids]
    counts = Counter(filter(None, names))
    repeated = next((name for name, n in counts.items() if n > 1), None)
    if repeated is not None:
        raise InputError(
            "LP404",
            f"{path} has {counts[repeated]} rows of the utterance {repeated!r}, whose ids differ in blanks at their "
            "ends or Unicode form. Extract again into another --out.",
        )
    return names


def read_quarantine(path: Path) -> pd.DataFrame:
    """Read the quarantined utterances of a cache: ``utterance_id, path, reason``, as text.

    Raises:
        InputError: if the file has another format version
    """
    file = path / CACHE_QUARANTINE
    if not file.exists():
        return pd.DataFrame(columns=list(QUARANTINE_COLUMNS), dtype=str)
    table = read_table(file, dtype=str)
    for version in table["format_version"].unique() if "format_version" in table else [""]:
        check_format_version(file, version)
    return table[list(QUARANTINE_COLUMNS)]


def write_quarantine(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write the quarantined utterances of a cache, each ``(utterance_id, path, reason)``."""
    table = pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS)).assign(format_version=CACHE_FORMAT_VERSION)
    replace_file(path / CACHE_QUARANTINE, table.to_csv(index=False, lineterminator="\n"))
