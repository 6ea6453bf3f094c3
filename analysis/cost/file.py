"""The file cost.csv of a run, or of several runs together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import write_csv
from layerprobe.probe.foreign_files import damage_of, foreign_content
from layerprobe.probe.results.pending import pending_fingerprint

COST = "cost"  # name of the figure and of its table, without ending
COST_VERSION = 1  # format version
AGAIN = "Make it anew with layerprobe cost"
_TEXTS = (
    "run", "encoder", "probe", "layer", "needs", "reads", "target", "metric", "interval", "cheapest_by", "precision",
    "forward", "weights", "processor", "reason", "fingerprint", "format_version",
)  # fmt: skip
_BOOLEANS = ("is_cheapest", "is_smallest_layer", *(f"on_front_{cost}" for cost in COSTS))


def cost_name(folders: Sequence[Path]) -> str:
    """Return the name of the files about one run, ``cost``, or about several runs, without ending."""
    return COST if len(folders) == 1 else "-".join([COST, *(path.name for path in folders)])


def cost_path(folder: Path, folders: Sequence[Path]) -> Path:
    """Return the path of the table of some runs in a folder."""
    return folder / f"{cost_name(folders)}.csv"


def write_cost(table: pd.DataFrame, path: Path, *, fingerprint: str) -> None:
    """Write a table of costs with the fingerprint of its runs and its format version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, table.assign(fingerprint=fingerprint, format_version=COST_VERSION))


def read_cost(path: Path, fingerprint: str) -> pd.DataFrame | None:
    """Return a table of costs, or None where costs were not compared.

    Args:
        path: of `cost_path`
        fingerprint: of the runs

    Raises:
        InputError: if the file is damaged, is about other runs, or was written in another format version
    """
    if not path.exists():
        return None
    if damage := foreign_content(path):
        raise InputError("LP915", f"{path} {damage}. {AGAIN}.")
    try:
        table = _read(path)
    except (ValueError, TypeError, KeyError) as error:  # a cut line, text among the numbers, a missing column
        raise InputError("LP915", f"{path} {damage_of(path, error)}. {AGAIN}.") from error
    if set(table["format_version"]) != {str(COST_VERSION)}:
        found = ", ".join(sorted(set(table["format_version"])))
        raise InputError(
            "LP915", f"{path} has format version {found}, and this version of layerprobe reads {COST_VERSION}. {AGAIN}."
        )
    if set(table["fingerprint"]) - {fingerprint, pending_fingerprint(fingerprint)}:
        raise InputError("LP915", f"{path} belongs to another run. Delete it, or run layerprobe cost again.")
    return table.drop(columns=["fingerprint", "format_version"])


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False, na_values=_na_values(path))
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError("it was cut: its last line has no end")
    if table.empty:
        raise ValueError("it has no rows")
    if missing := [name for name in (*_TEXTS, *_BOOLEANS, *COSTS, "value") if name not in table]:
        raise ValueError(f"it has no column {missing[0]}")
    table = table.astype(dict.fromkeys(_BOOLEANS, bool) | dict.fromkeys([*COSTS, "value"], float))
    known: dict[str, Any] = {"True": True, "False": False, "": pd.NA}
    in_best_set = table["in_best_set"].astype(object).fillna("")
    return table.assign(in_best_set=pd.Series([known[str(v)] for v in in_best_set], table.index, dtype=object))


def _na_values(path: Path) -> dict[str, list[str]]:
    """Return which cells of each column of numbers are NaN; texts have none."""
    return {str(name): ["", "nan"] for name in pd.read_csv(path, nrows=0) if name not in _TEXTS}
