"""A sweep on a GPU: each tensor on the right device, scores of the CPU, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.planted import DIM, manifest_of, quick, store
from helpers.pretended_gpu import pretended_gpu

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.sweep.fits.task_inputs import choose_algebra
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.weighted_sum import gradient_descent, large
from layerprobe.probe.weighted_sum.large import make_mixer
from layerprobe.probe.weighted_sum.solver import Mixer

MIXES = ("weighted_sum", "uniform_mix", "unstandardised_mix", "gradient_descent_mix", "cumulative_mix")


@pytest.fixture
def corpus(tmp_path, rng):
    x = rng.normal(size=(96, 2, DIM)).astype(np.float32)
    ratings = x[:, 1, :2] + 0.5 * rng.normal(size=(96, 2))
    return store(tmp_path / "c.zarr", x, layers=("0", "1")), manifest_of(ratings, tmp_path / "my.csv")


def test_scores_on_a_gpu_are_those_of_the_cpu(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(gradient_descent, "MAX_EPOCHS", 2)
    monkeypatch.setattr(gradient_descent, "MAX_STEPS", 0)
    cache, manifest = corpus
    choices = {"mixes": MIXES, "folds": 3, "permutations": 1, "controls": (), "targets": ("arousal",)}
    plan = replace(quick(manifest, **choices), mix_penalties=(0.1, 1.0), mix_weight_penalties=(0.0, 1.0))
    expected = sweep([cache], manifest, plan, out=tmp_path / "on_cpu").scores
    with pretended_gpu() as gpu:
        found = sweep([cache], manifest, replace(plan, device="cuda"), out=tmp_path / "on_gpu").scores
    assert sum(gpu.waits.values()) > 0  # results came from the device
    assert {*MIXES, "ridge"} <= set(found["probe"])
    keys = [name for name in expected if name != "value"]
    both = found.merge(expected, on=keys, suffixes=("", "_cpu"), validate="one_to_one")
    assert len(both) == len(expected)
    both = both[both["metric"] == "ccc"]
    np.testing.assert_allclose(both["value"], both["value_cpu"], atol=1e-4)


def test_layers_too_large_for_the_cpus_solver_are_kept_on_a_gpu(rng, monkeypatch):
    x, y = rng.normal(size=(3, 60, 4)).astype(np.float32), rng.normal(size=(60, 1))
    splits = fold_splits(np.arange(60) // 5, n_folds=3, n_inner_folds=2, rng=rng)
    monkeypatch.setattr(large, "MEMORY", 0)
    with pretended_gpu():
        mixer = make_mixer(lambda layer, rows: x[layer, rows], 3, y, splits=splits, device="cuda")
        assert isinstance(mixer, Mixer)
        assert mixer._stack.in_memory
        assert {layer.device.type for layer in mixer._stack} == {"cuda"}


def test_several_processes_on_a_gpu_are_refused(corpus, tmp_path):
    cache, manifest = corpus
    with pytest.raises(InputError, match=r"^One process probes on a GPU\. Leave --device or --jobs out\. \[LP\d{3}\]$"):
        sweep([cache], manifest, quick(manifest, device="cuda"), out=tmp_path / "no", jobs=2)


def test_products_in_tf32_and_other_devices_are_refused(monkeypatch):
    with pytest.raises(
        InputError, match=r"^probes can't be fitted on device 'meta'\. Choose cpu or cuda\. \[LP\d{3}\]$"
    ):
        choose_algebra("meta")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with pretended_gpu(), pytest.raises(InputError, match=r"^torch multiplies float32 matrices in TF32 here"):
            choose_algebra("cuda")
    finally:
        torch.set_float32_matmul_precision(before)
