"""Resolution of a model's name to a folder or a commit on the hub, with clear messages where that fails.

A checkpoint that is a pickle can run code when it is read, and a model's folder can bring code to be run. Both are
refused unless the user allows them for the whole process (`trust`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from layerprobe.probe.exceptions import InputError

TRUST = {"pickle": "LAYERPROBE_TRUST_PICKLE", "remote_code": "LAYERPROBE_TRUST_REMOTE_CODE"}


def trust(kind: str) -> None:
    """Allow ``pickle`` or ``remote_code`` in this process and in those that it starts."""
    os.environ[TRUST[kind]] = "1"


def trusted(kind: str) -> bool:
    """Return whether ``pickle`` or ``remote_code`` is allowed, by `trust` or by the environment."""
    return os.environ.get(TRUST[kind]) == "1"


def hub_commit(name: str, *, kind: str = "encoder") -> tuple[str, str, Path]:
    """Return the repository and commit of a hub name with an optional ``@revision``, and the folder of the hub's cache.

    A branch or tag is resolved to its commit once, here.

    Raises:
        InputError: if the name is a path to no folder
    """
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise InputError("LP300", f"{kind} {name}: no such folder. Give a transformers folder or a hub name.")
    try:
        config = hf_hub_download(repository, "config.json", revision=revision or None)
    except EntryNotFoundError as error:
        try:  # a repository that holds a PEFT adapter alone
            offline = isinstance(error, LocalEntryNotFoundError)  # a second try would wait for the connection again
            config = hf_hub_download(
                repository, "adapter_config.json", revision=revision or None, local_files_only=offline
            )
        except EntryNotFoundError:
            raise error from None
    return repository, Path(config).parent.name, Path(config).parent


def find_file(source: str, file: str, *, revision: str | None) -> Path | None:
    """Return the path of a file of a model's folder, or of its hub repository at a commit; None where it has none.

    Without a connection, None is also returned where the file is not in the hub's cache.
    """
    if Path(source).is_dir():
        return Path(source) / file if os.path.lexists(Path(source) / file) else None
    try:
        return Path(hf_hub_download(source, file, revision=revision))
    except EntryNotFoundError:
        return None


def has_file(source: str, file: str, *, revision: str | None) -> bool:
    """Return whether a model's folder, or its hub repository at a commit, holds a file.

    Without a connection the answer is True unless the hub's cache records that the file does not exist.
    """
    if Path(source).is_dir():
        return (Path(source) / file).is_file()
    try:
        hf_hub_download(source, file, revision=revision)
    except LocalEntryNotFoundError:
        return try_to_load_from_cache(source, file, revision=revision) is not _CACHED_NO_EXIST
    except EntryNotFoundError:
        return False
    return True


@contextmanager
def quiet_transformers(*, bars: bool) -> Iterator[None]:
    """Silence transformers' reports, and its progress bars unless wanted; errors of this package name what matters."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
