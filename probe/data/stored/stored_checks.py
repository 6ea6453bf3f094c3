"""Whether there is audio at many addresses and URLs, as a manifest is checked: with few requests, and none repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from layerprobe.probe.data.stored.locations import file_of, parse_address, scheme_of
from layerprobe.probe.data.stored.remote_files import listed, store_of
from layerprobe.probe.data.stored.stored_audio import StoredAudio, locate
from layerprobe.probe.problem import Problem

LISTED_FROM = 20  # objects of one folder, from which on the folder is listed instead of asking for each
REQUESTS = 16  # at a time
OF_THE_PLACE = "LP235"  # the code of a problem that another row of the same file need not have


def problems_of_stored(paths: Iterable[str]) -> dict[str, Problem]:
    """Return why audio can't be read, by its address or URL, as far as this is known without reading audio.

    Args:
        paths: absolute addresses and URLs, each once
    """
    every = list(paths)
    contained = [path for path in every if parse_address(path) is not None]
    objects = [path for path in every if parse_address(path) is None]
    return _problems_of_contained(contained) | _problems_of_objects(objects)


def _problems_of_contained(paths: Sequence[str]) -> dict[str, Problem]:
    """Return the problems of members and rows; a file that can't be read is looked at once."""
    found: dict[str, Problem] = {}
    of_files: dict[str, Problem] = {}
    for path in paths:
        file = file_of(path)
        problem = of_files.get(file) or _problem(path)
        if problem is not None:
            found[path] = problem
            if problem.code != OF_THE_PLACE:
                of_files[file] = problem
    return found


def _problems_of_objects(paths: Sequence[str]) -> dict[str, Problem]:
    """Return the problems of objects; of a store that doesn't answer, the first problem is that of all its objects."""
    there: set[str] = set()
    for folder, members in groupby(sorted(paths), key=lambda path: path.rpartition("/")[0]):
        if scheme_of(folder) not in ("file", "http", "https") and len(list(members)) >= LISTED_FROM:
            there |= listed(folder)
    found: dict[str, Problem] = {}
    stores: dict[str, Problem] = {}
    requested = [path for path in paths if path not in there]
    for begin in range(0, len(requested), REQUESTS):
        part = requested[begin : begin + REQUESTS]
        found |= {path: stores[store_of(path)] for path in part if store_of(path) in stores}
        part = [path for path in part if path not in found]
        with ThreadPoolExecutor(REQUESTS) as pool:
            for path, problem in zip(part, pool.map(_problem, part), strict=True):
                if problem is not None:
                    found[path] = problem
                    if problem.code in ("LP238", "LP239"):
                        stores.setdefault(store_of(path), problem)
    return found


def _problem(path: str) -> Problem | None:
    located = locate(path)
    if isinstance(located, StoredAudio):
        problem = located.problem()
        missing = problem is not None and problem.code == "LP200" and problem.text.startswith("no such file")
        return Problem("LP143", f"no file at {file_of(path)}") if missing else problem
    return None if Path(located).is_file() else Problem("LP143", f"no file at {located}")
