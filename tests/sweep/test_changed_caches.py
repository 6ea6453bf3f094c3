"""A sweep whose cache or manifest changes under it gives right numbers or none."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import DIM, N_LAYERS, N, manifest_of, quick, store

from layerprobe.analysis.similarity.compare_layers import compare_layers
from layerprobe.probe.cache.compact import compact
from layerprobe.probe.cache.generation import CacheChangedError
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.predictions import NO_RESULTS
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.sweep import sweep

REMOVED = 8  # rows before all others, by which a compaction moves them


@pytest.fixture
def planted(tmp_path, rng):
    """A cache whose first rows were removed, and the manifest of the others."""
    x = rng.normal(size=(N, N_LAYERS, DIM))
    cache = store(tmp_path / "a.zarr", x)
    with CacheWriter(cache.path, cache.plan, dim=DIM) as writer:
        writer.drop(cache.utterance_ids[:REMOVED])
    ratings = np.stack([x[:, 3] @ rng.normal(size=DIM), x[:, 1] @ rng.normal(size=DIM)], axis=1)
    manifest = manifest_of(ratings, tmp_path / "my.csv")
    table = manifest.table.iloc[REMOVED:].reset_index(drop=True)
    return cache.path, replace(manifest, table=table)


class At(NullProgress):
    """Does something after the first layer."""

    def __init__(self, work):
        self._work, self._done = work, False

    def advance(self, amount=1.0, note=""):
        if not self._done:
            self._done = True
            self._work()


def interrupt():
    raise KeyboardInterrupt


def test_a_cache_that_is_compacted_under_a_sweep_ends_it_and_the_next_resumes(planted, tmp_path):
    path, manifest = planted
    whole = sweep([path], manifest, quick(manifest), out=tmp_path / "whole")
    with pytest.raises(CacheChangedError, match="has changed since it was opened"):
        sweep([path], manifest, quick(manifest), out=tmp_path / "run", jobs=1, progress=At(lambda: compact(path)))
    assert not (tmp_path / "run" / "plan.toml").exists()
    assert 1 <= len(list((tmp_path / "run" / "partial").glob("*.npz"))) < N_LAYERS
    resumed = sweep([path], manifest, quick(manifest), out=tmp_path / "run")
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)


@pytest.mark.parametrize("ids", [("b", "a"), ("a", "b", "c"), ("a",)])
def test_results_that_are_kept_by_row_are_used_for_the_same_rows_alone(tmp_path, ids):
    PartialResults(tmp_path, "abc", ("a", "b")).save("layer 1", NO_RESULTS)
    assert PartialResults(tmp_path, "abc", ("a", "b")).load("layer 1") == NO_RESULTS
    assert PartialResults(tmp_path, "abc", ids).load("layer 1") is None
    assert PartialResults(tmp_path, "other", ("a", "b")).load("layer 1") is None


def test_a_manifest_in_another_order_changes_nothing_when_a_sweep_is_resumed(planted, tmp_path):
    path, manifest = planted
    turned = replace(manifest, table=manifest.table.iloc[::-1].reset_index(drop=True))
    whole = sweep([path], turned, quick(turned), out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        sweep([path], manifest, quick(manifest), out=tmp_path / "run", jobs=1, progress=At(interrupt))
    resumed = sweep([path], turned, quick(turned), out=tmp_path / "run")
    assert resumed.fingerprint == whole.fingerprint
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)
    np.testing.assert_array_equal(
        read_predictions(tmp_path / "run").prediction, read_predictions(tmp_path / "whole").prediction
    )


def test_layers_are_compared_from_the_recordings_of_the_run_alone(planted, tmp_path):
    path, manifest = planted
    sweep([path], manifest, quick(manifest), out=tmp_path / "run")
    expected = compare_layers(tmp_path / "run").read_bytes()
    cache = open_cache(path)
    row = np.zeros((N_LAYERS, 1, DIM), dtype=np.float32)
    with CacheWriter(path, cache.plan, dim=DIM) as writer:
        writer.append("new", "hash of another", row)
    assert compare_layers(tmp_path / "run").read_bytes() == expected
    with CacheWriter(path, cache.plan, dim=DIM) as writer:
        writer.append(str(cache.utterance_ids[3]), "hash of another", row)
    with pytest.raises(InputError, match=r"was extracted from other recordings or texts than the run\. Sweep again\."):
        compare_layers(tmp_path / "run")
    shutil.rmtree(path)
    with pytest.raises(InputError, match="is missing"):
        compare_layers(tmp_path / "run")
