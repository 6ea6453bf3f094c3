"""Maintenance of a cache: rows are replaced and removed, damage is found, named and repaired."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import zarr
from helpers.cache_rows import DIM, PLAN, content_hash, fill, rows
from helpers.command_line import script_environment
from helpers.speech_models import load_exact

import layerprobe.probe.cache.compact
import layerprobe.probe.cache.create
import layerprobe.probe.cache.store
import layerprobe.probe.cache.verify
import layerprobe.probe.cache.writer
import layerprobe.probe.extraction.repair
import layerprobe.probe.extraction.repaired_blocks
from layerprobe.probe.cache.compact import compact
from layerprobe.probe.cache.compaction import compaction_folders, resume_compaction
from layerprobe.probe.cache.journal import JOURNAL, CacheDamagedError
from layerprobe.probe.cache.layout import ARRAYS
from layerprobe.probe.cache.store import CacheMismatchError, block_file, open_cache
from layerprobe.probe.cache.verify import differences, verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.extraction.repair import repair

SMALL = 4  # utterances in a block


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (
        layerprobe.probe.cache.create,
        layerprobe.probe.cache.store,
        layerprobe.probe.cache.writer,
        layerprobe.probe.cache.compact,
        layerprobe.probe.cache.verify,
        layerprobe.probe.extraction.repair,
        layerprobe.probe.extraction.repaired_blocks,
    ):
        monkeypatch.setattr(module, "BLOCK", SMALL)


@pytest.mark.parametrize("place", [1, 5, 9])
def test_a_replaced_row_is_as_if_it_had_been_written_so_at_first(tmp_path, small_blocks, place):
    ids, _, old = zip(*rows(10), strict=True)
    new = old[place] + 1
    with CacheWriter(tmp_path / "once.zarr", PLAN, dim=DIM) as writer:
        for k, row in enumerate(rows(10)):
            writer.append(*(row if k != place else (ids[place], "another", new)))
    fill(tmp_path / "a.zarr", 10)
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.append(ids[place], "another", new)
        assert writer.cached[ids[place]] == "another"
    assert content_hash(tmp_path / "a.zarr") == content_hash(tmp_path / "once.zarr")
    assert verify(tmp_path / "a.zarr") == []


def test_removed_rows_are_read_no_more_and_a_compaction_frees_their_space(tmp_path, small_blocks):
    path = tmp_path / "a.zarr"
    fill(path, 10)
    ids = open_cache(path).utterance_ids.tolist()
    gone = {ids[0], ids[5], ids[9]}
    with CacheWriter(path, PLAN, dim=DIM) as writer:
        writer.drop(gone)
        writer.append(*list(rows(12))[11])
        writer.refuse("ü99", "x.wav", "silent")
    cache = open_cache(path)
    expected = [row for row in rows(12) if row[0] not in gone | {"ü10"}]
    assert cache.utterance_ids.tolist() == [row[0] for row in expected]
    np.testing.assert_array_equal(cache.read_layer("1"), np.stack([row[2][1].ravel() for row in expected]))
    chosen = np.array([6, 0])
    np.testing.assert_array_equal(cache.read_layer("1", chosen), cache.read_layer("1")[chosen])
    assert cache.n_rows == 11
    assert verify(path) == []
    freed = compact(path)
    assert freed > 0
    with CacheWriter(tmp_path / "once.zarr", PLAN, dim=DIM) as writer:
        for row in expected:
            writer.append(*row)
    assert content_hash(path) == content_hash(tmp_path / "once.zarr")
    assert open_cache(path).quarantine["utterance_id"].tolist() == ["ü99"]
    assert [p.name for p in tmp_path.iterdir() if "a.zarr" in p.name] == ["a.zarr"]


def test_an_utterance_that_is_refused_now_loses_the_row_that_it_had(tmp_path):
    fill(tmp_path / "a.zarr", 3)
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.refuse("ü1", "x.wav", "silent")
    assert open_cache(tmp_path / "a.zarr").utterance_ids.tolist() == ["ü0", "ü2"]


def test_a_compaction_that_was_killed_is_finished_by_the_next_run(tmp_path):
    path = tmp_path / "a.zarr"
    fill(path, 3)
    before = content_hash(path)
    fresh, old = compaction_folders(path)
    fill(fresh, 3)
    path.rename(old)  # killed between the two renamings
    resume_compaction(path)
    assert content_hash(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


FAULTS = ("flip", "halve", "empty", "delete", "swap")


def damage(file, fault, other):
    content = file.read_bytes()
    if fault == "flip":
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif fault == "halve":
        file.write_bytes(content[: len(content) // 2])
    elif fault == "empty":
        file.write_bytes(b"")
    elif fault == "delete":
        file.unlink()
    else:
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_to_every_file_in_turn_is_found_and_repaired_to_the_same_bytes(
    ten_voices, folders, tmp_path, small_blocks, fault
):
    encoder, path = load_exact(folders["hubert"]), tmp_path / "a.zarr"
    extract(ten_voices, encoder, path)
    whole, ids = content_hash(path), open_cache(path).utterance_ids.tolist()
    for array in ("embeddings", "utterance_id", "audio_hash"):
        for block in range(3):
            if fault == "swap" and block == 2:
                continue  # the last block has other rows: swapped it is simply damaged
            file, other = block_file(path, array, block), block_file(path, array, 1 - block % 2)
            damage(file, fault, other)
            found = verify(path)
            hit = {block, 1 - block} if fault == "swap" else {block}
            assert {d.block for d in found} == hit
            assert {d.array for d in found} == {array}
            if array != "utterance_id":
                expected = [u for b in sorted(hit) for u in ids[b * SMALL : (b + 1) * SMALL]]
                assert [u for d in found for u in d.utterance_ids] == expected
            done = repair(path, ten_voices, encoder)
            assert done.n_encoded == sum(len(ids[b * SMALL : (b + 1) * SMALL]) for b in hit)
            assert verify(path) == []
            assert content_hash(path) == whole


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *product(("layer", "pooling", "extraction"), ("flip", "halve", "empty", "delete")),
        # a flipped bit may leave valid JSON, which is reported and not repaired
        *product(ARRAYS, ("halve", "empty", "delete")),
    ],
)
def test_damage_to_metadata_and_to_names_of_layers_is_found_and_repaired(ten_voices, folders, tmp_path, name, fault):
    encoder, path = load_exact(folders["hubert"]), tmp_path / "a.zarr"
    extract(ten_voices, encoder, path)
    whole, journal = content_hash(path), (path / JOURNAL).read_text()
    metadata = {file: file.read_text() for file in path.rglob("zarr.json")}
    for file in [path / name / "zarr.json", *path.glob(f"{name}/c/0")]:
        if name in ARRAYS and file.name == "0":
            continue  # a block of utterances
        damage(file, fault, None)
        (found,) = verify(path)
        assert (found.array, found.block, found.utterance_ids) == (name, None, ())
        assert found.summary().startswith(f"{name}: ")
        done = repair(path, ten_voices, encoder)
        assert (done.damages, done.n_encoded) == ([found], 0)
        assert verify(path) == []
        assert content_hash(path) == whole
        assert {file: file.read_text() for file in metadata} == metadata
        assert (path / JOURNAL).read_text() == journal


def test_names_of_layers_that_are_not_those_of_the_plan_are_damage(tmp_path):
    fill(tmp_path / "a.zarr", 3)
    zarr.open_group(tmp_path / "a.zarr", mode="r+", use_consolidated=False)["layer"][1] = "7"
    (found,) = verify(tmp_path / "a.zarr")
    assert found.summary() == "layer: its values are not those of the plan"


def test_a_writer_names_metadata_that_are_gone(tmp_path):
    fill(tmp_path / "a.zarr", 3)
    (tmp_path / "a.zarr" / "pooling" / "zarr.json").unlink()
    with pytest.raises(CacheDamagedError, match=r"metadata of an array can't be read .*pooling.*cache verify"):
        fill(tmp_path / "a.zarr", 5)


@pytest.mark.parametrize("content", ["{", "null", "[]", '{"shape": 3}'])
def test_a_reader_names_metadata_that_can_not_be_read(tmp_path, content):
    fill(tmp_path / "a.zarr", 3)
    (tmp_path / "a.zarr" / "embeddings" / "zarr.json").write_text(content)
    with pytest.raises(CacheDamagedError, match=r"the metadata of embeddings can't be read .*cache verify"):
        open_cache(tmp_path / "a.zarr")


def test_a_flipped_bit_is_reported_for_its_layer(tmp_path):
    fill(tmp_path / "a.zarr", 6)
    file = block_file(tmp_path / "a.zarr", "embeddings", 0)
    content = bytearray(file.read_bytes())
    chunk = (len(content) - 3 * 16 - 4) // 3  # three layers, then their index
    content[chunk + 10] ^= 1
    file.write_bytes(content)
    (found,) = verify(tmp_path / "a.zarr")
    assert found.layers == ("1",)
    assert found.summary() == "block 0, embeddings, layers 1: the file is damaged; ü0, ü1, ü2 and 3 more"
    np.testing.assert_array_equal(open_cache(tmp_path / "a.zarr").read_layer("0").shape, (6, 2 * DIM))


def test_a_repair_needs_what_made_the_cache(ten_voices, folders, tmp_path, small_blocks):
    path = tmp_path / "a.zarr"
    extract(ten_voices, load_exact(folders["hubert"]), path)
    with pytest.raises(CacheMismatchError, match="random_init None, not 0"):
        repair(path, ten_voices, load_exact(folders["hubert"], random_init=0))
    block_file(path, "embeddings", 1).unlink()
    few = replace(ten_voices, table=ten_voices.table[:6])
    with pytest.raises(InputError, match=r"^2 damaged utterances are not in the manifest \(first: u6\)"):
        repair(path, few, load_exact(folders["hubert"]))
    block_file(path, "utterance_id", 1).unlink()
    with pytest.raises(InputError, match=r"4 rows from 4 on have lost their ids, and 2 utterances"):
        repair(path, few, load_exact(folders["hubert"]))


def test_an_audio_file_that_is_missing_in_a_repair_is_quarantined(ten_voices, folders, tmp_path, small_blocks):
    path, encoder = tmp_path / "a.zarr", load_exact(folders["hubert"])
    extract(ten_voices, encoder, path)
    block_file(path, "embeddings", 0).unlink()
    table = ten_voices.table.copy()
    table.loc[2, "path"] = str(tmp_path / "gone.wav")
    done = repair(path, replace(ten_voices, table=table), encoder)
    assert done.lost["utterance_id"].tolist() == ["u2"]
    assert done.n_encoded == 3
    cache = open_cache(path)
    assert "u2" not in cache.utterance_ids
    assert cache.quarantine["utterance_id"].tolist() == ["u2"]
    assert verify(path) == []


@pytest.mark.parametrize("fault", ["broken", "lost", "twice"])
def test_a_journal_with_a_bad_line_is_refused_and_repaired(ten_voices, folders, tmp_path, small_blocks, fault):
    path, encoder = tmp_path / "a.zarr", load_exact(folders["hubert"])
    extract(ten_voices, encoder, path)
    whole, journal = content_hash(path), path / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    changed = {"broken": [lines[0], "{broken\n", lines[2]], "lost": [lines[0], lines[2]], "twice": [*lines, lines[1]]}
    journal.write_text("".join(changed[fault]))
    if fault != "twice":
        with pytest.raises(CacheDamagedError, match="cache repair"):
            open_cache(path)
        assert repair(path, ten_voices, encoder).n_encoded == 0
    assert len(open_cache(path).utterance_ids) == 10
    assert content_hash(path) == whole


def test_an_empty_journal_vouches_for_nothing_and_the_next_run_makes_the_same_store(ten_voices, folders, tmp_path):
    path, encoder = tmp_path / "a.zarr", load_exact(folders["hubert"])
    extract(ten_voices, encoder, path)
    whole = content_hash(path)
    (path / JOURNAL).write_bytes(b"")
    assert len(open_cache(path).utterance_ids) == 0
    assert run_extraction(ten_voices, encoder, path).n_extracted == 10
    assert content_hash(path) == whole


def test_metadata_that_differ_from_their_copy_are_reported_and_not_guessed(ten_voices, folders, tmp_path):
    encoder, path = load_exact(folders["hubert"]), tmp_path / "a.zarr"
    extract(ten_voices, encoder, path)
    file = path / "utterance_id" / "zarr.json"
    file.write_text(file.read_text().replace("utterance", "utterancf"))
    (found,) = verify(path)
    assert found.summary() == "utterance_id: its zarr.json differs from the copy in that of the group"
    with pytest.raises(InputError, match="It can't be repaired: extract anew and name another --out"):
        repair(path, ten_voices, encoder)


def test_a_store_shorter_than_its_journal_is_refused_and_repaired(ten_voices, folders, tmp_path):
    encoder, path = load_exact(folders["hubert"]), tmp_path / "a.zarr"
    extract(ten_voices, encoder, path)
    whole = content_hash(path)
    metadata = path / "embeddings" / "zarr.json"
    content = json.loads(metadata.read_text())
    content["shape"][0] = 3  # an older copy came back
    metadata.write_text(json.dumps(content))
    with pytest.raises(CacheDamagedError, match="embeddings is shorter than the 10 rows that the journal names"):
        open_cache(path)
    (found,) = verify(path)
    assert found.summary() == "embeddings: its zarr.json has fewer rows than the journal"
    assert repair(path, ten_voices, encoder).n_encoded == 0
    assert len(open_cache(path)) == 10
    assert content_hash(path) == whole


def test_differences_are_sentences(tmp_path):
    fill(tmp_path / "a.zarr", 5)
    with CacheWriter(tmp_path / "b.zarr", replace(PLAN, libraries="torch 2.12"), dim=DIM) as writer:
        for k, (name, digest, embeddings) in enumerate(list(rows(6))[1:]):
            writer.append(name, "edited" if k == 0 else digest, embeddings + (k == 2))
    first, second = open_cache(tmp_path / "a.zarr"), open_cache(tmp_path / "b.zarr")
    assert differences(first, first) == []
    sentences = differences(first, second)
    assert sentences[:4] == [
        "plan: libraries 'torch 2.11', not 'torch 2.12'",
        f"1 utterances are only in {first.path} (first: ü0)",
        f"1 utterances are only in {second.path} (first: ü5)",
        "1 utterances were made from other audio or text (first: ü1)",
    ]
    assert [line.split(":")[0] for line in sentences[4:]] == ["layer 0", "layer 1", "layer 2"]
    assert "1 of 3 rows differ, at most by 1 (" in sentences[4]
    assert sentences[4].endswith("in ü3")


HOLDER = """
import sys, time
from helpers.cache_rows import PLAN, DIM
from layerprobe.probe.cache.writer import CacheWriter
with CacheWriter(sys.argv[1], PLAN, dim=DIM):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "a.zarr"],
        stdout=subprocess.PIPE, text=True, env=script_environment(),
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is being written by another process"):
            fill(tmp_path / "a.zarr", 1)
        holder.send_signal(signal.SIGKILL)
    time.sleep(0.1)
    fill(tmp_path / "a.zarr", 1)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 1
