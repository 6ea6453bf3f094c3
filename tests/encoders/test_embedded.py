"""The embedded encoder: small, complete, loaded by name, in a package of its own, better than its baselines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.command_line import ROOT, run
from helpers.measured_targets import LIBRISPEECH, write_measured_manifest
from helpers.voices import voice, write_table
from safetensors.torch import load_file

from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.encoders import embedded
from layerprobe.probe.encoders.embedded import EMBEDDED, embedded_folder
from layerprobe.probe.encoders.loading import load_audio_encoder, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.control_caches import control_caches
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep


def test_it_is_small_whole_and_its_name_loads_its_own_weights():
    path = EMBEDDED / "model.safetensors"
    assert path.stat().st_size < 16e6
    saved = load_file(path)
    assert {str(t.dtype) for t in saved.values()} == {"torch.float16"}
    assert sum(t.numel() for t in saved.values()) < 8e6
    encoder = load_audio_encoder("embedded", device="cpu")
    loaded = encoder._encoder.state_dict()
    assert set(saved) == set(loaded)
    for name, tensor in saved.items():
        assert (loaded[name] == tensor.float()).all(), name
    assert encoder.layers == tuple(map(str, range(9)))
    assert encoder.upstream == "embedded"
    assert encoder.weights_hash() != load_audio_encoder("embedded", random_init=0, device="cpu").weights_hash()
    assert all(np.isfinite(s.numpy()).all() for s in encoder.hidden_states(voice(1.0)))
    card = (EMBEDDED / "README.md").read_text(encoding="utf-8")
    assert f"{sum(t.numel() for t in saved.values()):,}" in card


@pytest.fixture
def without_weights(tmp_path, monkeypatch):
    """What a wheel of layerprobe has of the encoder."""
    folder = tmp_path / "wheel"
    folder.mkdir()
    for path in EMBEDDED.glob("*.json"):
        shutil.copy(path, folder)
    monkeypatch.setattr(embedded, "EMBEDDED", folder)
    return folder


def test_its_weights_come_from_a_package_built_from_its_folder_and_are_the_same(without_weights, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "probe" / "embedded", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    build = "from setuptools import build_meta as b; b.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").glob("layerprobe_embedded-1.*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    package = tmp_path / "site" / "layerprobe_embedded"
    assert embedded_folder() == package
    # part of every plan: another file of weights is another encoder, and a package of version 2
    assert load_audio_encoder("embedded", device="cpu").weights_hash() == "d1004bb4b9dfbb57"
    assert {p.name: p.read_bytes() for p in package.glob("*.json")} == {
        p.name: p.read_bytes() for p in without_weights.glob("*.json")
    }


def test_without_its_package_one_sentence_names_the_command_that_installs_it(without_weights, monkeypatch):
    monkeypatch.setattr(
        sys, "path", [p for p in sys.path if not (Path(p) / "layerprobe_embedded").exists() and "editable" not in p]
    )
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if "editable" not in repr(f)])
    with pytest.raises(InputError, match=r"^The weights of the embedded encoder are not installed\. Install them: pip"):
        load_audio_encoder("embedded", device="cpu")
    assert load_audio_encoder("embedded", random_init=0, device="cpu").layers == tuple(map(str, range(9)))
    assert embedded_folder(trained=False) == without_weights


def test_its_control_can_be_made_without_a_path(tmp_path):
    rows = []
    for i in range(8):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.4, pitch=80 + 5 * i, seed=i), 16_000)
        rows.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i / 4})
    manifest = read_manifest(write_table(tmp_path, rows))
    extract(manifest, load_audio_encoder("embedded", device="cpu"), tmp_path / "e.zarr")
    found = control_caches([open_cache(tmp_path / "e.zarr")], manifest, random_weights=[])
    assert [(c.plan.upstream, c.plan.random_init) for c in found.random_weights] == [("embedded", 0)]


def test_a_users_folder_of_that_name_is_another_encoder(folders, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "embedded").symlink_to(folders["hubert"])
    assert load_audio_encoder(str(tmp_path / "mine" / "embedded")).upstream == "hubert"
    (tmp_path / "mine" / "embedded").unlink()
    shutil.copytree(folders["hubert"], tmp_path / "mine" / "embedded")
    assert load_audio_encoder(str(tmp_path / "mine" / "embedded")).upstream == "mine/embedded"


def test_a_pre_training_begins_with_its_configuration(tmp_path):
    rows = []
    for i in range(4):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.8, pitch=80 + 9 * i, seed=i), 16_000)
        rows.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1.0})
    few = ("--units", 4, "--steps", 1, "--batch-size", 2)
    result = run("pretrain", write_table(tmp_path, rows), "--out", tmp_path / "own", *few)
    assert result.exit_code == 0, result.output
    own, ours = (json.loads((p / "config.json").read_text()) for p in (tmp_path / "own", EMBEDDED))
    assert {k: own[k] for k in ours if k != "architectures"} == {k: v for k, v in ours.items() if k != "architectures"}


@pytest.mark.long
@pytest.mark.skipif(not LIBRISPEECH.exists(), reason=f"no real speech at {LIBRISPEECH}")
def test_on_real_speakers_it_predicts_pitch_and_speech_rate_better_than_mfcc(tmp_path):
    whole = read_manifest(write_measured_manifest(tmp_path / "all.csv"))
    table = whole.table[whole.table["subset"] == "test-other"].reset_index(drop=True)
    write_manifest(tmp_path / "test-other.csv", table, whole.header)
    manifest = read_manifest(tmp_path / "test-other.csv")
    caches = []
    for name in ("embedded", "acoustic"):
        extract(manifest, load_encoder(name), tmp_path / f"{name}.zarr")
        caches.append(open_cache(tmp_path / f"{name}.zarr"))
    plan = plan_sweep(manifest, targets=("pitch", "rate"), permutations=1, weighted_sum_seeds=0)
    sweep(caches, manifest, plan, out=tmp_path / "run")
    samples = bootstrap_scores(read_predictions(tmp_path / "run"), metric="ccc_matched")
    for target in ("pitch", "rate"):
        ours = samples.of(caches[0].plan.layers, encoder="embedded", control="none", probe="ridge", target=target)
        mfcc = samples.of(("mfcc",), encoder="acoustic", control="none", probe="ridge", target=target)
        best = int(ours.estimate.argmax())
        (difference,) = (ours[[best]] - mfcc).estimated()
        assert difference.estimate > 0.3
        assert difference.ci_low > 0
