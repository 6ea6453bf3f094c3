"""What a sweep was fitted on, read again where concepts were erased: the same utterances and folds."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers.planted import store
from helpers.voices import write_table

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.predictors.swept import read_swept
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

N, LACKING = 60, 10


def swept(folder, rng, **options):
    """A run without duration, whose cache of concepts lacks the last utterances."""
    (folder / "x.wav").touch()
    rows = [{"utterance_id": f"u{i}", "path": "x.wav", "speaker_id": f"s{i % 20}"} for i in range(N)]
    splits = [{"split": "test" if i % 20 < 6 else "train"} for i in range(N)] if options else [{}] * N
    rated = [{**row, **s, "arousal": 1 + i * 6 / (N - 1)} for i, (row, s) in enumerate(zip(rows, splits, strict=True))]
    manifest = read_manifest(write_table(folder, rated))
    cache = store(folder / "c.zarr", rng.normal(size=(N, 2, 6)), layers=("0", "1"))
    kept, names = rng.normal(size=(N - LACKING, 2, 1)), ("duration", "loudness")
    acoustic = store(folder / "acoustic.zarr", kept, layers=names, upstream="acoustic")
    plan = plan_sweep(manifest, permutations=1, weighted_sum_seeds=0, controls=(), **options)
    return sweep([cache], manifest, plan, out=folder / "run", without=["duration"], concepts=[acoustic], jobs=1)


def test_utterances_and_folds_are_those_of_the_sweep_though_the_concepts_are_gone(tmp_path, rng):
    run = swept(tmp_path, rng)
    shutil.rmtree(tmp_path / "acoustic.zarr")
    data, kept = read_swept(run).dataset.data, read_predictions(run.path)
    assert len(data.utterance_ids) == N - LACKING
    fold = dict(zip(kept.utterance_id, kept.fold, strict=True))
    for split in data.splits:
        assert {fold[name] for name in data.utterance_ids[split.test]} == {split.name}
    assert sum(len(split.test) for split in data.splits) == len(fold)


def test_of_a_test_split_the_concepts_show_which_utterances_trained(tmp_path, rng):
    run = swept(tmp_path, rng, test_split="test")
    moved = tmp_path / "moved.zarr"
    shutil.move(tmp_path / "acoustic.zarr", moved)
    with pytest.raises(InputError, match=r"which is gone. Name it where it is now with --cache"):
        read_swept(run)
    data = read_swept(run, caches=[moved]).dataset.data
    assert len(data.utterance_ids) == run.plan["corpus"]["n_utterances"] == N - LACKING
    (split,) = data.splits
    np.testing.assert_array_equal(data.utterance_ids[np.sort(split.test)], read_predictions(run.path).utterance_id)
