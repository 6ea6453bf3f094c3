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

import pandas as pd

from layerprobe.probe.data.importers.base import Imported, counted
from layerprobe.probe.data.importers.choices import ColumnChoices
from layerprobe.probe.data.importers.flat_json import parse_record
from layerprobe.probe.data.importers.hf_files import split_of_name
from layerprobe.probe.data.importers.source_table import PATH, SourceTable, imported_from
from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.data.manifest.validate import AUDIO_ENDINGS
from layerprobe.probe.data.stored.locations import tar_address
from layerprobe.probe.exceptions import InputError

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
    for shard in shards:
        split, place = split_of_name(shard.stem), str(shard.absolute())
        for sample in _samples(shard, dropped):
            member = _audio_member(sample, shard, choices.columns.get(PATH))
            if not member:
                dropped["sample without audio"] += 1
                continue
            rows.append(sample.columns)
            paths.append(tar_address(place, member))
            files.append(sample.key.rpartition("/")[2])
            splits.append(split)
            places.append(f"{shard.stem}-{sample.key}")
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
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                if not member.isfile() or member.name.rpartition("/")[2].startswith((".", "__")):
                    continue
                key, ending = _key(member.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key)
                _add(sample, member, ending, archive, shard, dropped)
    except (tarfile.TarError, EOFError, OSError) as error:
        after = f" after {sample.key}" if sample is not None else ""
        raise InputError("LP198", f"{shard} can't be read{after}: {error}. Get it again.") from error
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
    sample: _Sample, member: tarfile.TarInfo, ending: str, archive: tarfile.TarFile, shard: Path, dropped: Counter[str]
) -> None:
    last = ending.rpartition(".")[2]
    if f".{last}" in AUDIO_ENDINGS:
        sample.audio[ending] = member.name
    elif last in (*JSON, *TEXT) and member.size <= LARGEST:
        file = archive.extractfile(member)
        content = file.read() if file is not None else b""
        where = f"{shard.name}, member {member.name}"
        if last in JSON:
            sample.columns |= parse_record(content, where)
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
