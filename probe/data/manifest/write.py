"""A manifest written to files: a CSV table, and its TOML header next to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.manifest.names import rules_content
from layerprobe.probe.data.manifest.schema import MANIFEST_FORMAT_VERSION, Header
from layerprobe.probe.filesystem import replace_file, write_csv
from layerprobe.probe.identities import similar_names
from layerprobe.probe.toml import toml_key, toml_value


def relative_paths(paths: Iterable[str], folder: Path) -> list[str]:
    """Return absolute paths relative to a manifest's folder where they are below it, and the others as they are."""
    return [str(p.relative_to(folder)) if p.is_relative_to(folder) else str(p) for p in map(Path, paths)]


def write_manifest(path: Path, table: pd.DataFrame, header: Header) -> None:
    """Write ``table`` as CSV with its TOML header next to it; equal input gives equal bytes.

    Args:
        path: of the table, ``NAME.csv``; the header is written to ``NAME.toml``
        table: one row per utterance, with the columns that docs/manifests.md lists
        header: description of the corpus; keys that are '' are left out
    """
    write_csv(path, table)
    lines = [f"format_version = {MANIFEST_FORMAT_VERSION}", f"corpus = {toml_value(header.corpus)}"]
    optional = {"version": header.version, "licence": header.licence, "notes": header.notes}
    lines += [f"{key} = {toml_value(text)}" for key, text in optional.items() if text]
    lines += rules_content(header.names)
    for name, target in header.targets.items():
        lines += ["", f"[targets.{toml_key(name)}]", f"minimum = {target.minimum:g}", f"maximum = {target.maximum:g}"]
        lines.append(f"meaning = {toml_value(target.meaning)}")
    for name, nominal in header.nominal.items():
        lines += ["", f"[targets.{toml_key(name)}]", f"classes = [{', '.join(map(toml_value, nominal.classes))}]"]
        lines += ["distinct_classes = true"] if similar_names(nominal.classes) else []
        lines.append(f"meaning = {toml_value(nominal.meaning)}")
    replace_file(path.with_suffix(".toml"), "\n".join(lines) + "\n")
