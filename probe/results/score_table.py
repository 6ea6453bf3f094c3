"""The table of scores: its columns and types, and its two files, scores.csv and scores.parquet, with the same rows.

``layer`` is text, for ``all``, ``final`` and ``cv_selected`` stand among the numbers of blocks. Readers that guess
types from the first rows of a CSV (polars) fail there; scores.parquet keeps the types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL, is_stack, n_blocks

FORMAT_VERSION = 1  # of every file in a run folder; a reader takes no other
SCORES, SCORES_PARQUET = "scores.csv", "scores.parquet"
CONDITIONS = ("baseline", "train_corpus", "covariates")  # "" in all three: one layer alone, trained on all corpora
SCORE_COLUMNS = (
    "encoder", "probe", "layer", "layer_index", "relative_depth", "target", "control", *CONDITIONS, "fold", "seed",
    "metric", "value",
)  # fmt: skip
INTEGERS, NUMBERS = ("layer_index", "seed"), ("relative_depth", "value")
PROVENANCE = ("fingerprint", "format_version")  # the last columns of every CSV file in a run folder


def score_table(rows: Sequence[dict[str, Any]], layers: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """Return rows of scores as a typed table of `SCORE_COLUMNS`.

    Args:
        rows: values by column; a condition that is missing is ""
        layers: the layers of each encoder, for the column ``relative_depth``, which is NaN without them
    """
    conditions, depths = dict.fromkeys(CONDITIONS, ""), relative_depths(layers or {})
    described = []
    for row in rows:
        layer = str(row["layer"])
        depth = depths.get((row["encoder"], layer), np.nan)
        index = int(layer) if layer.isdecimal() else None
        described.append({**conditions, **row, "layer_index": index, "relative_depth": depth})
    return _typed(pd.DataFrame(described, columns=list(SCORE_COLUMNS)))


def relative_depths(layers: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], float]:
    """Return the relative depth of each encoder's layers: 0 enters the first block, 1 leaves the last, normed or not.

    >>> relative_depths({"hubert": ["0", "1", "2", "final"], "acoustic": ["f0"]})
    {('hubert', '0'): 0.0, ('hubert', '1'): 0.5, ('hubert', '2'): 1.0, ('hubert', 'final'): 1.0}
    """
    return {
        (encoder, name): 1.0 if name == FINAL else int(name) / max(1, n_blocks(names))
        for encoder, names in layers.items()
        if is_stack(names)
        for name in names
    }


def write_scores(folder: Path, scores: pd.DataFrame, fingerprint: str) -> None:
    """Write scores.csv and scores.parquet; the same scores give the same bytes."""
    marked = scores[list(SCORE_COLUMNS)].assign(fingerprint=fingerprint, format_version=FORMAT_VERSION)
    marked.to_csv(folder / SCORES, index=False, lineterminator="\n")
    metadata = {"fingerprint": fingerprint, "format_version": str(FORMAT_VERSION)}
    names = [*SCORE_COLUMNS, *PROVENANCE]
    schema = pa.schema([(name, _arrow_type(name)) for name in names])
    table = pa.Table.from_pandas(marked[names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    pq.write_table(table, folder / SCORES_PARQUET)


def read_scores(folder: Path, fingerprint: str) -> pd.DataFrame:
    """Read scores.parquet as a typed table of `SCORE_COLUMNS`; scores.csv must belong to the same run.

    Raises:
        InputError: if either file is missing, damaged, of another run or of another version
    """
    path = folder / SCORES_PARQUET
    check_table(folder / SCORES, fingerprint)
    if not path.exists():
        raise InputError(f"{path} is missing. Sweep again.")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} can't be read ({error}). Sweep again.") from error
    metadata = table.schema.metadata or {}
    check_format_version(path, metadata.get(b"format_version", b"").decode())
    check_fingerprint(path, metadata.get(b"fingerprint", b"").decode(), fingerprint)
    return _typed(table.select(list(SCORE_COLUMNS)).to_pandas())


def check_table(path: Path, fingerprint: str) -> None:
    """Check the version and the run of a CSV file by its first row.

    Raises:
        InputError: if the file is missing, of another run or of another version
    """
    if not path.exists():
        raise InputError(f"{path} is missing. Sweep again.")
    table = pd.read_csv(path, dtype=str, keep_default_na=False, nrows=1)
    if "format_version" not in table or len(table):
        check_format_version(path, "".join(table.get("format_version", [])))
    if len(table):
        check_fingerprint(path, "".join(table.get("fingerprint", [])), fingerprint)


def check_format_version(path: Path, found: object) -> None:
    """Check that a file of a run folder has the format version that this program reads.

    Raises:
        InputError: if it has another, or none
    """
    if str(found or "") != str(FORMAT_VERSION):
        has = f"format_version {found}" if found else "no format_version"
        raise InputError(
            f"{path} has {has}; this version of layerprobe reads {FORMAT_VERSION}. Sweep again with layerprobe sweep."
        )


def check_fingerprint(path: Path, found: str, fingerprint: str) -> None:
    """Check that a file of a run folder belongs to the run of the folder's plan.

    Raises:
        InputError: if it belongs to another
    """
    if found != fingerprint:
        raise InputError(f"{path} belongs to run {found}, not to {fingerprint} of its plan.toml. Sweep again.")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    texts = {name: str for name in SCORE_COLUMNS if name not in (*INTEGERS, *NUMBERS)}
    return table.astype({**texts, "layer_index": "Int64", "seed": "int64", **dict.fromkeys(NUMBERS, "float64")})


def _arrow_type(name: str) -> pa.DataType:
    if name == "format_version" or name in INTEGERS:
        return pa.int64()
    return pa.float64() if name in NUMBERS else pa.string()
