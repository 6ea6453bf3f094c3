"""The header of a manifest, read from its TOML file; every problem is reported with what to state instead."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.manifest.dialect import decode_text
from layerprobe.probe.data.manifest.file_kind import no_table
from layerprobe.probe.data.manifest.names import RULE_KEYS, read_rules
from layerprobe.probe.data.manifest.scales import finite_numbers, observed_range, usual_scale
from layerprobe.probe.data.manifest.schema import MANIFEST_FORMAT_VERSION, Header, ManifestError, Nominal, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import normalise_name, similar_names
from layerprobe.probe.nearest_path import missing_file
from layerprobe.probe.problem import Problem

NAMES_SHOWN = 5


def load_header(path: Path, *, table_path: Path) -> dict[str, Any]:
    """Return the content of a header's file.

    Args:
        path: the header, ``NAME.toml``
        table_path: of the table, for messages

    Raises:
        InputError: if the file is missing, a pointer, a web page, empty or no TOML, or of another format version
    """
    if not path.exists():
        raise InputError(
            "LP120",
            f"{table_path} has no header: {missing_file(path)}. layerprobe manifest init {table_path} writes one from "
            "the table; docs/manifests.md lists its keys.",
        )
    if not path.is_file():
        raise InputError("LP120", f"{path} is no file. Write the header of {table_path} there.")
    if fault := no_table(path):
        raise InputError("LP103", f"{path} can't be read as a header: {fault}.")
    text, _ = decode_text(path, path.read_bytes())
    try:
        content = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise InputError("LP121", f"{path} is not valid TOML: {error}. Correct it.") from error
    check_format_version(content, path)
    return content


def read_header(path: Path, cells: pd.DataFrame, *, table_path: Path) -> Header:
    """Read the header of a manifest.

    Args:
        path: the header, ``NAME.toml``
        cells: the table as text, whose ratings are named where a target states no scale
        table_path: of the table, for messages

    Raises:
        InputError: as `load_header`
        ManifestError: naming all other problems together
    """
    return parse_header(load_header(path, table_path=table_path), cells, path=path, table_path=table_path)


def parse_header(content: dict[str, Any], cells: pd.DataFrame, *, path: Path, table_path: Path) -> Header:
    """Return the header that a file's content describes; see `read_header`."""
    problems: list[Problem] = []
    if "corpus" not in content:
        problems.append(Problem("LP123", 'corpus is missing: state the name of the corpus, corpus = "…"'))
    names, faults = read_rules(content, header_name=path.name)
    problems += faults
    licences = {str(content[key]) for key in ("licence", "license") if key in content}
    if len(licences) > 1:
        text = f"licence is {content['licence']!r} and license {content['license']!r}; they are one key"
        problems.append(Problem("LP130", f"{text}, so keep only one"))
    targets: dict[str, Target] = {}
    nominal: dict[str, Nominal] = {}
    tables = content.get("targets", {})
    if not (isinstance(tables, dict) and tables):
        text = f"{path.name} describes no target; add [targets.NAME] for each column of ratings or classes"
        problems.append(Problem("LP124", text))
        tables = {}
    for written, keys in tables.items():
        name = normalise_name(written)
        below = [key for key in RULE_KEYS if isinstance(keys, dict) and key in keys]
        problems += [
            Problem("LP136", f"{key} stands below [targets.{name}]; move it above the first line in brackets")
            for key in below
        ]
        ratings: Any = cells.get(name)
        found = _target(name, keys if isinstance(keys, dict) else {}, ratings, header_name=path.name)
        if isinstance(found, Problem):
            problems.append(found)
        elif isinstance(found, Nominal):
            nominal[name] = found
        else:
            targets[name] = found
    if problems:
        raise ManifestError(table_path, problems)
    return Header(
        corpus=str(content["corpus"]),
        version=str(content.get("version", "")),
        licence="".join(licences),
        targets=targets,
        notes=str(content.get("notes", "")),
        nominal=nominal,
        names=names,
    )


