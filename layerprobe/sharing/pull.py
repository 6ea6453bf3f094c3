"""Stage: pull a run or a cache from a repository of the hub or a folder, checked before it is there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_files import NOT_PUSHED, PLAN, read_plan
from layerprobe.probe.results.run_folder import read_run
from layerprobe.sharing.listing import LISTING, ListedFile, Listing, read_listing
from layerprobe.sharing.push import README
from layerprobe.sharing.repositories import Repository, repository
from layerprobe.sharing.source import CACHE

UNFINISHED = ".pulling"  # ends the name of the folder that files are collected in
HUB_FOLDER = ".cache"  # of the hub's client, with what it knows of files that it has fetched


@dataclass(frozen=True)
class Pulled:
    """Result of a pull."""

    kind: str  # cache, run or trained regressor
    path: Path
    commit: str  # of the hub; empty for a folder
    n_files: int
    n_fetched: int  # of those, files that were fetched this time
    not_pushed: tuple[str, ...] = ()  # files that a run was pushed without


def pull(
    name: str, *, out: Path | str | None = None, revision: str | None = None, repo_type: str | None = None,
    progress: NullProgress | None = None,
) -> Pulled:  # fmt: skip
    """Fetch a run or a cache that `push` wrote, check the digest of every file, and open it.

    Files are collected next to ``out``, which appears when all are there; an interrupted pull resumes.

    Args:
        name: repository of the hub, ``user/name``, or a folder, ``file:///…``
        out: folder to write; ``caches/NAME.zarr`` or ``runs/NAME`` if None
        revision: branch, tag or commit; the latest if None
        repo_type: dataset or model; None for the one that exists
        progress: receives the progress

    Raises:
        InputError: if the repository holds no run or cache, a file is damaged, or ``out`` holds something else
    """
    progress = progress or NullProgress()
    place = repository(name, kind=repo_type)
    commit = place.pin(revision)
    listing = _listing(place)
    target = Path(out) if out is not None else _default(listing)
    if target.exists():
        if not _is_whole(target, listing):
            raise InputError("LP888", f"{target} exists and holds something else. Name another --out, or remove it.")
        return Pulled(listing.kind, target, commit, len(listing.files), 0, _not_pushed(target, listing))
    collected = target.with_name(target.name + UNFINISHED)
    collected.mkdir(parents=True, exist_ok=True)
    fetched = _fetch(place, listing, collected, progress)
    if not listing.prefix:
        place.download(README, collected)
    shutil.rmtree(collected / HUB_FOLDER, ignore_errors=True)
    whole = collected / listing.prefix
    found = open_cache(whole).plan.fingerprint() if listing.kind == CACHE else read_run(whole).fingerprint
    if found != listing.fingerprint:
        raise InputError(
            "LP886",
            f"{LISTING} of {name} is of {listing.fingerprint}, but its files are of {found}. Ask for another push.",
        )
    whole.rename(target)
    if collected.exists():
        shutil.rmtree(collected)
    return Pulled(listing.kind, target, commit, len(listing.files), fetched, _not_pushed(target, listing))


def _not_pushed(target: Path, listing: Listing) -> tuple[str, ...]:
    return () if listing.kind == CACHE else tuple(read_plan(target / PLAN).get(NOT_PUSHED, ()))


def _listing(place: Repository) -> Listing:
    """Return what the repository holds."""
    with TemporaryDirectory() as folder:
        file = place.download(LISTING, Path(folder))
        if file is None:
            raise InputError(
                "LP886", f"{place.name} holds no run and no cache: it has no {LISTING}. Name one that was pushed."
            )
        return read_listing(file, repository=place.name)


def _default(listing: Listing) -> Path:
    return Path("caches" if listing.kind == CACHE else "runs") / listing.name


def _is_whole(target: Path, listing: Listing) -> bool:
    return all(file.matches(target / file.path.removeprefix(listing.prefix)) for file in listing.files)


def _fetch(place: Repository, listing: Listing, folder: Path, progress: NullProgress) -> int:
    """Fetch what a folder does not have yet and return the number of these files."""
    missing: list[ListedFile] = [file for file in listing.files if not file.matches(folder / file.path)]
    needed, free = sum(file.bytes for file in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            "LP840",
            f"{folder}: {place.name} holds {needed / 1e9:,.1f} GB that are not there yet, and {free / 1e9:,.1f} GB are "
            "free. Free some disk space, or name an --out on another disk, then run the same command again.",
        )
    progress.begin("pull", len(missing), "files")
    try:
        for file in missing:
            (folder / file.path).unlink(missing_ok=True)  # of another push
            found = place.download(file.path, folder)
            if found is None or not file.matches(folder / file.path):
                raise InputError(
                    "LP887",
                    f"{file.path} of {place.name} {'is missing' if found is None else 'is not what was pushed'}. Run "
                    "the same command again; if that does not help, ask for another push.",
                )
            progress.advance()
    finally:
        progress.end()
    return len(missing)
