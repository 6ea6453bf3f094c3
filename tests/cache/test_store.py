"""The store: what was appended is read back, nothing else ever is."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.cache_rows import DIM, PLAN, content_hash, fill, rows

from layerprobe.probe.cache.journal import FILES, JOURNAL, CacheDamagedError
from layerprobe.probe.cache.layout import CACHE_QUARANTINE
from layerprobe.probe.cache.lease import LEASE
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.store import BLOCK, CacheMismatchError, open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError


def test_rows_come_back_as_they_were_appended(tmp_path):
    fill(tmp_path / "a.zarr", 3)
    cache = open_cache(tmp_path / "a.zarr")
    ids, hashes, embeddings = zip(*rows(3), strict=True)
    assert cache.utterance_ids.tolist() == list(ids)
    assert cache.audio_hashes.tolist() == list(hashes)
    assert cache.plan == PLAN
    for k, layer in enumerate(PLAN.layers):
        np.testing.assert_array_equal(cache.read_layer(layer), np.stack(embeddings)[:, k].reshape(3, -1))


def test_chosen_rows_are_read_in_the_order_of_the_request(tmp_path, monkeypatch):
    monkeypatch.setattr("layerprobe.probe.cache.store.READ_AT_ONCE", BLOCK)  # several reads
    fill(tmp_path / "a.zarr", 2 * BLOCK + 7)
    cache = open_cache(tmp_path / "a.zarr")
    for chosen in ([2 * BLOCK + 3, 0, BLOCK, 5], list(range(BLOCK, 2 * BLOCK))[::-1], []):
        expected = cache.read_layer("1")[np.array(chosen, dtype=int)]
        np.testing.assert_array_equal(cache.read_layer("1", np.array(chosen, dtype=int)), expected)


def test_a_notebook_finds_what_the_format_promises(tmp_path):
    fill(tmp_path / "a.zarr", 5)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group["embeddings"].shape == (5, 3, 2, DIM)
    assert group["embeddings"].chunks == (BLOCK, 1, 2, DIM)
    assert group["embeddings"].shards == (BLOCK, 3, 2, DIM)
    assert group["utterance_id"][:].tolist() == [f"ü{i}" for i in range(5)]
    assert group.attrs["layers"] == ["0", "1", "2"]
    assert group.attrs["poolings"] == ["mean", "std"]
    assert group.attrs["fingerprint"] == PLAN.fingerprint()
    assert np.isnan(group["embeddings"].fill_value)


def test_a_block_of_which_every_row_is_removed_stays_readable(tmp_path):
    fill(tmp_path / "a.zarr", BLOCK + 3)
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.drop([f"ü{k}" for k in range(BLOCK)])
    assert open_cache(tmp_path / "a.zarr").utterance_ids.tolist() == [f"ü{BLOCK + k}" for k in range(3)]
    assert not verify(tmp_path / "a.zarr")


@pytest.mark.parametrize("first", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_a_store_filled_in_two_runs_equals_one_filled_at_once(tmp_path, first):
    total = 2 * BLOCK + 10
    fill(tmp_path / "once.zarr", total)
    fill(tmp_path / "twice.zarr", first)
    fill(tmp_path / "twice.zarr", total - first, start=first)
    assert content_hash(tmp_path / "twice.zarr") == content_hash(tmp_path / "once.zarr")
    cache = open_cache(tmp_path / "twice.zarr")
    np.testing.assert_array_equal(cache.read_layer("1"), open_cache(tmp_path / "once.zarr").read_layer("1"))
    assert len(list((tmp_path / "twice.zarr" / "embeddings" / "c").iterdir())) == 3


def test_an_error_in_the_middle_loses_no_appended_row(tmp_path):
    with (  # noqa: PT012 - what is tried is an error in the middle
        pytest.raises(KeyboardInterrupt),
        CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer,
    ):
        for row in rows(7):
            writer.append(*row)
        raise KeyboardInterrupt
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 7


def test_a_block_that_the_journal_does_not_name_is_never_read(tmp_path):
    fill(tmp_path / "a.zarr", BLOCK + 5)
    whole = content_hash(tmp_path / "a.zarr")
    journal = tmp_path / "a.zarr" / JOURNAL
    journal.write_text(journal.read_text().splitlines()[0] + "\n")  # killed before the last line
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == BLOCK
    fill(tmp_path / "a.zarr", 5, start=BLOCK)
    assert content_hash(tmp_path / "a.zarr") == whole


@pytest.mark.parametrize("tail", [b'{"block": 1, "ro', b"\0\0\0\0", b"\n\n", b'{"block": 1}\n', b"garbage"])
def test_a_torn_last_line_is_left_out(tmp_path, tail):
    fill(tmp_path / "a.zarr", 5)
    with (tmp_path / "a.zarr" / JOURNAL).open("ab") as journal:
        journal.write(tail)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 5
    fill(tmp_path / "a.zarr", 2, start=5)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 7


def test_a_broken_line_in_the_middle_is_damage(tmp_path):
    fill(tmp_path / "a.zarr", 5)
    journal = tmp_path / "a.zarr" / JOURNAL
    journal.write_text("broken\n" + journal.read_text())
    with pytest.raises(CacheDamagedError, match=r"journal.jsonl, line 1 can't be read"):
        open_cache(tmp_path / "a.zarr")


@pytest.mark.parametrize("byte", [0, 100, -1, -60])
def test_a_flipped_bit_is_never_read(tmp_path, byte):
    fill(tmp_path / "a.zarr", 5)
    shard = tmp_path / "a.zarr" / "embeddings" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[byte] ^= 4
    shard.write_bytes(content)
    cache = open_cache(tmp_path / "a.zarr")
    with pytest.raises(
        CacheDamagedError, match=r"embeddings is damaged .*Run layerprobe cache verify to see what is damaged"
    ):
        [cache.read_layer(layer) for layer in PLAN.layers]


def test_a_missing_block_is_never_read_as_numbers(tmp_path):
    fill(tmp_path / "a.zarr", BLOCK + 5)
    (tmp_path / "a.zarr" / "embeddings" / "c" / "1" / "0" / "0" / "0").unlink()
    with pytest.raises(CacheDamagedError, match=rf"5 rows from {BLOCK} on are missing"):
        open_cache(tmp_path / "a.zarr").read_layer("0")


def test_another_plan_is_refused_with_the_field_that_differs(tmp_path):
    fill(tmp_path / "a.zarr", 3)
    before = content_hash(tmp_path / "a.zarr")
    other = replace(PLAN, poolings=("mean",), libraries="torch 2.12")
    with pytest.raises(CacheMismatchError) as caught:
        fill(tmp_path / "a.zarr", 1, plan=other)
    assert str(caught.value) == (
        f"{tmp_path / 'a.zarr'} was extracted with poolings mean, std, not mean; "
        "libraries 'torch 2.11', not 'torch 2.12'. Name another --out, or request what it holds. [LP403]"
    )
    assert content_hash(tmp_path / "a.zarr") == before


def test_two_writers_at_once_are_refused(tmp_path):
    with (
        CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM),
        pytest.raises(InputError, match="is being written by another"),
    ):
        fill(tmp_path / "a.zarr", 1)
    fill(tmp_path / "a.zarr", 1)  # the lock is gone with its owner


def test_what_is_no_cache_is_refused_and_left_alone(tmp_path):
    with pytest.raises(InputError, match=r"is no cache of embeddings. Make one with layerprobe extract"):
        open_cache(tmp_path / "none.zarr")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="thesis exists and is no cache"):
        fill(tmp_path / "thesis", 1)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
    (tmp_path / "thesis" / "chapter.txt").rename(tmp_path / "chapter.txt")
    (tmp_path / "thesis" / FILES).mkdir()
    (tmp_path / "chapter.txt").rename(tmp_path / "thesis" / FILES / "chapter.txt")  # a folder of the same name as ours
    with pytest.raises(InputError, match="thesis exists and is no cache"):
        fill(tmp_path / "thesis", 1)


def test_a_store_of_other_software_is_left_alone_and_one_cut_short_is_made_anew(tmp_path):
    theirs = zarr.open_group(tmp_path / "theirs.zarr", mode="w", zarr_format=3)
    theirs.create_array("embeddings", shape=(2,), dtype="float32")[:] = 7
    with pytest.raises(InputError, match=r"theirs.zarr exists and is no cache"):
        fill(tmp_path / "theirs.zarr", 1)
    assert theirs["embeddings"][:].tolist() == [7, 7]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file exists and is no cache"):
        fill(tmp_path / "file", 1)
    fill(tmp_path / "ours.zarr", 0)
    (tmp_path / "ours.zarr" / JOURNAL).unlink()  # killed while it was being made
    fill(tmp_path / "ours.zarr", 2)
    (tmp_path / "ours.zarr" / JOURNAL).unlink()  # lost: the rows can't be vouched for, nor thrown away
    with pytest.raises(InputError, match=r"ours.zarr exists and is no cache"):
        fill(tmp_path / "ours.zarr", 2)
    (tmp_path / "ours.zarr" / JOURNAL).write_text('{"format_version": 2, "block": 0, "rows": 2}\n')
    assert len(open_cache(tmp_path / "ours.zarr").utterance_ids) == 2


def test_a_cache_of_another_format_is_refused(tmp_path):
    fill(tmp_path / "a.zarr", 1)
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["format_version"] = 99
    for use in (open_cache, verify, lambda path: fill(path, 1)):
        with pytest.raises(InputError, match=r"has format 99, but this version .* reads format 2: make .* extract"):
            use(tmp_path / "a.zarr")


def test_every_line_and_table_states_the_format_version(tmp_path):
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.append(*next(rows(1)))
        writer.refuse("ü9", "x.wav", "silent")
        assert json.loads((tmp_path / "a.zarr" / LEASE).read_text())["format_version"] == 2
    (line,) = (tmp_path / "a.zarr" / JOURNAL).read_text().splitlines()
    assert json.loads(line)["format_version"] == 2
    quarantine = (tmp_path / "a.zarr" / CACHE_QUARANTINE).read_text()
    assert quarantine == "utterance_id,path,reason,format_version\nü9,x.wav,silent,2\n"
    assert list(open_cache(tmp_path / "a.zarr").quarantine) == ["utterance_id", "path", "reason"]


@pytest.mark.parametrize(
    ("name", "old", "new", "has"),
    [
        (JOURNAL, '"format_version": 2', '"format_version": 3', "format 3"),
        (JOURNAL, '"format_version": 2, ', "", "no format_version"),
        (CACHE_QUARANTINE, "silent,2", "silent,3", "format 3"),
        (CACHE_QUARANTINE, "format_version", "version", "no format_version"),
    ],
)
def test_a_file_of_another_format_version_is_refused_in_one_sentence(tmp_path, name, old, new, has):
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.append(*next(rows(1)))
        writer.refuse("ü9", "x.wav", "silent")
    file = tmp_path / "a.zarr" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError) as caught:
        open_cache(tmp_path / "a.zarr")
    assert str(caught.value) == (
        f"{file} has {has}, but this version of layerprobe reads format 2: make the cache anew with layerprobe "
        "extract and another --out. [LP402]"
    )


def test_a_cache_of_another_version_is_one_sentence(tmp_path):
    fill(tmp_path / "a.zarr", 1)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    plan = dict(group.attrs["plan"])
    del plan["adapter"]
    group.attrs["plan"] = plan | {"newer": 1}
    for work in (open_cache, lambda path: fill(path, 1)):
        with pytest.raises(
            InputError, match=r"made by another version, whose plans differ in adapter, newer\. Make the cache anew"
        ):
            work(tmp_path / "a.zarr")


def test_the_quarantine_is_read_back_as_text(tmp_path):
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.append(*next(rows(1)))
        writer.refuse("007", "x/y.wav", "silent, maybe")
    table = open_cache(tmp_path / "a.zarr").quarantine
    assert table.to_dict("records") == [{"utterance_id": "007", "path": "x/y.wav", "reason": "silent, maybe"}]


def test_an_empty_cache_has_no_rows(tmp_path):
    fill(tmp_path / "a.zarr", 0)
    cache = open_cache(tmp_path / "a.zarr")
    assert cache.read_layer("2").shape == cache.frame(2).shape == (0, 2 * DIM)
    assert (len(cache), cache.n_removed) == (0, 0)
    assert "0 utterances" in repr(cache)


def test_rows_stored_as_float16_are_removed_like_others(tmp_path):
    plan = replace(PLAN, storage_dtype="float16")
    fill(tmp_path / "a.zarr", 3, plan=plan)
    with CacheWriter(tmp_path / "a.zarr", plan, dim=DIM) as writer:
        writer.drop({"ü0"})
    assert verify(tmp_path / "a.zarr") == []
    expected = np.stack([e[1] for *_, e in rows(3)]).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(open_cache(tmp_path / "a.zarr").read_layer(1), expected.reshape(3, -1)[1:])


def test_a_full_disk_stops_the_work_and_keeps_what_was_written(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    size = 3 * BLOCK * 3 * 2 * DIM * 4  # enough for two blocks and some change
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mount], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        with pytest.raises(OSError, match="No space left") as caught:
            fill(mount / "a.zarr", 6 * BLOCK)
        assert caught.value.errno == errno.ENOSPC
        n = len(open_cache(mount / "a.zarr").utterance_ids)
        assert n >= BLOCK
        cache = open_cache(mount / "a.zarr")
        expected = np.stack([e[1] for _, _, e in rows(n)]).reshape(n, -1)
        np.testing.assert_array_equal(cache.read_layer("1"), expected)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_the_plan_survives_its_journey_through_json():
    assert ExtractionPlan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN
    assert PLAN.n_blocks == 2
    assert replace(PLAN, layers=(*PLAN.layers, "final")).n_blocks == 2


def test_files_are_synced_before_the_journal_names_them(tmp_path, monkeypatch):
    """The order is the promise: shard, then journal."""
    order = []
    real = os.fsync

    def noted(descriptor):
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path / "a.zarr").as_posix())
        real(descriptor)

    monkeypatch.setattr("layerprobe.probe.filesystem.os.fsync", noted)
    fill(tmp_path / "a.zarr", 2)
    assert order.index("embeddings/c/0/0/0/0") < order.index("utterance_id/c/0") < order.index(JOURNAL)
