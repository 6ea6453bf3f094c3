"""Stage: push a run or a cache to a repository of the hub or a folder, and check what has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import resolve
from layerprobe.probe.progress import NullProgress
from layerprobe.sharing.card import card
from layerprobe.sharing.contents import Allowed, Rule
from layerprobe.sharing.listing import LISTING, listing_file, read_listing
from layerprobe.sharing.repositories import KINDS, Repository, repository
from layerprobe.sharing.source import TRAINED, SharedFile, Source, read_source

README = "README.md"


@dataclass(frozen=True)
class Pushed:
    """Result of a push."""

    kind: str  # cache, run or trained regressor
    n_files: int  # in the repository now
    n_sent: int  # of those, files that were sent this time
    bytes: int
    left_out: tuple[tuple[str, Rule], ...]  # files that stayed, with the reason


def push(
    path: Path | str, to: str, *, with_predictions: bool = False, with_transcripts: bool = False,
    repo_type: str | None = None, public: bool = False, progress: NullProgress | None = None,
) -> Pushed:  # fmt: skip
    """Push a run or a cache, and compare the digest of every file that has arrived with what was sent.

    Files that the repository has already are not sent again, so that an interrupted push resumes.

    Args:
        path: run folder or cache
        to: repository of the hub, ``user/name``, or a folder, ``file:///…``
        with_predictions: whether held-out predictions are included, which hold ratings and ids
        with_transcripts: whether what is derived from single transcripts is included
        repo_type: dataset or model; None for model of a trained regressor, else dataset
        public: whether a repository that is created can be read by everybody
        progress: receives the progress

    Raises:
        InputError: if there is nothing to push, it may not be shared, or the repository can't be written or holds
            something else
    """
    progress = progress or NullProgress()
    source = read_source(resolve(path), Allowed(with_predictions, with_transcripts), progress=progress)
    place = repository(to, kind=repo_type, pushed_as=KINDS[1] if source.kind == TRAINED else KINDS[0])
    last = [SharedFile.of(README, card(source, to).encode()), listing_file(source)]
    files = [*source.files, *last]
    message = f"Push {source.kind} {source.name} ({source.fingerprint})"
    place.check_free(source.path, files)
    place.create(public=public)
    place.pin(None)
    old = _earlier(place, source)
    missing = place.differing(source.files)
    progress.begin("push", len(missing), "files")
    try:
        place.upload(missing, message=message, progress=progress)
    finally:
        progress.end()
    # what lists the files is written when they are there
    described = place.differing(last)
    place.upload(described, message=message, progress=NullProgress())
    place.remove(sorted(old - {file.path for file in files}), message=message)
    if wrong := place.differing(files):
        raise InputError(
            "LP887",
            f"{len(wrong)} files of {to} are not what was sent (first: {wrong[0].path}). Run the same command again, "
            "which sends them anew.",
        )
    n_sent = len(missing) + len(described)
    return Pushed(source.kind, len(files), n_sent, sum(file.size for file in files), source.left_out)


def _earlier(place: Repository, source: Source) -> set[str]:
    """Return the paths of the files that an earlier push of the same listed.

    Raises:
        InputError: if the repository holds another run or cache, whose files would be removed
    """
    with TemporaryDirectory() as folder:
        file = place.download(LISTING, Path(folder))
        if file is None:
            return set()
        try:
            found = read_listing(file, repository=place.name)
        except InputError:
            return set()  # it is replaced
    if (found.kind, found.name) != (source.kind, source.name):
        raise InputError(
            "LP884",
            f"{place.name} holds the {found.kind} {found.name}, whose files would be removed. Name another repository "
            f"for {source.name}, or remove what is there first.",
        )
    return {listed.path for listed in found.files}
