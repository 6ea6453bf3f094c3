"""The table of utterances: read, check, write."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import UNKNOWN_SPEAKER

REQUIRED = ("utterance_id", "path", "speaker_id")
TIMES = ("start", "end")
SPLITS = ("train", "development", "test", "test1", "test2", "test3")
PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Target:
    """The scale that listeners rated on."""

    minimum: float
    maximum: float
    meaning: str = ""


@dataclass(frozen=True)
class Nominal:
    """The classes among which listeners, or a script, chose one."""

    classes: tuple[str, ...]
    meaning: str = ""


@dataclass(frozen=True)
class Header:
    """What a corpus is: its name, version, licence, the scale of rated targets, the classes of nominal ones."""

    corpus: str
    version: str
    licence: str
    targets: dict[str, Target]
    notes: str = ""
    nominal: dict[str, Nominal] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A checked table of utterances with the header that explains it.

    ``table`` has one row per utterance; text columns, nominal targets among them, hold strings ('' where empty),
    ``start``, ``end`` (seconds), rated targets and per-rater columns floats (NaN where empty). ``path`` is absolute.
    """

    path: Path
    header: Header
    table: pd.DataFrame = field(repr=False)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the rated targets, in the header's order."""
        return tuple(self.header.targets)

    def content_hash(self) -> str:
        """Sixteen hex digits over every column that can change a score; moving the folder changes nothing."""
        rated = [c for target in self.targets for c in (target, *rater_columns(self.table, target))]
        texts = [c for c in ("split", "transcript", "asr_transcript", "gender", "corpus") if c in self.table]
        columns = ["utterance_id", "speaker_id", *texts, *rated, *self.header.nominal]
        text = self.table.sort_values("utterance_id")[columns].to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class ManifestError(InputError):
    """The problems of one manifest, all of them, each with its row."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.problems = problems
        shown = [f"  {p}" for p in problems[:PROBLEMS_SHOWN]]
        if len(problems) > PROBLEMS_SHOWN:
            shown.append(f"  … and {len(problems) - PROBLEMS_SHOWN} more")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{path} has {count}:", *shown, "Correct them and run the command again."]))


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
    header = _read_header(path.with_suffix(".toml"), table=path)
    raw, first_row = _read_table(path)
    if not speakers:
        raw["speaker_id"] = UNKNOWN_SPEAKER
    problems = _missing_columns(raw, header, path)
    if problems:
        raise ManifestError(path, problems)

    table = raw.copy()
    found: list[tuple[int, str]] = []

    def report(rows: np.ndarray, text: Callable[[int], str]) -> None:
        found.extend((int(r), text(int(r))) for r in rows)

    _check_names(raw, report, first_row=first_row)
    _check_paths(table, report, folder=path.absolute().parent)
    for column in TIMES:
        if column in table:
            table[column] = _numbers(raw, column, report)
    _check_spans(table, report)
    _check_split(raw, report)
    for target, scale in header.targets.items():
        for column in [target, *rater_columns(raw, target)]:
            table[column] = _numbers(raw, column, report)
            _check_scale(table[column], column, scale, report, header_name=path.with_suffix(".toml").name)
    for name, nominal in header.nominal.items():
        _check_classes(table[name], nominal, report, header_name=path.with_suffix(".toml").name)
    if found:
        raise ManifestError(path, [f"row {row + first_row}: {text}" for row, text in sorted(found)])
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
    table = raw.copy()
    found: list[tuple[int, str]] = []

    def report(rows: np.ndarray, text: Callable[[int], str]) -> None:
        found.extend((int(r), text(int(r))) for r in rows)

    _check_names(raw, report, first_row=first_row)
    _check_paths(table, report, folder=path.absolute().parent)
    for column in TIMES:
        if column in table:
            table[column] = _numbers(raw, column, report)
    _check_spans(table, report)
    if found:
        raise ManifestError(path, [f"row {row + first_row}: {text}" for row, text in sorted(found)])
    return table


def rater_columns(table: pd.DataFrame, target: str) -> list[str]:
    """Per-rater columns of one target, ``arousal_r1, arousal_r2, …``, in the raters' order."""
    numbered = {m[1]: c for c in map(str, table) if (m := re.fullmatch(re.escape(target) + r"_r(\d+)", c))}
    return [numbered[n] for n in sorted(numbered, key=int)]