def check_format_version(content: dict[str, Any], path: Path) -> None:
    """Check that a header has the format version that is read; one without ``format_version`` counts as version 1.

    Raises:
        InputError: if the version is another
    """
    version = content.get("format_version", MANIFEST_FORMAT_VERSION)
    if version != MANIFEST_FORMAT_VERSION or isinstance(version, bool):
        raise InputError(
            "LP122",
            f"{path} has format_version {version!r}, and this layerprobe reads {MANIFEST_FORMAT_VERSION} only: write "
            f"format_version = {MANIFEST_FORMAT_VERSION} if the header follows docs/manifests.md, or update "
            "layerprobe.",
        )


def _target(
    name: str, keys: dict[str, Any], cells: pd.Series[str] | None, *, header_name: str
) -> Target | Nominal | Problem:
    """Return the target that a table of the header describes, or the problem that it has."""
    meaning = str(keys.get("meaning", ""))
    if "classes" in keys:
        classes = keys["classes"]
        texts = isinstance(classes, list) and all(isinstance(c, str) and c.strip() for c in classes)
        if not texts or len(set(classes)) < 2 or len(set(classes)) < len(classes):
            return Problem("LP127", f"[targets.{name}] needs classes, a list of two or more different names")
        classes = [normalise_name(c) for c in classes]
        if len(set(classes)) < len(classes):
            return Problem("LP127", f"[targets.{name}] needs classes that differ in more than blanks at their ends")
        alike = similar_names(classes)
        if alike and keys.get("distinct_classes") is not True:
            names, difference = " and ".join(map(repr, alike[0].names)), alike[0].difference
            return Problem(
                "LP128",
                f"[targets.{name}] has the classes {names}, which differ only in {difference}; give them one spelling "
                "here and in the table, or write distinct_classes = true",
            )
        return Nominal(tuple(classes), meaning)
    missing = [key for key in ("minimum", "maximum") if key not in keys]
    if missing:
        return Problem("LP125", _scale_question(name, missing, cells, header_name=header_name))
    ends = [keys["minimum"], keys["maximum"]]
    if not all(isinstance(e, int | float) and not isinstance(e, bool) and math.isfinite(e) for e in ends):
        text = f"[targets.{name}] has minimum {ends[0]!r} and maximum {ends[1]!r}; both must be numbers"
        return Problem("LP126", text)
    if ends[0] >= ends[1]:
        text = f"[targets.{name}] has minimum {ends[0]:g} and maximum {ends[1]:g}; the minimum must be the smaller"
        return Problem("LP126", text)
    return Target(float(ends[0]), float(ends[1]), meaning)


def _scale_question(name: str, missing: list[str], cells: pd.Series[str] | None, *, header_name: str) -> str:
    """Return the question for a missing scale, with what the column holds."""
    stated = "scale" if len(missing) == 2 else missing[0]
    opening = f"{header_name} states no {stated} for {name}"
    example = "minimum = 1, maximum = 7"
    ratings = None if cells is None else finite_numbers(cells)
    if cells is None or ratings is None:
        return f"{opening}, and the table has no such column. State {' and '.join(missing)}, e.g. {example}."
    if ratings.empty:
        texts = sorted(set(cells[cells.str.strip() != ""]))
        shown = ", ".join(texts[:NAMES_SHOWN]) + (", …" if len(texts) > NAMES_SHOWN else "")
        listed = ", ".join(f'"{t}"' for t in texts[:2])
        if not texts:
            return f"{opening}; its column is empty. State {' and '.join(missing)}, e.g. {example}."
        return f"{opening}; its column holds texts: {shown}. State its classes, e.g. classes = [{listed}]."
    low, high = observed_range(ratings)
    scale = usual_scale(low, high) or (math.floor(low), math.ceil(high))
    example = ", ".join(
        f"{key} = {end:g}" for key, end in zip(("minimum", "maximum"), scale, strict=True) if key in missing
    )
    return f"{opening}; its ratings run from {low:g} to {high:g}. State {' and '.join(missing)}, e.g. {example}."
