"""Creating the zarr group of a new cache, with all arrays empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from layerprobe.probe.cache.compaction import resume_compaction
from layerprobe.probe.cache.journal import FILES, JOURNAL
from layerprobe.probe.cache.layout import (
    BLOCK,
    COORDINATES,
    ENCODER_FOLDER,
    METADATA,
    check_format,
    group_attributes,
    row_arrays,
)
from layerprobe.probe.cache.lease import LEASE, LOCK
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import NUMBERS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import PARTIAL, connect, make_durable, zarr_store
from layerprobe.probe.version import CACHE_FORMAT_VERSION, layerprobe_version

COMMON: dict[str, Any] = {
    "compressors": [Crc32cCodec()],
    "overwrite": True,
}  # embeddings hardly compress; the checksum is what is wanted


def prepare_folder(path: Path) -> None:
    """Make the folder of a cache that is to be created or resumed, after a compaction that was cut short.

    Raises:
        InputError: if it holds something else, or a cache of another format
    """
    resume_compaction(path)
    if connect(path).exists():
        check_format(path)
        if not (path / JOURNAL).exists() and not is_partial(path):
            raise InputError("LP401", f"{path} exists and is no cache. Name another --out.")
    path.mkdir(parents=True, exist_ok=True)


def is_partial(path: Path) -> bool:
    """Return whether a folder is empty, or a cache whose creation was cut short before it had a journal."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir() if entry.suffix != PARTIAL}
    files = {f"{FILES}/{file.name}" for file in (path / FILES).iterdir()} if FILES in names else set()
    known = {LOCK, LEASE, f"{FILES}/{METADATA}"}
    others = {name for name in files - known if not name.endswith(PARTIAL) and not name.startswith(f"{FILES}/now-")}
    if names <= {FILES, METADATA} and not others:
        return True
    if METADATA not in names or (path / "embeddings" / "c").exists():
        return False  # rows that were written are never overwritten
    return "fingerprint" in group_attributes(path)


def create_group(
    path: Path, plan: ExtractionPlan, shape: tuple[int, int, int], *, encoder_folder: str = ""
) -> zarr.Group:
    """Create the group of a cache and its arrays, empty, over what a creation that was cut short has left.

    Args:
        path: of the cache
        plan: under which it will be filled
        shape: of one utterance, ``(n_layers, n_poolings, dim)``
        encoder_folder: absolute path of a local encoder; no part of the plan, because the same folder elsewhere is the
            same encoder
    """
    # "a", not "w", which would empty the folder, lock and all
    group = zarr.open_group(zarr_store(path), mode="a", zarr_format=3, use_consolidated=False)
    group.attrs.update(
        {
            "format_version": CACHE_FORMAT_VERSION,
            "layerprobe_version": layerprobe_version(),
            "layers": list(plan.layers),
            "poolings": list(plan.poolings),
            "plan": plan.to_json(),
            "fingerprint": plan.fingerprint(),
            ENCODER_FOLDER: encoder_folder,
        }
    )
    create_labels(path, group, plan)
    group.create_array(
        "embeddings",
        shape=(0, *shape),
        chunks=(BLOCK, 1, *shape[1:]),
        shards=(BLOCK, *shape),
        dtype=plan.storage_dtype,
        fill_value=float("nan"),  # a row that was never written can't pass for one that was
        dimension_names=("utterance", "layer", "pooling", "feature"),
        attributes={"coordinates": " ".join(row_arrays(plan)[1:])},  # of the CF conventions, which xarray follows
        **COMMON,
    )
    for name in row_arrays(plan)[1:]:
        kind: dict[str, Any] = {"dtype": "float64", "fill_value": float("nan")} if name in NUMBERS else {"dtype": str}
        group.create_array(name, shape=(0,), chunks=(BLOCK,), dimension_names=("utterance",), **kind, **COMMON)
    return group


def create_labels(path: Path, group: zarr.Group, plan: ExtractionPlan) -> None:
    """Create those arrays of a cache that have no row per utterance, or create them anew.

    These are the coordinates and the container of other files, whose folder is left as it is.
    """
    (path / FILES / METADATA).unlink(missing_ok=True)
    note = "No data: the folder of this array holds those files of the cache that are not arrays."
    group.create_array(FILES, shape=(), dtype="int8", fill_value=0, attributes={"description": note})
    make_durable(path / FILES / METADATA)
    for name, labels in zip(COORDINATES, (plan.layers, plan.poolings), strict=True):
        size = (len(labels),)
        array = group.create_array(name, shape=size, chunks=size, dtype=str, dimension_names=(name,), **COMMON)
        array[:] = np.array(labels, dtype=object)
        for file in (path / name / "c" / "0", path / name / METADATA):
            make_durable(file)
