"""The files of a run: plan.toml lists each with its size and digest, and no other content is read.

plan.toml is written last, so that a folder without one is an unfinished run, and every file is written next to its
place and renamed. Files that are added to the folder later, such as figures, are not listed.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow.parquet as pq

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE, has_content, replace_file, sha256_of
from layerprobe.probe.foreign_files import damage_of, foreign_content
from layerprobe.probe.lease import RUN_LEASE, is_held
from layerprobe.probe.results.score_table import FORMAT_VERSION, SCORES, SCORES_PARQUET
from layerprobe.probe.toml import toml_document

PREDICTIONS, WEIGHTS, PLAN = "predictions.npz", "layer_weights.csv", "plan.toml"
WHOLE = (SCORES, SCORES_PARQUET, WEIGHTS, QUARANTINE, PREDICTIONS)  # files that every run has
LISTED = "files"  # the last tables of plan.toml
NOT_PUSHED = "not_pushed"  # in the plan.toml of a pulled run: listed files that it was pushed without
PARTIAL_RESULTS = "partial"  # folder of what an unfinished run has computed, in files that begin with its fingerprint
FINGERPRINT = re.compile(r"[0-9a-f]{12}")
AGAIN = "Run the command that made the run again, which writes its files anew"
RESTORE = "Restore it, or run the command that made the run again"
WAIT = "Wait for it to end, then run the same command again"


@dataclass(frozen=True)
class RunFile:
    """A file of a run as it was written."""

    name: str
    rows: int  # of the table; of predictions, the utterances
    bytes: int
    sha256: str  # the last key, so that a plan.toml that was cut misses it


def describe_file(path: Path, *, rows: int) -> RunFile:
    """Return the record of a file that was just written."""
    return RunFile(path.name, rows, path.stat().st_size, sha256_of(path))


def write_plan(folder: Path, plan: Mapping[str, Any], fingerprint: str, files: Sequence[RunFile]) -> None:
    """Write plan.toml, which makes a run whole, after all its files; one that every run has is listed last."""
    head = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint}
    content = {**head, **plan, LISTED: [asdict(file) for file in sorted(files, key=lambda f: f.name in WHOLE)]}
    replace_file(folder / PLAN, toml_document(content), durable=True)


def read_plan(path: Path) -> dict[str, Any]:
    """Read a run's plan.toml, without its format version and its list of files.

    Raises:
        InputError: if it is missing or no TOML, or has another format version
    """
    plan = _read_toml(path)
    plan.pop(LISTED, None)
    return plan


def read_files(folder: Path, fingerprint: str) -> dict[str, RunFile]:
    """Return the files of a run by their names, as its plan.toml lists them.

    Raises:
        InputError: if plan.toml can't be read, lists none, or is of another run than the one with this fingerprint
    """
    path = folder / PLAN
    content = _read_toml(path)
    listed = content.get(LISTED)
    kinds: dict[str, type] = {"name": str, "rows": int, "bytes": int, "sha256": str}
    names = [field.name for field in fields(RunFile)]
    known = [
        entry
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and all(isinstance(entry.get(name), kinds[name]) for name in names)
    ]
    if missing := [name for name in WHOLE if name not in {entry["name"] for entry in known}]:
        raise InputError(
            "LP602", f"{path} does not list {missing[0]}: it was cut, or it is of another program. {AGAIN}."
        )
    if (found := content.get("fingerprint")) != fingerprint:
        raise InputError(
            "LP604",
            f"{folder} was replaced by another run ({found}, not {fingerprint}) while it was read. Run the same "
            "command again.",
        )
    return {entry["name"]: RunFile(**{name: entry[name] for name in names}) for entry in known}


def checked_file(folder: Path, name: str, files: Mapping[str, RunFile], fingerprint: str) -> Path:
    """Return the path of a file after its size and digest were compared with those that plan.toml lists.

    Args:
        folder: of the run
        name: of a file that plan.toml lists
        files: of `read_files`
        fingerprint: of the run

    Raises:
        InputError: if the file is missing, cut, changed, of another run, or something else, or is being written
    """
    path, listed = folder / name, files[name]
    if has_content(path, size=listed.bytes, sha256=listed.sha256):
        return path
    if is_held(folder / RUN_LEASE):
        raise InputError("LP605", f"{folder} is being written by another process. {WAIT}.")
    if not path.is_file():
        if name in parse_plan(folder / PLAN).get(NOT_PUSHED, []):
            raise InputError(
                "LP883",
                f"{folder} was shared without {name}, which intervals, tests, reports and most figures need. Ask its "
                "authors to push it with --with-predictions, or use scores.parquet, findings.json and figures/.",
            )
        raise InputError("LP606", f"{path} is missing. {RESTORE}.")
    size, found = path.stat().st_size, fingerprint_in(path)
    other = f"belongs to run {found}, not to {fingerprint} of plan.toml" if found not in (None, fingerprint) else None
    changed = "was changed since the run was written"
    short = f"was cut or edited: it has {size} bytes, and was written with {listed.bytes}"
    fault = foreign_content(path) or other or (short if size < listed.bytes else changed)
    raise InputError("LP606", f"{path} {fault}. {RESTORE}.")


def parse_plan(path: Path) -> dict[str, Any]:
    """Return the content of a plan.toml, whatever it is.

    Raises:
        InputError: if it is no TOML, or empty
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("LP602", f"{path} {damage_of(path, error)}. {AGAIN}.") from error
    if not content:  # nothing is TOML, too
        raise InputError("LP602", f"{path} is empty. {AGAIN}.")
    return content


