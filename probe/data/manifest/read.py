"""Manifests, and tables of utterances without a header, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.header import read_header
from layerprobe.probe.data.manifest.schema import Manifest, ManifestError
from layerprobe.probe.data.manifest.table import read_text_table
from layerprobe.probe.data.manifest.validate import RowProblems, check_targets, check_utterances, missing_columns
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import UNKNOWN_SPEAKER


@dataclass(frozen=True)
class NumberedManifest:
    """A manifest with the row of each utterance in its file."""

    manifest: Manifest
    row_numbers: np.ndarray  # (n_utterances,) as a spreadsheet shows them: the header is row 1


def read_manifest(path: Path | str, *, speakers: bool = True) -> Manifest:
    """Read a manifest with its header and check every row.

    Args:
        path: a ``.csv`` or ``.parquet`` table; its header has the same name with ``.toml``
        speakers: whether speakers are known; without them every utterance is its own speaker, and scores may
            be too optimistic, because the same voice can be in training and test data

    Raises:
        InputError: if a file is missing or can't be read
        ManifestError: naming every problem with its row as a spreadsheet shows it: the header is row 1
    """
    return read_numbered_manifest(path, speakers=speakers).manifest


def read_numbered_manifest(path: Path | str, *, speakers: bool = True) -> NumberedManifest:
    """Read a manifest as `read_manifest` does, with the row numbers that messages name."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist. Give the path of a manifest, a .csv or .parquet table.")
    header_path = path.with_suffix(".toml")
    table = read_text_table(path)
    raw = table.cells
    header = read_header(header_path, raw, table_path=path)
    if not speakers:
        raw["speaker_id"] = UNKNOWN_SPEAKER
    missing = missing_columns(raw, header, header_name=header_path.name)
    if missing:
        raise ManifestError(path, missing)
    problems = RowProblems(path, table.row_numbers)
    checked = check_utterances(raw, problems, folder=path.absolute().parent)
    check_targets(checked, raw, header, problems, header_name=header_path.name)
    problems.raise_if_any()
    return NumberedManifest(Manifest(path, header, checked), table.row_numbers)


def read_utterances(path: Path | str) -> pd.DataFrame:
    """Read a table of utterances that need no ratings, no speakers and no header, and check every row.

    Args:
        path: a ``.csv`` or ``.parquet`` table with the columns ``utterance_id`` and ``path``

    Returns:
        the table with absolute paths and, where there is none, a column ``speaker_id`` of unknown speakers

    Raises:
        InputError: if the file is missing or can't be read
        ManifestError: naming every problem with its row
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist. Give the path of a table, .csv or .parquet.")
    table = read_text_table(path)
    raw = table.cells
    missing = [f"column {c} is missing" for c in ("utterance_id", "path") if c not in raw]
    if missing:
        raise ManifestError(path, missing)
    if "speaker_id" not in raw:
        raw["speaker_id"] = UNKNOWN_SPEAKER
    problems = RowProblems(path, table.row_numbers)
    checked = check_utterances(raw, problems, folder=path.absolute().parent)
    problems.raise_if_any()
    return checked
