"""Databases in audformat (Wagner et al., 2023), read by the format's own library.

Rated columns are those whose scheme has a smallest and a largest value; classes are those whose scheme has labels.
Only arousal, valence, dominance and ``emotion`` are taken, and a table's part of the split, ``train``, ``dev`` or
``test``, is that of its split or its name.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import SAM, Imported, tidy
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Header, Nominal, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import UNKNOWN_SPEAKER

TARGETS = tuple(SAM)
EMOTION, SPEAKER, GENDER, TRANSCRIPTION = "emotion", "speaker", "gender", "transcription"
SPLITS = {"train": "train", "dev": "development", "test": "test"}


def import_audformat(folder: Path) -> Imported:
    """Read an audformat database.

    Raises:
        InputError: if the folder is none, the library is missing, or no table has a target
    """
    try:
        import audformat
    except ImportError as error:
        raise InputError("audformat databases are read by audformat. Install it: pip install audformat.") from error
    if not (folder / "db.yaml").exists():
        raise InputError(f"{folder} is no audformat database: it has no db.yaml.")
    database = audformat.Database.load(str(folder), load_data=True)
    parts: list[pd.DataFrame] = []
    targets: dict[str, Target] = {}
    classes: dict[str, Nominal] = {}
    for name in sorted(database.tables):
        table = database.tables[name]
        chosen = [c for c in table.columns if c in (*TARGETS, EMOTION)]
        if not chosen:
            continue
        for column in chosen:
            scheme = database.schemes.get(table.columns[column].scheme_id)
            if scheme is not None and scheme.labels is not None:
                labels = scheme.labels if isinstance(scheme.labels, list) else list(scheme.labels)
                classes[column] = Nominal(tuple(map(str, labels)), str(scheme.description or ""))
            elif scheme is not None and scheme.minimum is not None and scheme.maximum is not None:
                targets[column] = Target(float(scheme.minimum), float(scheme.maximum), str(scheme.description or ""))
            else:
                raise InputError(f"{folder}: the scheme of {name}.{column} has no labels, nor a minimum and a maximum.")
        parts.append(_rows(database, table, name, [*chosen, SPEAKER, GENDER, TRANSCRIPTION]))
    if not parts:
        raise InputError(f"{folder}: no table has a column {', '.join((*TARGETS, EMOTION))}.")
    joined = _joined(parts)
    exists = [Path(p).is_file() for p in joined["path"]]
    dropped = Counter({"listed, but audio is missing": len(joined) - sum(exists)})
    if not any(exists):
        raise InputError(f"{folder}: none of the {len(joined)} listed audio files exists. Load the media, too.")
    table = tidy(joined[exists])
    warnings = (
        [] if (table["speaker_id"] != UNKNOWN_SPEAKER).any() else ["speakers are unknown; each utterance counts as one"]
    )
    if "split" in table and (table["split"] == "").any():
        n = int((table["split"] == "").sum())
        warnings.append(f"the database's split is left out, because {n} utterances are in no part of it")
        table = table.drop(columns="split")
    header = Header(
        str(database.name), str(database.meta.get("version", "1")), str(database.license or ""),
        {t: targets[t] for t in TARGETS if t in targets and t in table},
        notes="Imported from audformat tables.", nominal={k: v for k, v in classes.items() if k in table},
    )  # fmt: skip
    return Imported(table, header, +dropped, warnings)


def _rows(database: Any, table: Any, name: str, columns: list[str]) -> pd.DataFrame:
    """Return the rows of one table, with start and end in seconds where it has segments."""
    present = [c for c in columns if c in table.columns]
    frame = table.df[present].reset_index()
    rows = pd.DataFrame({"file": frame["file"].astype(str)})
    if "start" in frame:
        rows["start"] = frame["start"].dt.total_seconds()
        rows["end"] = frame["end"].dt.total_seconds()
    for column in present:
        rows[column] = frame[column]
    part = str(table.split_id or "")
    kind = str(database.splits[part].type) if part else name.rsplit(".", 1)[-1]
    rows["split"] = SPLITS.get(kind, "")
    root = Path(str(database.root))
    rows["path"] = [str((root / f).absolute()) for f in rows["file"]]
    return rows


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per utterance with the columns of all tables."""
    keys = ["file", *(k for k in ("start", "end") if any(k in p for p in parts))]
    rows = pd.concat([p.reindex(columns=list(dict.fromkeys([*p.columns, *keys]))) for p in parts], ignore_index=True)
    joined = rows.replace("", None).groupby(keys, sort=True, dropna=False).first().reset_index()
    name = joined["file"].map(lambda f: str(Path(f).with_suffix("")).replace("/", "_"))
    repeated = name.duplicated(keep=False)
    numbers = joined.groupby("file").cumcount().astype(str)
    renamed = joined.assign(utterance_id=name.where(~repeated, name + "_" + numbers), speaker_id=UNKNOWN_SPEAKER)
    if SPEAKER in joined:
        renamed["speaker_id"] = _texts(joined[SPEAKER]).replace("", UNKNOWN_SPEAKER)
    if TRANSCRIPTION in joined:
        renamed[TRANSCRIPT] = joined[TRANSCRIPTION]
    for column in (EMOTION, GENDER, "split", TRANSCRIPT):
        if column in renamed:
            renamed[column] = _texts(renamed[column])
    order = ["utterance_id", "path", "speaker_id", "start", "end", "split", GENDER, TRANSCRIPT, *TARGETS, EMOTION]
    return renamed[[c for c in order if c in renamed]]


def _texts(column: pd.Series[Any]) -> pd.Series[str]:
    """Return a column as text, '' where it is empty."""
    return column.astype(object).where(column.notna(), "").astype(str)
