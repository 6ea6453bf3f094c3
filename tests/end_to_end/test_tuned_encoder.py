"""The embedded encoder and a copy that was tuned on a planted valence: the gain is found, and that valence moved."""

from __future__ import annotations

import pytest
import torch
from helpers.tuned_encoder import FROZEN_BLOCKS, PROBED_ON, TUNED_ON, plant, speak, tune, write_speech

import layerprobe as lp
from layerprobe.analysis.encoder_pairs import compare_encoders

pytest.importorskip("espeakng_loader")


@pytest.mark.long
def test_tuning_upper_blocks_on_valence_moves_it_deeper(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, tuning = speak(TUNED_ON, 12, seed=0)
        voices, probed = speak(PROBED_ON, 6, seed=1)
        planted = plant(tuning)
        manifest = write_speech(tmp_path / "probed", planted, voices, probed, seed=2)
        tuned = tune(tmp_path / "tuned", planted, tuning, steps=150)
        names = {"embedded": "frozen.zarr", str(tuned): "tuned.zarr"}
        caches = [lp.extract(manifest, lp.load_encoder(name), tmp_path / c) for name, c in names.items()]
    finally:
        torch.set_num_threads(threads)
    plan = lp.plan_sweep(manifest, controls=(), weighted_sum_seeds=0)
    found = compare_encoders(lp.study(lp.sweep(caches, manifest, plan, out=tmp_path / "run")))
    (pair,) = found.pairs
    assert (pair.encoder, pair.reference) == ("tuned", "embedded")
    shift = found.shifts.set_index("target").loc["valence"]
    assert shift["p_adjusted"] < 0.01
    assert shift["ci_low"] > 0
    gains = found.gains[found.gains["target"] == "valence"]
    untouched = gains["layer"].astype(int) <= FROZEN_BLOCKS
    assert gains.loc[untouched, "estimate"].abs().max() < 1e-3
    assert (gains.loc[~untouched & (gains["layer"].astype(int) >= 4), "ci_low"] > 0).all()
    assert found.shifts.set_index("target").loc["arousal", "p_adjusted"] > 0.05
