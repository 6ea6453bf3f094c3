"""An audformat database loaded from its folder by the format's own library, without running code from that folder.

audformat reads its header with a YAML loader that calls any function that the file names, and prefers tables that are
pickles, which can do the same. So the header is read by YAML's safe loader first, and pickles are hidden.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from layerprobe.probe.data.importers.base import check_label_file, not_the_corpus
from layerprobe.probe.exceptions import InputError

STORED = (".parquet", ".csv")  # formats of tables that hold data alone


def load_database(folder: Path) -> Any:
    """Load a database with all its tables.

    Args:
        folder: with ``db.yaml`` and a file ``db.TABLE.parquet`` or ``db.TABLE.csv`` for each table

    Raises:
        InputError: if the library is missing, the folder is no database, or the database can't be read as data alone
    """
    try:
        import audformat
        import yaml
    except ImportError as error:
        raise InputError(
            "LP170", "audformat databases are read by audformat. Install it: pip install audformat."
        ) from error
    header = folder / "db.yaml"
    if not header.exists():
        raise not_the_corpus(folder, "audformat database", "it has no db.yaml")
    stored = [p for ending in STORED for p in sorted(folder.glob(f"db.*{ending}"))]
    for path in (header, *stored):
        check_label_file(path)
    try:
        yaml.safe_load(header.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        raise InputError(
            "LP171",
            f"{header} names Python objects, which could run code; no database needs them. Save the database again by "
            "audformat.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unreadable(folder, error) from error
    pickles = sorted(folder.glob("db.*.pkl"))
    alone = [p for p in pickles if not any(p.with_name(p.stem + ending).exists() for ending in STORED)]
    if alone:
        raise InputError(
            "LP171",
            f"{alone[0]} is a table that is stored as a pickle alone, which could run code. Save the database again by "
            "audformat: database.save(FOLDER, storage_format='parquet').",
        )
    with tempfile.TemporaryDirectory() as scratch:
        for path in (header, *stored) if pickles else ():
            (Path(scratch) / path.name).symlink_to(path.absolute())
        try:
            database = audformat.Database.load(scratch if pickles else str(folder), load_data=False)
            for name in [*database.misc_tables, *database.tables]:  # labels first, without which values are dropped
                _ = database[name].df
        except Exception as error:  # of tables, of schemes, of audformat itself
            raise _unreadable(folder, error) from error
    return database


def _unreadable(folder: Path, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
    return InputError("LP172", f"audformat can't read the database {folder} ({reason}). Download it again.")
