"""A manifest becomes files: a CSV table, and its TOML header beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from layerprobe.probe.data.schema import Header
from layerprobe.probe.toml import toml_key, toml_value


def write_manifest(path: Path, table: pd.DataFrame, header: Header) -> None:
    """Write ``table`` as CSV with its TOML header beside it; equal input gives equal bytes."""
    table.to_csv(path, index=False, lineterminator="\n")
    lines = [f"{key} = {toml_value(getattr(header, key))}" for key in ("corpus", "version", "licence")]
    if header.notes:
        lines.append(f"notes = {toml_value(header.notes)}")
    for name, target in header.targets.items():
        lines += ["", f"[targets.{toml_key(name)}]", f"minimum = {target.minimum:g}", f"maximum = {target.maximum:g}"]
        lines.append(f"meaning = {toml_value(target.meaning)}")
    for name, nominal in header.nominal.items():
        lines += ["", f"[targets.{toml_key(name)}]", f"classes = [{', '.join(map(toml_value, nominal.classes))}]"]
        lines.append(f"meaning = {toml_value(nominal.meaning)}")
    path.with_suffix(".toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
