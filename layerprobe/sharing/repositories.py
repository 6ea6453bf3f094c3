"""Where runs and caches are shared: a repository of the hub, or a folder (``file:///…``), behind one interface."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import has_content, replacing
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.progress import NullProgress
from layerprobe.sharing.listing import LISTING
from layerprobe.sharing.source import SharedFile

FILE = "file://"
KINDS = ("dataset", "model")
FILES_PER_COMMIT = 50  # of an upload; an interrupted one keeps the commits that it has made


class Repository(Protocol):
    """Interface of a place that files are shared in."""

    name: str  # as the user wrote it

    def check_free(self, path: Path, files: Sequence[SharedFile]) -> None:
        """Check that files pushed from a path replace none that another push or something else has written."""

    def create(self, *, public: bool) -> None:
        """Create the repository if there is none; an existing one stays as it is."""

    def differing(self, files: Sequence[SharedFile]) -> list[SharedFile]:
        """Return those files that the repository lacks or has with other bytes."""

    def upload(self, files: Sequence[SharedFile], *, message: str, progress: NullProgress) -> None:
        """Write files into the repository."""

    def remove(self, paths: Sequence[str], *, message: str) -> None:
        """Remove files that an earlier push wrote."""

    def pin(self, revision: str | None) -> str:
        """Fix what is read from here on, and return its commit; empty for a folder."""

    def download(self, path: str, folder: Path) -> Path | None:
        """Copy a file into a folder, under the same path, and return it; None if the repository has none such."""


def repository(name: str, *, kind: str | None, pushed_as: str = KINDS[0]) -> Repository:
    """Return a repository of the hub by its name ``user/name``, or a folder by its ``file:///`` URL.

    Args:
        name: as the user wrote it
        kind: one of `KINDS`; None for ``pushed_as`` where it is created, and for either where it is read
        pushed_as: kind that is used where none is named

    Raises:
        InputError: if it is neither
    """
    if name.startswith(FILE):
        path = unquote(urlsplit(name).path)
        if not path.startswith("/") or path == "/":
            raise InputError("LP884", f"{name} names no folder. Write it as file:///absolute/path.")
        return FolderRepository(name, Path(path))
    user, _, repo = name.partition("/")
    if not user or not repo or "/" in repo or "://" in name or user in (".", "..", "~"):
        raise InputError("LP884", f"{name} names no repository. Write it as user/name, or a folder as file:///path.")
    if kind is not None and kind not in KINDS:
        raise InputError("LP884", f"--repo-type is {kind!r}; it must be one of: {', '.join(KINDS)}.")
    return HubRepository(name, (kind,) if kind else (pushed_as, *(k for k in KINDS if k != pushed_as)))


class FolderRepository:
    """A folder that files are copied into."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def check_free(self, path: Path, files: Sequence[SharedFile]) -> None:
        """Check that the folder is not where the pushed files lie, and that it holds an earlier push or none of them.

        Raises:
            InputError: if a file would be replaced that no push has written
        """
        source, folder = path.resolve(), self.folder.resolve()
        if folder in (source, source.parent) or source in folder.parents:
            raise InputError(
                "LP884",
                f"{self.name} is where {path} itself lies, whose files would be replaced by those that are pushed. "
                "Name another folder.",
            )
        present = [file for file in files if (folder / file.path).exists()]
        if not (folder / LISTING).exists() and (others := self.differing(present)):
            raise InputError(
                "LP884",
                f"{self.name} has no {LISTING}, and its {others[0].path} would be replaced. Name an empty folder, or "
                "remove what is there.",
            )

    def create(self, *, public: bool) -> None:
        """Create the folder; its permissions are those of every new folder."""
        del public
        self.folder.mkdir(parents=True, exist_ok=True)

    def differing(self, files: Sequence[SharedFile]) -> list[SharedFile]:
        """Return those files that are missing or have another digest."""
        return [f for f in files if not has_content(self.folder / f.path, size=f.size, sha256=f.sha256)]

    def upload(self, files: Sequence[SharedFile], *, message: str, progress: NullProgress) -> None:
        """Copy files, each whole or not at all."""
        del message
        for file in files:
            path = self.folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as opened:
                opened.write(file.read())
            progress.advance()

    def remove(self, paths: Sequence[str], *, message: str) -> None:
        """Remove files."""
        del message
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    def pin(self, revision: str | None) -> str:
        """Check that no revision is named: a folder has none."""
        if revision is not None:
            raise InputError("LP884", f"{self.name} is a folder, which has no revisions. Omit --revision.")
        return ""

    def download(self, path: str, folder: Path) -> Path | None:
        """Copy a file."""
        if not (self.folder / path).is_file():
            return None
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as opened:
            opened.write((self.folder / path).read_bytes())
        return target


