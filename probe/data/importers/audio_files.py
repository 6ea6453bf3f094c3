"""Audio files of a corpus' folder, found by name; none is decoded."""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layerprobe.probe.data.manifest.validate import AUDIO_ENDINGS
from layerprobe.probe.exceptions import InputError

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".flv")
HIDDEN = "hidden file"


@dataclass(frozen=True)
class AudioFiles:
    """Audio files by their names without ending, and how many files were skipped for which reason."""

    paths: dict[str, Path]  # by the name without ending as it is spelt
    skipped: Counter[str]
    spelling: dict[str, str]  # of each name, by the name in lower case and composed Unicode

    def find(self, name: str) -> Path | None:
        """Return the file of that name, in whichever case and Unicode form; None if there is none."""
        spelt = self.spelling.get(_plain(name))
        return None if spelt is None else self.paths[spelt]

    def n_other(self, names: set[str]) -> int:
        """Return the number of files whose name is none of these."""
        return len(set(self.spelling) - {_plain(n) for n in names})


def audio_files_below(*folders: Path) -> AudioFiles:
    """Find the audio files of folders and their subfolders; of copies one is taken, the others are counted.

    Files whose name begins with a point, such as ``._x.wav`` of macOS, and videos are counted as skipped.

    Raises:
        InputError: if two files of one name and ending differ
    """
    paths: dict[str, Path] = {}
    spelling: dict[str, str] = {}
    of_ending: dict[tuple[str, str], Path] = {}  # by name and ending
    skipped = Counter[str]()
    for folder in folders:
        for path, reason in walk_audio(folder):
            if reason:
                skipped[reason] += 1
                continue
            stem, ending = os.path.splitext(path.name)  # noqa: PTH122 - a hundred thousand paths are slow to make
            name = _plain(stem)
            first = of_ending.setdefault((name, ending.lower()), path)
            if first is not path:
                _check_copy(first, path)
                skipped["copy of the same name"] += 1
            elif name in spelling:
                skipped["same name with another ending"] += 1
            else:
                spelling[name], paths[stem] = stem, path
    return AudioFiles(paths, skipped, spelling)


def walk_audio(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each audio file below a folder in a fixed order, with the reason why it is skipped, '' for none."""
    seen = set[str]()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        inside = Path(root).relative_to(folder).parts
        hidden = any(part == "__MACOSX" or part.startswith(".") for part in inside)
        for name in sorted(files):
            ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - as above
            if ending in VIDEO_ENDINGS:
                yield Path(root, name), "video"
            elif ending in AUDIO_ENDINGS:
                yield Path(root, name), HIDDEN if hidden or name.startswith(".") else ""


def check_folder_number(path: Path, corpus: Path, folder: re.Pattern[str], number: int, noun: str) -> None:
    """Check that the number in the name of a file's folder is that in its own name.

    Args:
        path: of the file
        corpus: folder of the corpus, above which no folder is looked at
        folder: pattern of the folder's name, with the number as its group; the nearest one is compared
        number: in the file's name
        noun: what the number is of, such as session

    Raises:
        InputError: if the numbers differ
    """
    parts = path.relative_to(corpus).parts[:-1]
    found = next((m for part in reversed(parts) if (m := folder.match(part))), None)
    if found is not None and int(found[1]) != number:
        raise InputError(
            "LP164",
            f"{path} is in {found[0]}, and its name states {noun} {number}, so its speaker is uncertain. Move it to "
            f"the folder of its {noun}, or remove it.",
        )


def _check_copy(first: Path, second: Path) -> None:
    """Check that two files of one name are the same.

    Raises:
        InputError: if they are not
    """
    if not filecmp.cmp(first, second, shallow=False):
        raise InputError(
            "LP163",
            f"{first} and {second} have the same name and different content. Remove the one that is not the corpus'.",
        )


def _plain(name: str) -> str:
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
