"""Mixes are fitted in groups, which hold every mix once and change no result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import manifest_of, quick

from layerprobe.probe.results.predictions import SweepData
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.sweep.fits.mix_probes import DEFAULT_MIXES, MIXES, mix_groups, mix_probes
from layerprobe.probe.weighted_sum import gradient_descent, large

N, LAYERS, DIM = 60, 3, 4


@pytest.mark.parametrize("mixes", [(), DEFAULT_MIXES, tuple(MIXES), ("cumulative_mix",)])
def test_groups_hold_every_requested_mix_once(mixes):
    groups = mix_groups(mixes)
    assert all(groups)
    assert sorted(name for group in groups for name in group) == sorted(mixes)


@pytest.mark.parametrize("memory", [2**30, 0])
def test_a_group_alone_gives_what_it_gives_with_the_others(rng, tmp_path, monkeypatch, memory):
    monkeypatch.setattr(large, "MEMORY", memory)  # 0: by the solver of large layers
    monkeypatch.setattr(gradient_descent, "MAX_EPOCHS", 3)
    monkeypatch.setattr(gradient_descent, "MAX_STEPS", 0)
    x = rng.normal(size=(N, LAYERS, DIM)).astype(np.float32)
    y = x[:, 1, :2] + 0.5 * rng.normal(size=(N, 2))
    groups = np.arange(N) // 3
    splits = fold_splits(groups, n_folds=3, n_inner_folds=2, rng=rng)
    names = np.array([f"u{i}" for i in range(N)])
    data = SweepData(names, groups.astype(str), groups, y, np.empty((N, 0), dtype=int), splits)
    manifest = manifest_of(y, tmp_path / "my.csv")
    plan = replace(quick(manifest, targets=("arousal", "valence"), mixes=tuple(MIXES)), weighted_sum_seeds=(0, 1))
    layers = [str(k) for k in range(LAYERS)]

    def fitted(mixes):
        keys = {"encoder": "planted", "control": "none"}
        part = replace(plan, mixes=mixes)
        return mix_probes(lambda k, rows: x[rows, k], layers, data, part, keys, advance=lambda _: None)

    def table(rows):
        found = pd.DataFrame(rows)
        return found.sort_values(found.columns.tolist()).reset_index(drop=True)

    whole, parts = fitted(tuple(MIXES)), [fitted(group) for group in mix_groups(tuple(MIXES))]
    assert set(table(whole.scores)["probe"]) == set(MIXES)
    for field in ("scores", "weights"):
        together = table([row for part in parts for row in getattr(part, field)])
        pd.testing.assert_frame_equal(table(getattr(whole, field)), together, check_exact=True)
