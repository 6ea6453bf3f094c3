"""Shards in the format of webdataset: tar archives in which members of one sample follow each other.

A sample's members have one name up to the first point: ``a/0001.flac``, ``a/0001.json``, ``a/0001.cls``. Archives are
read from the beginning to the end, once; audio is skipped, and a manifest's path is the address of the member.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from layerprobe.probe.data.importers.base import Imported, counted, split_named
from layerprobe.probe.data.importers.choices import ColumnChoices
from layerprobe.probe.data.importers.flat_json import parse_record
from layerprobe.probe.data.importers.hf_files import split_of_name
from layerprobe.probe.data.importers.source_table import PATH, SourceTable, imported_from
from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.data.manifest.validate import AUDIO_ENDINGS
from layerprobe.probe.data.stored.locations import tar_address
from layerprobe.probe.data.stored.tar_archives import in_order, open_archive
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.problem import StoredAudioError

JSON, TEXT = ("json", "jsn"), ("txt", "text", "transcript", "cls", "cls2", "id", "inx", "index", "spk", "lab")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
LARGEST = 1 << 24  # bytes of a member of labels


@dataclass
class _Sample:
    """Members of one sample."""

    key: str
    audio: dict[str, str] = field(default_factory=dict)  # name of the member by its ending
    columns: dict[str, str] = field(default_factory=dict)


def import_webdataset(pattern: str, choices: ColumnChoices) -> Imported:
    """Read shards.

    Args:
        pattern: path of a shard, with ranges such as ``shard-{000..010}.tar``, alternatives ``{train,test}``, ``*``
            or a folder of shards
        choices: on columns; ``path`` names the ending of audio where samples have several

    Raises:
        InputError: if a shard is missing or damaged, or the choices do not fit
    """
    shards = find_shards(pattern)
    dropped = Counter[str]()
    rows: list[dict[str, str]] = []
    paths: list[str] = []
    files: list[str] = []
    splits: list[str] = []
    places: list[str] = []
    repeated = len({shard.stem for shard in shards}) < len(shards)  # as in train/000.tar and test/000.tar
    for shard in shards:
        folder, place = shard.absolute().parent.name, str(shard.absolute())
        split = split_of_name(shard.stem) or (folder if split_named(folder) else "")
        beginning = f"{folder}-{shard.stem}" if repeated else shard.stem
        members = set[str]()
        for sample in _samples(shard, dropped):
            member = _audio_member(sample, shard, choices.columns.get(PATH))
            if not member:
                dropped["sample without audio"] += 1
                continue
            if member in members:
                raise InputError(
                    "LP199",
                    f"{shard.name} has two members {member}, of which only the last can be read. Give each sample a "
                    "name of its own, and pack the shard again.",
                )
            members.add(member)
            rows.append(sample.columns)
            paths.append(tar_address(place, member))
            files.append(sample.key.rpartition("/")[2])
            splits.append(split)
            places.append(f"{beginning}-{sample.key}")
    name = _common_name(shards)
    if not paths:
        raise InputError(
            "LP162", f"{name}: no sample has audio ({counted(dropped.total(), 'member')}). Load the audio, too."
        )
    source = SourceTable(
        name,
        pd.DataFrame(rows, index=range(len(rows)), dtype=object).fillna(""),
        paths,
        files,
        lambda k: f"{paths[k].rpartition('#')[0].rpartition('/')[2]}, sample {files[k]}",
        places,
        splits if all(splits) else [],
        about=Header(name, notes="Imported from shards of webdataset."),
        dropped=dropped,
    )
    return imported_from(source, choices)


def find_shards(pattern: str) -> list[Path]:
    """Return the shards of a pattern in order.

    Raises:
        InputError: if one that the pattern states is missing, or none is found
    """
    found: list[Path] = []
    for text in expand_braces(pattern):
        path = Path(text).expanduser()
        if path.is_dir():
            found += sorted(path.glob("*.tar"))
        elif any(mark in text for mark in "*?["):
            found += sorted(path.parent.glob(path.name))
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(
                "LP198", f"{text} can't be read, because there is no such file. Check the pattern {pattern}."
            )
    if not found:
        raise InputError("LP198", f"{pattern} can't be read, because it names no .tar file. Check the pattern.")
    return found


def expand_braces(pattern: str) -> list[str]:
    """Return the texts of a pattern with ranges and alternatives in braces, as a shell does.

    >>> expand_braces("s-{08..10}.tar"), expand_braces("{train,test}.tar")
    (['s-08.tar', 's-09.tar', 's-10.tar'], ['train.tar', 'test.tar'])
    """
    parts = [_alternatives(part) if k % 2 else [part] for k, part in enumerate(_BRACES.split(pattern))]
    return ["".join(chosen) for chosen in product(*parts)]


def _alternatives(text: str) -> list[str]:
    if (m := _RANGE.fullmatch(text)) is None:
        return text.split(",")
    width = len(m[1]) if m[1].startswith("0") else 0
    return [f"{k:0{width}d}" for k in range(int(m[1]), int(m[2]) + 1)]


def _samples(shard: Path, dropped: Counter[str]) -> Iterator[_Sample]:
    """Yield the samples of a shard in their order; members of other kinds are counted."""
    sample: _Sample | None = None
    extents: dict[str, tuple[int, int]] = {}  # offset and size of each file, which links name
    try:
        with shard.open("rb") as file, open_archive(file, str(shard)) as archive:
            for member in in_order(archive):
                name = member.name.removeprefix("./")
                if member.isdir() or name.rpartition("/")[2].startswith((".", "__")):
                    continue
                extent = extents.get(member.linkname.removeprefix("./")) if member.islnk() else None
                if member.isreg() and not member.issparse():
                    extent = member.offset_data, member.size
                if extent is None:
                    dropped["link, or no file"] += 1
                    continue
                extents[name] = extent
                key, ending = _key(name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key)
                _add(sample, member.name, ending, file, extent, shard, dropped)
    except StoredAudioError as error:
        raise InputError(error.problem.code, f"{error.problem.text}.") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        read = f"after {sample.key}" if sample is not None else "as a tar archive"
        raise InputError("LP198", f"{shard} can't be read {read}: {error}. Get it again.") from error
    if sample is not None:
        yield sample


def _key(name: str) -> tuple[str, str]:
    """Return a sample's key and a member's ending, which is all after the first point of its name.

    >>> _key("a/0001.left.wav")
    ('a/0001', 'left.wav')
    """
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _add(
    sample: _Sample,
    member: str,
    ending: str,
    archive: BinaryIO,
    extent: tuple[int, int],
    shard: Path,
    dropped: Counter[str],
) -> None:
    last = ending.rpartition(".")[2]
    offset, size = extent
    if f".{last}" in AUDIO_ENDINGS:
        sample.audio[ending] = member
    elif last in (*JSON, *TEXT) and size <= LARGEST:
        archive.seek(offset)
        content = archive.read(size)
        if last in JSON:
            sample.columns |= parse_record(content, f"{shard.name}, member {member}")
        else:
            sample.columns[ending] = content.decode("utf-8", "replace").strip()
    else:
        dropped[f"member .{ending}"] += 1


def _audio_member(sample: _Sample, shard: Path, wanted: str | None) -> str:
    """Return the name of the member that holds a sample's audio, '' where there is none."""
    if wanted is not None:
        return sample.audio.get(wanted.lower().removeprefix("."), "")
    if len(sample.audio) > 1:
        endings: Sequence[str] = sorted(sample.audio)
        raise InputError(
            "LP197",
            f"{shard.name}, sample {sample.key} has several members of audio, {', '.join(endings)}. Choose one: --map "
            f"path={endings[0]}.",
        )
    return next(iter(sample.audio.values()), "")


def _common_name(shards: Sequence[Path]) -> str:
    """Return the name of a corpus of shards: what their names begin with, or that of their folder."""
    beginning = re.split(r"[-_.]?\d", shards[0].stem)[0]
    common = beginning and all(path.name.startswith(beginning) for path in shards)
    return beginning if common else shards[0].resolve().parent.name
