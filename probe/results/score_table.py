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

from layerprobe.probe.filesystem import replacing, write_csv
from layerprobe.probe.layer_names import FINAL, is_stack, n_blocks

FORMAT_VERSION = 1  # of every file in a run folder; a reader takes no other
SCORES, SCORES_PARQUET = "scores.csv", "scores.parquet"
# "" in all of them: one layer of whole utterances alone, trained on all corpora
CONDITIONS = ("baseline", "train_corpus", "covariates", "bin")
PARTIAL = ("bin", "erased")  # conditions under which less of an utterance is probed than its embedding
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
    write_csv(folder / SCORES, marked, durable=True)
    metadata = {"fingerprint": fingerprint, "format_version": str(FORMAT_VERSION)}
    names = [*SCORE_COLUMNS, *PROVENANCE]
    schema = pa.schema([(name, _arrow_type(name)) for name in names])
    table = pa.Table.from_pandas(marked[names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    with replacing(folder / SCORES_PARQUET, durable=True) as file:
        pq.write_table(table, file)


def read_scores(path: Path) -> pd.DataFrame:
    """Read scores.parquet as a typed table of `SCORE_COLUMNS`; conditions that an older run lacks are ""."""
    table = pq.read_table(path)
    present = [name for name in SCORE_COLUMNS if name in table.column_names or name not in CONDITIONS]
    read = table.select(present).to_pandas()
    missing = dict.fromkeys(set(CONDITIONS) - set(present), "")
    return _typed(read.assign(**missing)[list(SCORE_COLUMNS)])


def is_plain(table: pd.DataFrame) -> pd.Series:
    """Return which rows are of whole utterances with nothing erased, ``(n_rows,)`` bool.

    Args:
        table: of scores, or the columns of predictions; a condition that it lacks counts as ""
    """
    partial = [name for name in PARTIAL if name in table]
    return (table[partial] == "").all(axis=1)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    texts = {name: str for name in SCORE_COLUMNS if name not in (*INTEGERS, *NUMBERS)}
    return table.astype({**texts, "layer_index": "Int64", "seed": "int64", **dict.fromkeys(NUMBERS, "float64")})


def _arrow_type(name: str) -> pa.DataType:
    if name == "format_version" or name in INTEGERS:
        return pa.int64()
    return pa.float64() if name in NUMBERS else pa.string()
