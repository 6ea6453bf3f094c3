"""A run or a cache as it is pushed: its files with their digests, checked, and what stays behind."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from layerprobe.probe.cache.layout import CACHE_QUARANTINE, METADATA, open_array, open_group, read_array
from layerprobe.probe.cache.lease import LEASE
from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE, is_remote, sha256_of
from layerprobe.probe.lease import RUN_LEASE, is_held
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_files import LISTED, NOT_PUSHED, PLAN, WHOLE, RunFile, checked_file, read_files
from layerprobe.probe.results.run_folder import PEAK_SPANS, Run, read_run
from layerprobe.probe.toml import toml_document
from layerprobe.sharing.contents import CACHE_FILES, RUN_FILES, Allowed, Rule, rule_of
from layerprobe.sharing.redaction import (
    json_without_paths,
    plan_without_people,
    quarantine_table,
    settings_without_paths,
    without_labels,
    without_paths,
)

CACHE, RUN, TRAINED = "cache", "run", "trained regressor"
REGRESSOR = "regressor.json"
MODEL_SETTINGS = ("config.json", "preprocessor_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class SharedFile:
    """A file as it is pushed."""

    path: str  # in the repository, with /
    content: Path | bytes  # of the file itself, or of what is pushed instead
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: Path | bytes) -> SharedFile:
        """Return a file with its size and digest."""
        if isinstance(content, bytes):
            return cls(path, content, len(content), hashlib.sha256(content).hexdigest())
        return cls(path, content, content.stat().st_size, sha256_of(content))

    def read(self) -> bytes:
        """Return the bytes that are pushed."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Source:
    """A run or a cache that can be pushed."""

    kind: str  # `CACHE`, `RUN` or `TRAINED`
    path: Path
    fingerprint: str
    files: tuple[SharedFile, ...]
    left_out: tuple[tuple[str, Rule], ...]  # files that stay, with their rules
    opened: Run | Cache

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name


def read_source(path: Path, allowed: Allowed, *, progress: NullProgress | None = None) -> Source:
    """Check a run or a cache and return it as it is pushed.

    Args:
        path: run folder or cache
        allowed: what is included in addition to what always is
        progress: receives the progress of checking a cache

    Raises:
        InputError: if it is neither, is damaged, is being written, or holds what has not been allowed
    """
    if is_remote(path):
        raise InputError("LP885", f"{path} is in an object store. Copy it into a folder, then push that.")
    if (path / PLAN).is_file():
        return _run(path, allowed)
    if (path / METADATA).is_file():
        return _cache(path, allowed, progress)
    what = "is a file" if path.is_file() else "has no plan.toml and no zarr.json" if path.exists() else "does not exist"
    raise InputError(
        "LP885", f"{path} is neither a run nor a cache: it {what}. Name a folder that sweep, train or extract made."
    )


def _run(path: Path, allowed: Allowed) -> Source:
    if is_held(path / RUN_LEASE):
        raise InputError("LP885", f"{path} is being written by another process. Push it when that has ended.")
    run = read_run(path)
    if run.pending:
        raise InputError(
            "LP885", f"{path} is unfinished: {', '.join(run.pending)} are missing. Resume it by the same command first."
        )
    listed = read_files(path, run.fingerprint)
    absent = run.plan.get(NOT_PUSHED, [])
    for name in listed:
        if name not in absent:
            checked_file(path, name, listed, run.fingerprint)
    files, left_out = [], []
    for name, file in _below(path):
        rule = rule_of(name, RUN_FILES)
        if not allowed.includes(rule):
            left_out.append((name, rule))
        elif name != PLAN:
            files.append(SharedFile.of(name, _run_content(name, file, allowed)))
    plan = SharedFile.of(PLAN, _plan_content(path, listed, files))
    kind = TRAINED if (path / REGRESSOR).is_file() else RUN
    return Source(kind, path, run.fingerprint, (*files, plan), tuple(left_out), run)


def _run_content(name: str, file: Path, allowed: Allowed) -> Path | bytes:
    """Return a file of a run, or what is pushed in its place."""
    if name == QUARANTINE:
        return quarantine_table(file.read_bytes(), keep_ids=allowed.predictions, keep_labels=allowed.transcripts)
    if name == PEAK_SPANS and not allowed.transcripts:
        return without_labels(file.read_bytes())
    if name == REGRESSOR:
        return json_without_paths(file.read_bytes())
    return settings_without_paths(file.read_bytes()) if file.name in MODEL_SETTINGS else file


def _plan_content(path: Path, listed: dict[str, RunFile], files: list[SharedFile]) -> bytes:
    """Return plan.toml as it is pushed: sizes and digests of the files that are, and the names of those that are not.

    What every run has stays listed with its digest, so that the file can be recognised if it is given later.
    """
    plan = tomllib.loads((path / PLAN).read_text(encoding="utf-8"))
    plan.pop(LISTED)
    shared = {file.path: file for file in files}
    missing = [name for name in listed if name not in shared and name in WHOLE]
    entries = []
    for name, file in listed.items():
        if found := shared.get(name):
            entries.append(asdict(file) | {"bytes": found.size, "sha256": found.sha256})
        elif name in missing:
            entries.append(asdict(file))
    plan = plan_without_people(without_paths(plan)) | ({NOT_PUSHED: missing} if missing else {})
    return toml_document(plan | {LISTED: entries}).encode()


def _cache(path: Path, allowed: Allowed, progress: NullProgress | None) -> Source:
    cache = open_cache(path)
    if is_held(path / LEASE):
        raise InputError("LP885", f"{path} is being written by another process. Push it when that has ended.")
    if cache.plan.text_column is not None and not allowed.transcripts:
        raise InputError(
            "LP882",
            f"{path} holds embeddings of transcripts (column {cache.plan.text_column}), from which most of the text "
            "can be recovered. Add --with-transcripts if the corpus' licence allows to pass it on.",
        )
    if damages := verify(path, progress=progress):
        raise InputError("LP832", f"{path}: {len(damages)} files are damaged. Repair them: layerprobe cache repair.")
    if cache.spans is not None and not allowed.transcripts and (n := n_labels(cache)):
        raise InputError(
            "LP882",
            f"{path} holds the labels of {n} spans with their times, which are the transcript where spans are "
            "of spoken text. Add --with-transcripts if the corpus' licence allows to pass them on.",
        )
    files, left_out = [], []
    for name, file in _below(path):
        rule = rule_of(name, CACHE_FILES)
        if not allowed.includes(rule):
            left_out.append((name, rule))
            continue
        content: Path | bytes = file
        if name == METADATA:
            content = settings_without_paths(file.read_bytes())
        elif name == CACHE_QUARANTINE:
            content = quarantine_table(file.read_bytes(), keep_ids=True, keep_labels=allowed.transcripts)
        files.append(SharedFile.of(f"{path.resolve().name}/{name}", content))
    return Source(CACHE, path, cache.plan.fingerprint(), tuple(files), tuple(left_out), cache)


def n_labels(cache: Cache) -> int:
    """Return how many rows of a span cache have a label on disk, also of utterances of which a span is missing."""
    array = open_array(open_group(cache.path, "r"), "label")
    return int((read_array(cache.path, array, slice(0, array.shape[0])).astype(object) != "").sum())


def _below(path: Path) -> list[tuple[str, Path]]:
    """Return the files below a folder by their relative names, in order; links to files outside are none of them."""
    root = path.resolve()
    found = [file for file in path.rglob("*") if file.is_file() and file.resolve().is_relative_to(root)]
    return sorted((file.relative_to(path).as_posix(), file) for file in found)