def write_manifest(path: Path, table: pd.DataFrame, header: Header) -> None:
    """Write ``table`` as CSV with its TOML header beside it; equal input gives equal bytes."""
    table.to_csv(path, index=False, lineterminator="\n")
    lines = [f"{key} = {_toml_text(getattr(header, key))}" for key in ("corpus", "version", "licence")]
    if header.notes:
        lines.append(f"notes = {_toml_text(header.notes)}")
    for name, target in header.targets.items():
        lines += ["", f"[targets.{_toml_key(name)}]", f"minimum = {target.minimum:g}", f"maximum = {target.maximum:g}"]
        lines.append(f"meaning = {_toml_text(target.meaning)}")
    for name, nominal in header.nominal.items():
        lines += ["", f"[targets.{_toml_key(name)}]", f"classes = [{', '.join(map(_toml_text, nominal.classes))}]"]
        lines.append(f"meaning = {_toml_text(nominal.meaning)}")
    path.with_suffix(".toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_text(name)


def _toml_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


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


def _missing_columns(raw: pd.DataFrame, header: Header, path: Path) -> list[str]:
    problems = [f"column {c} is missing" for c in REQUIRED if c not in raw]
    if "speaker_id" not in raw:
        problems[-1] += " (--no-speakers goes on without it; scores may then be too good)"
    problems += [
        f"column {t} is missing, but {path.with_suffix('.toml').name} describes it as a target"
        for t in (*header.targets, *header.nominal)
        if t not in raw
    ]
    return problems


Report = Callable[[np.ndarray, Callable[[int], str]], None]


def _check_names(raw: pd.DataFrame, report: Report, *, first_row: int) -> None:
    ids = raw["utterance_id"]
    report(np.flatnonzero(ids.str.strip() == ""), lambda _: "utterance_id is empty")
    first_seen = ids.map(dict(zip(ids[::-1], range(len(ids) - 1, -1, -1), strict=True)))
    repeated = np.flatnonzero((first_seen != np.arange(len(ids))) & (ids.str.strip() != ""))
    report(repeated, lambda r: f"utterance_id {ids[r]!r} is also in row {first_seen[r] + first_row}")
    report(
        np.flatnonzero(raw["speaker_id"].str.strip() == ""),
        lambda _: f"speaker_id is empty (write {UNKNOWN_SPEAKER} for a talker nobody knows)",
    )


def _check_paths(table: pd.DataFrame, report: Report, *, folder: Path) -> None:
    written = table["path"].copy()
    exists: dict[str, bool] = {}  # many spans can share one file, and a network folder is slow to ask
    table["path"] = [str(folder / p) for p in written]
    for p in table["path"].unique():
        exists[p] = Path(p).is_file()
    empty = (written.str.strip() == "").to_numpy()
    missing = ~table["path"].map(exists).to_numpy(dtype=bool) & ~empty
    report(np.flatnonzero(empty), lambda _: "path is empty")
    report(np.flatnonzero(missing), lambda r: f"no file at {table['path'][r]}")


def _numbers(raw: pd.DataFrame, column: str, report: Report) -> pd.Series[float]:
    text = raw[column].str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    wrong = np.flatnonzero((text != "") & values.isna())
    report(wrong, lambda r: f"{column} is {raw[column][r]!r}, not a number")
    return values


def _check_spans(table: pd.DataFrame, report: Report) -> None:
    for column in TIMES:
        if column in table:
            report(
                np.flatnonzero(table[column] < 0),
                lambda r, c=column: f"{c} is {table[c][r]:g} s, before the sound begins",  # type: ignore[misc]
            )
    if set(TIMES) <= set(table):
        report(
            np.flatnonzero(table["end"] <= table["start"].fillna(0)),
            lambda r: f"end {table['end'][r]:g} s is not after start {table['start'].fillna(0)[r]:g} s",
        )


def _check_split(raw: pd.DataFrame, report: Report) -> None:
    if "split" in raw:
        unknown = np.flatnonzero(~raw["split"].isin(SPLITS))
        report(unknown, lambda r: f"split {raw['split'][r]!r} is unknown; choose one of {', '.join(SPLITS)}")


def _check_scale(values: pd.Series[float], column: str, scale: Target, report: Report, *, header_name: str) -> None:
    outside = np.flatnonzero((values < scale.minimum) | (values > scale.maximum))
    report(
        outside,
        lambda r: f"{column} is {values[r]:g}, outside the scale {scale.minimum:g}..{scale.maximum:g} of {header_name}",
    )


def _check_classes(values: pd.Series[str], nominal: Nominal, report: Report, *, header_name: str) -> None:
    strange = np.flatnonzero((values != "") & ~values.isin(nominal.classes))
    shown = ", ".join(nominal.classes)
    report(strange, lambda r: f"{values.name} is {values[r]!r}, none of the classes {shown} of {header_name}")
