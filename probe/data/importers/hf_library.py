"""Datasets that ``datasets.load_dataset`` loads: folders of audio with metadata, JSON, CSV and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerprobe.probe.data.importers.hf_columns import DatasetPart, read_part
from layerprobe.probe.exceptions import InputError


def load_parts(source: str, audio_column: str | None, *, subset: str | None) -> list[DatasetPart]:
    """Load a dataset by its own library, which keeps its tables in the library's cache.

    Args:
        source: a folder, or a name on the hub with an optional ``@revision``
        audio_column: the column of audio; None for the only one
        subset: of a dataset that has several; None for the only one

    Returns:
        the parts of all splits; audio that is in files of its own stays there

    Raises:
        InputError: if the library is missing, or can't load the dataset
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "LP170",
            f"{source} has no Parquet or Arrow tables, and such datasets are read by datasets. Install it: pip install "
            "datasets.",
        ) from error
    name, _, revision = source.partition("@") if not Path(source).exists() else (source, "", "")
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.utils.logging.disable_progress_bar()
    try:
        loaded = datasets.load_dataset(name, subset, revision=revision or None)
    except Exception as error:  # of the library, of its readers, of the hub
        reason = " ".join(str(_root(error)).split()).rstrip(".")
        raise InputError(
            "LP196", f"datasets can't load {source} ({reason}). Check the folder, the subset and the connection."
        ) from error
    finally:
        if bars:
            datasets.utils.logging.enable_progress_bar()
    return [part for split, one in loaded.items() for part in _parts(one, str(split), audio_column)]


def _parts(dataset: Any, split: str, audio_column: str | None) -> list[DatasetPart]:
    """Return a part for each table that the library keeps of a split."""
    return [read_part(Path(file["filename"]), split, audio_column) for file in dataset.cache_files]


def _root(error: BaseException) -> BaseException:
    """Return the error that caused the others: datasets wraps each in one that names no reason."""
    return error if error.__cause__ is None else _root(error.__cause__)
