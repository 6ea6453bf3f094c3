"""A manifest, or a table of utterances, from its files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd

from layerprobe.probe.data.schema import Header, Manifest, ManifestError, Nominal, Target
from layerprobe.probe.data.validate import Problems, check_targets, checked_utterances, missing_columns
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import UNKNOWN_SPEAKER


def read_manifest(path: Path | str, *, speakers: bool = True) -> Manifest:
    """Read a manifest with its header and check every row.

    Args:
        path: a ``.csv`` or ``.parquet`` table; its header has the same name with ``.toml``
        speakers: whether talkers are known; without them every utterance is its own speaker, and scores may
            be too good, because the same voice can be trained and tested on

    Raises:
        ManifestError: naming every problem with its row; in a CSV the header is row 1, as a spreadsheet shows it
    """
    path = Path(path)
    header_path = path.with_suffix(".toml")
    header = _read_header(header_path, table=path)
    raw, first_row = _read_table(path)
    if not speakers:
        raw["speaker_id"] = UNKNOWN_SPEAKER
    missing = missing_columns(raw, header, path)
    if missing:
        raise ManifestError(path, missing)
    problems = Problems(path, first_row=first_row)
    table = checked_utterances(raw, problems.report, folder=path.absolute().parent, first_row=first_row)
    check_targets(table, raw, header, problems.report, header_name=header_path.name)
    problems.refuse()
    return Manifest(path, header, table)


def read_utterances(path: Path | str) -> pd.DataFrame:
    """Read a table of utterances that need no ratings, no speakers and no header, and check every row.

    Raises:
        ManifestError: naming every problem with its row
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist. Give the path of a table, .csv or .parquet.")
    raw, first_row = _read_table(path)
    missing = [f"column {c} is missing" for c in ("utterance_id", "path") if c not in raw]
    if missing:
        raise ManifestError(path, missing)
    if "speaker_id" not in raw:
        raw["speaker_id"] = UNKNOWN_SPEAKER
    problems = Problems(path, first_row=first_row)
    table = checked_utterances(raw, problems.report, folder=path.absolute().parent, first_row=first_row)
    problems.refuse()
    return table


def _read_header(path: Path, *, table: Path) -> Header:
    if not table.exists():
        raise InputError(f"{table} does not exist. Give the path of a manifest, a .csv or .parquet table.")
    if not path.exists():
        raise InputError(
            f"{table} has no header: {path} does not exist. Write it with corpus, version, licence and a "
            "[targets.NAME] with minimum, maximum and meaning for each rated column (data_manifests/README.md)."
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}. Correct it.") from error
    problems = [f"{key} is missing" for key in ("corpus", "version", "licence") if key not in content]
    targets, nominal = {}, {}
    tables = content.get("targets", {})
    for name, scale in tables.items() if isinstance(tables, dict) else ():
        if isinstance(scale, dict) and "classes" in scale:
            classes = scale["classes"]
            texts = isinstance(classes, list) and all(isinstance(c, str) and c.strip() for c in classes)
            if not texts or len(set(classes)) < 2 or len(set(classes)) < len(classes):
                problems.append(f"[targets.{name}] needs classes, a list of two or more different names")
            else:
                nominal[name] = Nominal(tuple(classes), str(scale.get("meaning", "")))
            continue
        low, high = (scale.get(k) for k in ("minimum", "maximum")) if isinstance(scale, dict) else (None, None)
        if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high):
            problems.append(f"[targets.{name}] needs numbers minimum < maximum, or classes")
        else:
            targets[name] = Target(float(low), float(high), str(scale.get("meaning", "")))
    if not tables:
        problems.append("no [targets.NAME] is described")
    if problems:
        raise ManifestError(path, problems)
    text = {key: str(content.get(key, "")) for key in ("corpus", "version", "licence", "notes")}
    return Header(targets=targets, nominal=nominal, **text)


def _read_table(path: Path) -> tuple[pd.DataFrame, int]:
    """The table as strings ('' where empty), and the row number of its first utterance."""
    try:
        if path.suffix.lower() == ".csv":
            # every cell as text: pandas would turn the speaker "NA" into nothing and the id "007" into 7
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            if not isinstance(table.index, pd.RangeIndex):  # pandas takes what has no name for row labels
                raise InputError(f"{path}: its rows have more cells than its header has names. Name every column.")
            first_row = 2
        elif path.suffix.lower() == ".parquet":
            columns = pd.read_parquet(path)
            table = pd.DataFrame({c: columns[c].map(lambda v: "" if pd.isna(v) else str(v)) for c in columns})
            first_row = 1
        else:
            raise InputError(f"{path} is neither .csv nor .parquet. Save the table as one of these.")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} can't be read as a table: {error}. Save it again as UTF-8 CSV.") from error
    if table.empty:
        raise InputError(f"{path} has no utterances. Add a row for each.")
    return table, first_row
