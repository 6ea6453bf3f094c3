"""Where the audio of a row lies, as the column ``path`` of a manifest states it: written, read, made absolute.

``wav/a.flac``                                        a file
``tar://shards/train-000.tar#a.flac``                 a member of a tar archive, by its name
``parquet://data/train-000.parquet#17``               row 17, counted from 0, of a Parquet table
``parquet://data/train-000.parquet?column=speech#17`` the same where the column isn't named ``audio``
``arrow://data/data-00000-of-00001.arrow#17``         a row of a table as ``Dataset.save_to_disk`` writes it
``s3://bucket/a.flac``                                an object or a page, by a URL that fsspec opens

A file in an address is a path or such a URL: ``tar://s3://bucket/train-000.tar#a.flac``. Relative paths start in the
folder of the manifest. ``%``, ``#`` and ``?`` in the names of an address are written as ``%25``, ``%23`` and ``%3F``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, urlsplit

TABLES = ("parquet", "arrow")
CONTAINERS = ("tar", *TABLES)
AUDIO_COLUMN = "audio"  # of datasets
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")  # two letters at least: C:// is a drive


@dataclass(frozen=True)
class Address:
    """A place within a file: a member of an archive, or the audio of a row of a table.

    >>> str(Address("tar", "shards/a#1.tar", "x/50%.wav"))
    'tar://shards/a%231.tar#x/50%25.wav'
    >>> parse_address("parquet://t.parquet?column=speech#17")
    Address(kind='parquet', file='t.parquet', place='17', column='speech')
    """

    kind: str  # one of `CONTAINERS`
    file: str  # path or URL of the archive or table
    place: str  # name of a member, or number of a row from 0 on, in decimal digits
    column: str = AUDIO_COLUMN  # of a table

    def __str__(self) -> str:
        """Return the address as a manifest states it."""
        column = "" if self.column == AUDIO_COLUMN else f"?column={_escape(self.column, '%#?&+')}"
        return f"{self.kind}://{_escape(self.file, '%#?')}{column}#{_escape(self.place, '%#')}"


def tar_address(archive: str | Path, member: str) -> str:
    """Return the address of a member of a tar archive."""
    return str(Address("tar", str(archive), member))


def row_address(table: str | Path, row: int, *, column: str = AUDIO_COLUMN) -> str:
    """Return the address of the audio of a row, counted from 0, in a Parquet table or, by its ending, an Arrow one.

    >>> row_address("data/train.arrow", 3)
    'arrow://data/train.arrow#3'
    """
    kind = "arrow" if str(table).lower().endswith(".arrow") else "parquet"
    return str(Address(kind, str(table), str(row), column))


def scheme_of(path: str) -> str:
    """Return what a URL begins with, such as ``s3`` or ``tar``; "" for the path of a file.

    >>> scheme_of("s3://bucket/a.wav"), scheme_of("wav/a.wav"), scheme_of("C://a.wav")
    ('s3', '', '')
    """
    found = _SCHEME.match(path)
    return found[1] if found else ""


@lru_cache(maxsize=1024)  # the readers of a row follow each other
def parse_address(path: str) -> Address | None:
    """Return the place that an address states; None for a path or the URL of a whole file.

    Raises:
        ValueError: if an address names no place or no file, or its row is no number; the text is a clause
    """
    kind = scheme_of(path)
    if kind not in CONTAINERS:
        return None
    whole, mark, place = path.removeprefix(f"{kind}://").partition("#")
    file, _, query = whole.partition("?")
    options = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    column = options.pop("column", AUDIO_COLUMN)
    example = f"{kind}://FOLDER/FILE.{kind}#{'NAME' if kind == 'tar' else '17'}"
    if not file or not mark or not place:
        raise ValueError(f"names no {'member' if kind == 'tar' else 'row'} of a file; write {example}")
    if options or not column or (kind == "tar" and query):
        raise ValueError(f"has ?{query}, which is unknown there; write {example}")
    if kind in TABLES and re.fullmatch(r"[0-9]{1,15}", place) is None:
        raise ValueError(f"has the row {_unescape(place)!r}, which is no number from 0 on; write {example}")
    return Address(kind, _unescape(file), _unescape(place), column)


def absolute(path: str, folder: str | Path) -> str:
    """Return a path, address or URL that no longer depends on where the manifest lies.

    Args:
        path: as a manifest states it
        folder: of the manifest, an absolute path or a URL

    Raises:
        ValueError: if an address is incomplete, see `parse_address`

    >>> absolute("tar://a.tar#x.wav", "/corpus"), absolute("a.wav", "s3://bucket/corpus"), absolute("/a.wav", "/corpus")
    ('tar:///corpus/a.tar#x.wav', 's3://bucket/corpus/a.wav', '/a.wav')
    """
    address = parse_address(path)
    if address is not None:
        return str(Address(address.kind, _below(address.file, folder), address.place, address.column))
    return _below(path, folder)


def relative(path: str, folder: str | Path) -> str:
    """Return a path, address or URL relative to a manifest's folder where its file lies below it, else as it is.

    >>> relative("tar:///corpus/a.tar#x.wav", "/corpus"), relative("/other/a.wav", "/corpus")
    ('tar://a.tar#x.wav', '/other/a.wav')
    """
    address = parse_address(path)
    if address is not None:
        return str(Address(address.kind, relative(address.file, folder), address.place, address.column))
    if scheme_of(path) or scheme_of(str(folder)):
        start = f"{str(folder).rstrip('/')}/"
        return path.removeprefix(start) or path
    pure = Path(path)
    return str(pure.relative_to(folder)) if pure.is_relative_to(folder) else path


def relative_paths(paths: Iterable[str], folder: str | Path) -> list[str]:
    """Return paths relative to a manifest's folder where they are below it, and the others as they are."""
    return [relative(path, folder) for path in paths]


