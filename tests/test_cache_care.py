"""Looking after a cache: rows replaced, taken out and given back, damage found, named and mended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import load_exact, voice, write_table
from test_cache import DIM, PLAN, content_hash, fill, rows
from test_commands import run as command

import probe.cache
import probe.cache_check
import probe.cache_repair
import probe.cache_writer
import probe.compaction
from probe.cache import CacheMismatch, block_file, open_cache
from probe.cache_check import differences, verify
from probe.cache_precision import float16_loss
from probe.cache_repair import repair
from probe.cache_writer import CacheWriter, NotHeld, compaction_folders, finish_compaction, stored
from probe.compaction import compact, size_of
from probe.errors import InputError
from probe.extract import extract
from probe.journal import JOURNAL, CacheDamaged
from probe.manifest import read_manifest

SMALL = 4  # utterances in a block


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (probe.cache, probe.cache_writer, probe.compaction, probe.cache_check, probe.cache_repair):
        monkeypatch.setattr(module, "BLOCK", SMALL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, table = tmp_path_factory.mktemp("corpus"), []
    for i in range(10):
        soundfile.write(folder / f"s{i}.wav", voice(0.3, pitch=80 + 9 * i, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i / 4})
    return read_manifest(write_table(folder, table))


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


def test_rows_taken_out_are_read_no_more_and_their_room_comes_back(tmp_path, small_blocks):
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
    finish_compaction(path)
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
def test_every_file_in_turn_is_found_out_named_and_mended_to_the_same_bytes(
    corpus, folders, tmp_path, small_blocks, fault
):
    encoder, path = load_exact(folders["hubert"]), tmp_path / "a.zarr"
    extract(corpus, encoder, path)
    whole, ids = content_hash(path), open_cache(path).utterance_ids.tolist()
    for array in ("embeddings", "utterance_id", "sound"):
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
            done = repair(path, corpus, encoder)
            assert done.n_heard == sum(len(ids[b * SMALL : (b + 1) * SMALL]) for b in hit)
            assert verify(path) == []
            assert content_hash(path) == whole


def test_a_flipped_bit_is_laid_at_the_door_of_its_layer(tmp_path):
    fill(tmp_path / "a.zarr", 6)
    file = block_file(tmp_path / "a.zarr", "embeddings", 0)
    content = bytearray(file.read_bytes())
    chunk = (len(content) - 3 * 16 - 4) // 3  # three layers, then their index
    content[chunk + 10] ^= 1
    file.write_bytes(content)
    (found,) = verify(tmp_path / "a.zarr")
    assert found.layers == ("1",)
    assert found.words() == "block 0, embeddings, layers 1: the file is damaged; ü0, ü1, ü2 and 3 more"
    np.testing.assert_array_equal(open_cache(tmp_path / "a.zarr").read_layer("0").shape, (6, 2 * DIM))


def test_a_repair_needs_what_made_the_cache(corpus, folders, tmp_path, small_blocks):
    path = tmp_path / "a.zarr"
    extract(corpus, load_exact(folders["hubert"]), path)
    with pytest.raises(CacheMismatch, match="random_init None, not 0"):
        repair(path, corpus, load_exact(folders["hubert"], random_init=0))
    block_file(path, "embeddings", 1).unlink()
    few = replace(corpus, table=corpus.table[:6])
    with pytest.raises(InputError, match=r"^2 damaged utterances are not in the manifest, u6 first"):
        repair(path, few, load_exact(folders["hubert"]))
    block_file(path, "utterance_id", 1).unlink()
    with pytest.raises(InputError, match=r"4 rows from 4 on have lost their names, and 2 utterances"):
        repair(path, few, load_exact(folders["hubert"]))


def test_a_sound_that_is_gone_when_it_is_needed_again_is_quarantined(corpus, folders, tmp_path, small_blocks):
    path, encoder = tmp_path / "a.zarr", load_exact(folders["hubert"])
    extract(corpus, encoder, path)
    block_file(path, "embeddings", 0).unlink()
    table = corpus.table.copy()
    table.loc[2, "path"] = str(tmp_path / "gone.wav")
    done = repair(path, replace(corpus, table=table), encoder)
    assert done.lost["utterance_id"].tolist() == ["u2"]
    cache = open_cache(path)
    assert "u2" not in cache.utterance_ids
    assert cache.quarantine["utterance_id"].tolist() == ["u2"]
    assert verify(path) == []


@pytest.mark.parametrize("fault", ["broken", "lost", "twice"])
def test_a_journal_with_a_bad_line_is_refused_and_mended(corpus, folders, tmp_path, small_blocks, fault):
    path, encoder = tmp_path / "a.zarr", load_exact(folders["hubert"])
    extract(corpus, encoder, path)
    whole, journal = content_hash(path), path / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    changed = {"broken": [lines[0], "{broken\n", lines[2]], "lost": [lines[0], lines[2]], "twice": [*lines, lines[1]]}
    journal.write_text("".join(changed[fault]))
    if fault != "twice":
        with pytest.raises(CacheDamaged, match="cache repair"):
            open_cache(path)
        assert repair(path, corpus, encoder).n_heard == 0
    assert len(open_cache(path).utterance_ids) == 10
    assert content_hash(path) == whole


def test_an_empty_journal_vouches_for_nothing_and_the_next_run_makes_the_same_store(corpus, folders, tmp_path):
    path, encoder = tmp_path / "a.zarr", load_exact(folders["hubert"])
    extract(corpus, encoder, path)
    whole = content_hash(path)
    (path / JOURNAL).write_bytes(b"")
    assert len(open_cache(path).utterance_ids) == 0
    assert extract(corpus, encoder, path).n_extracted == 10
    assert content_hash(path) == whole


def test_a_store_shorter_than_its_journal_is_not_read(tmp_path):
    fill(tmp_path / "a.zarr", 5)
    metadata = tmp_path / "a.zarr" / "embeddings" / "zarr.json"
    content = json.loads(metadata.read_text())
    content["shape"][0] = 3  # an older copy came back
    metadata.write_text(json.dumps(content))
    with pytest.raises(CacheDamaged, match="embeddings is shorter than the 5 rows that the journal names"):
        open_cache(tmp_path / "a.zarr")


def test_differences_are_told_in_words(tmp_path):
    fill(tmp_path / "a.zarr", 5)
    with CacheWriter(tmp_path / "b.zarr", replace(PLAN, libraries="torch 2.12"), dim=DIM) as writer:
        for k, (name, sound, embeddings) in enumerate(list(rows(6))[1:]):
            writer.append(name, "edited" if k == 0 else sound, embeddings + (k == 2))
    first, second = open_cache(tmp_path / "a.zarr"), open_cache(tmp_path / "b.zarr")
    assert differences(first, first) == []
    told = differences(first, second)
    assert told[:4] == [
        "plan: libraries 'torch 2.11', not 'torch 2.12'",
        f"1 utterances are in {first.path} alone, ü0 first",
        f"1 utterances are in {second.path} alone, ü5 first",
        "1 utterances were made from other sounds or words, ü1 first",
    ]
    assert [line.split(":")[0] for line in told[4:]] == ["layer 0", "layer 1", "layer 2"]
    assert "1 of 3 rows differ, at most by 1 (" in told[4]
    assert told[4].endswith("in ü3")


def test_half_precision_halves_the_disk_and_is_refused_where_it_can_not_hold_a_value(corpus, folders, tmp_path):
    encoder = load_exact(folders["hubert"])
    for storage in ("float32", "float16"):
        extract(corpus, encoder, tmp_path / f"{storage}.zarr", storage=storage)
    full, half = (open_cache(tmp_path / f"{s}.zarr") for s in ("float32", "float16"))
    for layer in full.plan.layers:
        expected = full.read_layer(layer).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(half.read_layer(layer), expected)
        assert half.read_layer(layer).dtype == np.float32
    sizes = [block_file(c.path, "embeddings", 0).stat().st_size for c in (full, half)]
    assert sizes[1] < 0.55 * sizes[0]
    with pytest.raises(NotHeld, match=r"a value of 1e\+05 can't be held as float16; take float32"):
        stored(np.array([1.0, -1e5]), "float16")
    with pytest.raises(CacheMismatch, match="storage 'float16', not 'float32'"):
        extract(corpus, encoder, tmp_path / "float16.zarr")
    with pytest.raises(InputError, match="storage 'int8' is unknown; choose float32 or float16"):
        extract(corpus, encoder, tmp_path / "x.zarr", storage="int8")


def test_what_half_precision_costs_is_measured_on_the_caches_own_rows(tmp_path, rng):
    plan = replace(PLAN, layers=("0", "1"))
    table = [
        {"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 15}", "arousal": 1 + i % 7}
        for i in range(60)
    ]
    for i in range(60):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.1), 16_000)
    manifest = read_manifest(write_table(tmp_path, table))
    values = rng.normal(size=(60, 2, 2, DIM)).astype(np.float32)
    values[:, 0, 0, 0] += [row["arousal"] for row in table]
    with CacheWriter(tmp_path / "a.zarr", plan, dim=DIM) as writer:
        for row, embeddings in zip(table, values, strict=True):
            writer.append(row["utterance_id"], "sound", embeddings)
    found = float16_loss(open_cache(tmp_path / "a.zarr"), manifest)
    # eleven bits: a relative error even within 2^-11, so about 2^-11 / sqrt(3) × |x| of N(0, 1) rounded to powers of 2
    lost = (values.astype(np.float16).astype(np.float32) - values)[:, 1]
    assert found["error"][1] == pytest.approx(np.sqrt((lost**2).mean()) / values[:, 1].std(), rel=1e-4)
    assert 1e-4 < found["error"][1] < 3e-4
    assert found["beyond"].tolist() == [0, 0]
    assert (found["score"] < 0.01).all()
    values[3, 1, 0, 0] = 1e5
    with CacheWriter(tmp_path / "b.zarr", plan, dim=DIM) as writer:
        for row, embeddings in zip(table, values, strict=True):
            writer.append(row["utterance_id"], "sound", embeddings)
    found = float16_loss(open_cache(tmp_path / "b.zarr"), manifest)
    assert found["beyond"].tolist() == [0, 1]
    assert found["score"].isna().all()


def test_the_verbs_say_what_they_find(corpus, folders, tmp_path):
    path = tmp_path / "a.zarr"
    words = ("extract", corpus.path, "--encoder", folders["hubert"], "--out", path, "--precision", "float32")
    dry = command(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert not path.exists()
    assert "poolings: ('mean', 'std')" in dry.stdout
    assert "0 utterances are cached already; 10 utterances to extract" in dry.stdout
    assert command(*words).exit_code == 0
    assert "nothing is to be done" in command(*words, "--dry-run").stdout
    told = command("cache", "info", path, "--manifest", corpus.path).stdout
    assert f"{path}: 10 utterances, {size_of(path) / 1e6:.1f} MB" in told
    assert "10 of 10 utterances are cached, 0 refused; 0 rows of the cache are of no utterance of it." in told
    assert "  poolings: mean, std" in told
    assert "error" in command("cache", "info", path, "--manifest", corpus.path, "--precision-loss").stdout
    assert command("cache", "info", path, "--precision-loss").exit_code == 2
    assert command("cache", "verify", path).stdout == f"{path} is whole.\n"
    assert "hold the same" in command("cache", "diff", path, path).stdout
    block_file(path, "sound", 0).unlink()
    broken = command("cache", "verify", path)
    assert broken.exit_code == 2
    assert "block 0, sound: the file is missing; u0, u1, u2 and 7 more" in broken.stdout
    assert "1 files are damaged, of 10 utterances" in broken.output
    mended = command("cache", "repair", path, *words[1:4], "--precision", "float32")
    assert "1 damaged files, 10 utterances heard again" in mended.stdout, mended.output
    few = tmp_path / "few.csv"
    lines = corpus.path.read_text().splitlines(keepends=True)[:7]
    few.write_text(re.sub(r",(s\d)", rf",{corpus.path.parent}/\1", "".join(lines)))
    few.with_suffix(".toml").write_text(corpus.path.with_suffix(".toml").read_text())
    pruned = command("extract", few, *words[2:], "--prune")
    assert "4 rows taken out" in pruned.output
    assert "4 rows were taken out" in command("cache", "info", path).stdout
    assert "became free" in command("cache", "compact", path).stdout
    assert len(open_cache(path).utterance_ids) == 6


HOLDER = """
import sys, time
from test_cache import PLAN, DIM
from probe.cache_writer import CacheWriter
with CacheWriter(sys.argv[1], PLAN, dim=DIM):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "a.zarr"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is being written by another process"):
            fill(tmp_path / "a.zarr", 1)
        holder.send_signal(signal.SIGKILL)
    time.sleep(0.1)
    fill(tmp_path / "a.zarr", 1)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 1
