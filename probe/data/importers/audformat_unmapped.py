"""Labels that audformat leaves empty when it reads a table, because the column's scheme does not list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd


def unmapped_labels(database: Any, folder: Path) -> list[str]:
    """Return a clause for each column with labels that its scheme does not list, with their number and the first.

    Args:
        database: audformat's, with its tables
        folder: of the database, whose tables are read once more as text
    """
    found = []
    for table_id in sorted([*database.tables, *database.misc_tables]):
        table = database[table_id]
        labelled = [c for c, column in table.columns.items() if _has_labels(database, column)]
        raw = _raw_table(folder / f"db.{table_id}") if labelled else None
        for column in labelled:
            if raw is None or column not in raw or len(raw) != len(table.df):
                continue
            lost = raw[column].notna().to_numpy() & (raw[column] != "").to_numpy() & table.df[column].isna().to_numpy()
            if lost.any():
                values = sorted(set(raw[column][lost].astype(str)))
                found.append(
                    f"{int(lost.sum())} labels of {table_id}.{column} are not in its scheme and left empty "
                    f"({', '.join(values[:3])}{', …' if len(values) > 3 else ''})"
                )
    return found


def _has_labels(database: Any, column: Any) -> bool:
    scheme = database.schemes.get(column.scheme_id)
    return scheme is not None and scheme.labels is not None


def _raw_table(path: Path) -> pd.DataFrame | None:
    """Return a table as it is stored, None where it is stored as a pickle alone."""
    parquet, text = path.with_name(f"{path.name}.parquet"), path.with_name(f"{path.name}.csv")
    if parquet.exists():
        return pd.read_parquet(parquet)
    return pd.read_csv(text, dtype=str, keep_default_na=False) if text.exists() else None