def name_of(path: str) -> str:
    """Return the name of the audio without its folders: of a file, of a member, or of a table with the row.

    >>> [name_of(p) for p in ("/wav/a.wav", "tar://s/a.tar#x/b.wav", "parquet://t.parquet#7", "https://h/a.wav?k=1")]
    ['a.wav', 'b.wav', 't.parquet#7', 'a.wav']
    """
    try:
        address = parse_address(path)
    except ValueError:
        address = None
    if address is not None:
        whole = PurePosixPath(_path_of(address.file)).name
        return PurePosixPath(address.place).name if address.kind == "tar" else f"{whole}#{address.place}"
    return PurePosixPath(_path_of(path)).name


def stem_of(path: str) -> str:
    """Return the name of a file or member without its ending; "" for a row, which has none.

    >>> stem_of("tar://a.tar#x/b.c.wav"), stem_of("parquet://t.parquet#7")
    ('b.c', '')
    """
    return "" if scheme_of(path) in TABLES else PurePosixPath(name_of(path)).stem


def file_of(path: str) -> str:
    """Return the path or URL of the file that holds the audio: an archive or table, or the file itself."""
    address = parse_address(path)
    return path if address is None else address.file


def costs_a_request(path: str) -> bool:
    """Return whether audio is read over a network, from a store or a web server."""
    return scheme_of(file_of(path)) not in ("", "file")


def normal(path: str) -> str:
    """Return a path by which two spellings of one place are equal: without ``.``, ``..`` and repeated slashes."""
    address = parse_address(path)
    if address is not None:
        return str(Address(address.kind, normal(address.file), address.place, address.column))
    return path if scheme_of(path) else os.path.normpath(path)


def _below(file: str, folder: str | Path) -> str:
    if scheme_of(file):
        return file
    if scheme_of(str(folder)) and not file.startswith("/"):
        return f"{str(folder).rstrip('/')}/{file}"
    return str(Path(file)) if scheme_of(str(folder)) else str(folder / Path(file))


def _path_of(file: str) -> str:
    """Return a file's path, and of a page's URL the part before its query."""
    return urlsplit(file).path if scheme_of(file) in ("http", "https") else file


def _escape(text: str, marks: str) -> str:
    """Write some characters, and line ends, by their codes; others, such as those of other scripts, stay readable."""
    return re.sub(f"[{marks}\r\n]", lambda m: f"%{ord(m[0]):02X}", text)


def _unescape(text: str) -> str:
    """Return the name that was written, in which ``%`` and two hexadecimal digits stand for a byte."""
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")