def fingerprint_in(path: Path) -> str | None:
    """Return the fingerprint of a run that a table, predictions or a plan carry, however damaged; None if unknown."""
    try:
        if path.suffix == ".toml":
            head = path.read_text(encoding="utf-8", errors="replace")[:2_000]
            line = re.search(r'^fingerprint = "([0-9a-f]{12})"$', head, re.MULTILINE)
            return line[1] if line else None
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                found: Any = dict(zip(*islice(csv.reader(file), 2), strict=True)).get("fingerprint")
        elif path.suffix == ".parquet":
            found = (pq.read_schema(path).metadata or {}).get(b"fingerprint", b"").decode()
        else:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                found = str(arrays["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, BadZipFile, csv.Error):
        return None
    return found if FINGERPRINT.fullmatch(str(found)) else None


def unfinished_fingerprints(folder: Path) -> set[str]:
    """Return the fingerprints of the runs of which a folder without a readable plan.toml has files or results."""
    found = {fingerprint_in(p) for p in folder.iterdir() if p.suffix in (".toml", ".csv", ".parquet", ".npz")}
    found |= {p.name[:12] for p in (folder / PARTIAL_RESULTS).glob("*.npz") if FINGERPRINT.fullmatch(p.name[:12])}
    return {fingerprint for fingerprint in found if fingerprint is not None}


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _without_plan(path.parent)
    content = parse_plan(path)
    found = content.pop("format_version", None)
    if found != FORMAT_VERSION:
        has = f"format_version {found}" if found else "no format_version"
        raise InputError(
            "LP603",
            f"{path} has {has}; this version of layerprobe reads {FORMAT_VERSION}. Sweep again with layerprobe sweep.",
        )
    return content


def _without_plan(folder: Path) -> InputError:
    """Return the error of a folder without plan.toml: why it is no run, and what to do."""
    if not folder.exists():
        return InputError("LP600", f"{folder} does not exist. Give a run folder, which layerprobe sweep makes.")
    if is_held(folder / RUN_LEASE):
        return InputError("LP605", f"{folder} is being written by another process. {WAIT}.")
    if folder.is_dir() and unfinished_fingerprints(folder):
        return InputError(
            "LP601",
            f"{folder} holds an unfinished run: it has no {PLAN} yet. Run the same command again, which resumes it.",
        )
    return InputError("LP600", f"{folder} is no run folder: it has no {PLAN}. Make one with layerprobe sweep.")