class HubRepository:
    """A repository of the hub, at the address in ``HF_ENDPOINT`` or its usual one."""

    def __init__(self, name: str, kinds: tuple[str, ...]) -> None:
        from huggingface_hub import HfApi

        utils: Any = import_module("huggingface_hub.utils")
        utils.disable_progress_bars()  # ours counts files
        self.name, self._kinds, self._commit = name, kinds, ""
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)

    def check_free(self, path: Path, files: Sequence[SharedFile]) -> None:
        """Check nothing: the hub keeps what is replaced as an earlier commit."""

    @property
    def _where(self) -> dict[str, Any]:
        return {"repo_id": self.name, "repo_type": self._kinds[0]}

    def create(self, *, public: bool) -> None:
        """Create the repository, private unless ``public``."""
        with self._errors():
            self._api.create_repo(**self._where, private=not public, exist_ok=True)

    def differing(self, files: Sequence[SharedFile]) -> list[SharedFile]:
        """Return those files that the hub lists not at all or with another digest."""
        with self._errors():
            listed: dict[str, Any] = {
                entry.path: entry
                for entry in self._api.list_repo_tree(**self._where, recursive=True)
                if hasattr(entry, "blob_id")
            }

        def same(file: SharedFile) -> bool:
            entry = listed.get(file.path)
            if entry is None or entry.size != file.size:
                return False
            return bool(entry.lfs.sha256 == file.sha256 if entry.lfs else entry.blob_id == _git_digest(file.read()))

        return [file for file in files if not same(file)]

    def upload(self, files: Sequence[SharedFile], *, message: str, progress: NullProgress) -> None:
        """Upload files, some at a time; large ones that the hub holds already are not sent again."""
        from huggingface_hub import CommitOperationAdd

        for first in range(0, len(files), FILES_PER_COMMIT):
            some = files[first : first + FILES_PER_COMMIT]
            added = [CommitOperationAdd(file.path, _for_hub(file.content)) for file in some]
            self._make_commit(added, message)
            progress.advance(len(some))

    def remove(self, paths: Sequence[str], *, message: str) -> None:
        """Remove files in one commit."""
        from huggingface_hub import CommitOperationDelete

        if paths:
            self._make_commit([CommitOperationDelete(path, is_folder=False) for path in paths], message)

    def pin(self, revision: str | None) -> str:
        """Return the commit of a branch, tag or commit; the latest if none is named."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        for kind in self._kinds:
            self._kinds = (kind, *(k for k in self._kinds if k != kind))
            with self._errors():
                try:
                    self._commit = str(self._api.repo_info(**self._where, revision=revision).sha)
                    return self._commit
                except RevisionNotFoundError as error:
                    raise InputError(
                        "LP884", f"{self.name} has no revision {revision!r}. Correct --revision."
                    ) from error
                except RepositoryNotFoundError:
                    continue
        raise InputError(
            "LP884",
            f"{self.name} does not exist at {self._api.endpoint}, or is private. Correct its name, or log in by "
            "hf auth login.",
        )

    def download(self, path: str, folder: Path) -> Path | None:
        """Download a file at the commit that `pin` found."""
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with self._errors():
            try:
                return Path(
                    self._api.hf_hub_download(**self._where, filename=path, revision=self._commit, local_dir=folder)
                )
            except LocalEntryNotFoundError:  # the connection, not the entry, is what is missing
                raise
            except EntryNotFoundError:
                return None

    def _make_commit(self, operations: Sequence[Any], message: str) -> None:
        with self._errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a table in a repository of models, which is intended
            self._api.create_commit(**self._where, operations=operations, commit_message=message)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn whatever the hub's client raises into one sentence."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # the client has errors of its own, and those of two libraries below it
            raise InputError(
                "LP884",
                f"{self.name} at {self._api.endpoint} can't be read or written ({first_line(error)}). Check the name, "
                "the connection and the rights of your token (hf auth login), then run the same command again; what "
                "was transferred is not sent again.",
            ) from error


def _for_hub(content: Path | bytes) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


def _git_digest(content: bytes) -> str:
    """Return the digest by which git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
