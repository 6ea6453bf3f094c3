"""What a cache holds in half precision, and what that costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from helpers.cache_rows import DIM, PLAN
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table

from layerprobe.probe.cache.storage import StorageOverflowError, stored
from layerprobe.probe.cache.store import CacheMismatchError, block_file, open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.sweep.float16_cost import float16_loss


def test_half_precision_halves_the_disk_and_is_refused_where_it_can_not_hold_a_value(ten_voices, folders, tmp_path):
    encoder = load_exact(folders["hubert"])
    for storage in ("float32", "float16"):
        extract(ten_voices, encoder, tmp_path / f"{storage}.zarr", storage_dtype=storage)
    full, half = (open_cache(tmp_path / f"{s}.zarr") for s in ("float32", "float16"))
    for layer in full.plan.layers:
        expected = full.read_layer(layer).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(half.read_layer(layer), expected)
        assert half.read_layer(layer).dtype == np.float32
    sizes = [block_file(c.path, "embeddings", 0).stat().st_size for c in (full, half)]
    assert sizes[1] < 0.55 * sizes[0]
    with pytest.raises(StorageOverflowError, match=r"a value of 1e\+05 can't be held as float16; take float32"):
        stored(np.array([1.0, -1e5]), "float16")
    with pytest.raises(CacheMismatchError, match="storage_dtype 'float16', not 'float32'"):
        extract(ten_voices, encoder, tmp_path / "float16.zarr")
    with pytest.raises(InputError, match="storage dtype 'int8' is unknown; choose float32 or float16"):
        extract(ten_voices, encoder, tmp_path / "x.zarr", storage_dtype="int8")


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
            writer.append(row["utterance_id"], f"hash of {row['path']}", embeddings)
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
            writer.append(row["utterance_id"], f"hash of {row['path']}", embeddings)
    found = float16_loss(open_cache(tmp_path / "b.zarr"), manifest)
    assert found["beyond"].tolist() == [0, 1]
    assert found["score"].isna().all()
