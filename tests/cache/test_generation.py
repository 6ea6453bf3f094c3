"""A cache that is changed while it is open is never read as if it were as before."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.cache_rows import DIM, PLAN, content_hash, fill

from layerprobe.probe.cache.compact import compact
from layerprobe.probe.cache.compaction import compaction_folders
from layerprobe.probe.cache.generation import GENERATION, CacheChangedError, read_generation, start_generation
from layerprobe.probe.cache.layout import CacheMismatchError
from layerprobe.probe.cache.lease import LEASE, leased
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError


@pytest.fixture
def path(tmp_path, monkeypatch):
    for module in ("create", "store", "writer", "verify", "compact"):
        monkeypatch.setattr(f"layerprobe.probe.cache.{module}.BLOCK", 4)
    fill(tmp_path / "a.zarr", 10)
    return tmp_path / "a.zarr"


def drop(path, *utterance_ids):
    with CacheWriter(path, PLAN, dim=DIM) as writer:
        writer.drop(utterance_ids)


def replace(path, utterance_id):
    with CacheWriter(path, PLAN, dim=DIM) as writer:
        writer.append(utterance_id, "other", np.ones((3, 2, DIM), dtype=np.float32))


def extract_anew(path):
    shutil.rmtree(path)
    fill(path, 10, start=100)


@pytest.mark.parametrize(
    "change",
    [
        compact,
        lambda path: drop(path, "ü5"),
        lambda path: replace(path, "ü5"),
        lambda path: replace(path, "ü9"),
        extract_anew,
    ],
    ids=["compacted", "removed", "replaced", "replaced in the last block", "extracted anew"],
)
def test_rows_that_were_changed_or_moved_since_the_opening_are_never_returned(path, change):
    drop(path, "ü0", "ü1")  # a compaction moves every row after these
    cache = open_cache(path)
    before = cache.read_layer("1")
    labelled = cache.to_xarray()
    change(path)
    for read in (
        lambda: cache.read_layer("1"),
        lambda: cache.read_rows(np.arange(2)),
        lambda: cache.frame("1", "mean"),
        lambda: labelled[:, 1].to_numpy(),
        lambda: pickle.loads(pickle.dumps(cache)).read_layer("1"),  # as a worker process reads
    ):
        with pytest.raises(CacheChangedError, match="has changed since it was opened"):
            read()
    again = open_cache(path)
    assert (change is compact) == np.array_equal(again.read_layer("1"), before)


def test_rows_that_are_appended_leave_open_caches_as_they_are(path):
    cache = open_cache(path)
    before = cache.read_layer("2")
    fill(path, 5, start=10)
    np.testing.assert_array_equal(cache.read_layer("2"), before)
    assert open_cache(path).n_utterances == 15


def test_a_change_in_the_middle_of_a_read_is_seen(path, monkeypatch):
    monkeypatch.setattr("layerprobe.probe.cache.store.READ_AT_ONCE", 4)
    drop(path, "ü0")
    cache = open_cache(path)
    from layerprobe.probe.cache import store

    read_array, calls = store.read_array, []

    def read(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            compact(path)
        return read_array(*arguments, **options)

    monkeypatch.setattr(store, "read_array", read)
    with pytest.raises(CacheChangedError):
        cache.read_layer("0")
    assert len(calls) >= 2


def test_a_cache_opened_by_a_link_that_names_another_now_is_refused(path, tmp_path):
    fill(tmp_path / "b.zarr", 10, start=100)
    link = tmp_path / "latest.zarr"
    link.symlink_to(path)
    cache = open_cache(link)
    link.unlink()
    link.symlink_to(tmp_path / "b.zarr")
    with pytest.raises(CacheChangedError):
        cache.read_layer("0")


def test_a_link_to_a_cache_stays_a_link_when_the_cache_is_compacted(path, tmp_path):
    link = tmp_path / "elsewhere" / "latest.zarr"
    link.parent.mkdir()
    link.symlink_to(path)
    drop(path, "ü0")
    fill(tmp_path / "expected.zarr", 9, start=1)
    assert compact(link) >= 0
    assert link.is_symlink()
    assert content_hash(path) == content_hash(tmp_path / "expected.zarr")
    fresh, old = compaction_folders(path)
    path.rename(old)
    shutil.copytree(old, fresh)  # as a kill between the two renamings leaves it
    fill(link, 1, start=20)
    assert open_cache(path).n_utterances == 10
    assert not old.exists()


def test_no_cache_is_opened_while_rows_are_changed_and_any_after_a_kill(path):
    with leased(path):
        start_generation(path, rewriting=True)
        with pytest.raises(InputError, match="while another process replaces or removes utterances"):
            open_cache(path)
    shutil.copytree(path, path.with_name("killed.zarr"))
    cache = open_cache(path.with_name("killed.zarr"))  # no process holds its lease
    assert cache.n_utterances == 10
    fill(path.with_name("killed.zarr"), 0)
    assert not read_generation(path.with_name("killed.zarr")).rewriting
    with pytest.raises(CacheChangedError):
        cache.read_layer("0")


def test_a_writer_that_died_in_a_rewriting_leaves_a_cache_that_the_next_one_finishes(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):  # noqa: PT012 - the exit writes, too
        patch.setattr("layerprobe.probe.cache.writer.digest_of", full)
        drop(path, "ü5")
    assert read_generation(path).rewriting
    assert not (path / LEASE).exists()
    assert "ü5" not in open_cache(path).utterance_ids
    fill(path, 0)
    assert not read_generation(path).rewriting
    assert verify(path) == []


@pytest.mark.parametrize("content", [None, b"", b"\0\0", b"[]", b"<html>"])
def test_a_generation_that_is_lost_or_unreadable_costs_no_row(path, content):
    (path / GENERATION).unlink()
    if content is not None:
        (path / GENERATION).write_bytes(content)
    cache = open_cache(path)
    assert cache.read_layer("0").shape == (10, 2 * DIM)
    drop(path, "ü5")
    with pytest.raises(CacheChangedError):
        cache.read_layer("0")


def test_a_verification_during_which_rows_change_reports_no_damage(path, monkeypatch):
    from layerprobe.probe.cache import verify as module

    damages, done = module._damages, []

    def change_then_read(*arguments):
        if not done:
            done.append(drop(path, "ü5"))
        return damages(*arguments)

    monkeypatch.setattr(module, "_damages", change_then_read)
    with pytest.raises(CacheChangedError):
        verify(path)


@pytest.mark.parametrize(
    "error",
    [
        CacheChangedError(Path("a.zarr")),
        CacheMismatchError(Path("a.zarr"), PLAN, dataclasses.replace(PLAN, precision="bfloat16")),
    ],
)
def test_an_error_of_a_worker_process_is_worded_as_it_was(error):
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_rows_have_one_fingerprint_in_any_order_and_another_for_other_recordings(path):
    cache = open_cache(path)
    ids = cache.utterance_ids
    assert cache.rows_fingerprint() == cache.rows_fingerprint(ids[::-1])
    some = cache.rows_fingerprint(ids[:5])
    fill(path, 5, start=10)
    assert open_cache(path).rows_fingerprint(ids[:5]) == some
    assert open_cache(path).rows_fingerprint() != cache.rows_fingerprint()
    replace(path, "ü2")
    assert open_cache(path).rows_fingerprint(ids[:5]) != some
    drop(path, "ü0")
    assert open_cache(path).rows_fingerprint(["ü0"]) != cache.rows_fingerprint(["ü0"])
