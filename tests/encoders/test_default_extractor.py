"""Checkpoints without preprocessor_config.json: the architecture's default where it is known, else an error."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from helpers.command_line import refused, run
from helpers.fork_server import ForkServer
from helpers.speech_models import load_exact, save_model, small_model
from helpers.voices import voice
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract, plan_extraction, run_extraction
from layerprobe.probe.extraction.repair import repair
from layerprobe.probe.pretraining.distil import distil
from layerprobe.probe.pretraining.pretrain import load_label_source
from layerprobe.probe.pretraining.settings import DistilOptions
from layerprobe.probe.progress import LogProgress
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
from layerprobe.probe.regressor.train import train

FILE = "preprocessor_config.json"
AUDIO = voice(1.3)
NOTE = (
    "{} has no preprocessor_config.json: the default feature extractor of its architecture is used ({}, 16000 Hz, {})."
)
SCALED, UNSCALED = "each waveform scaled to zero mean and unit variance", "waveforms not normalised"


def without_extractor(folder, tmp_path):
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    (copy / FILE).unlink()
    return copy


@pytest.mark.parametrize(
    ("kind", "scaling"),
    [
        ("hubert", SCALED),
        ("hubert-pre-norm", SCALED),
        ("wav2vec2", SCALED),
        ("data2vec-audio", SCALED),
        ("sew", SCALED),
        ("wavlm", UNSCALED),
        ("wavlm-pre-norm", SCALED),
    ],
)
def test_the_default_normalises_as_the_published_encoders_were_trained(folders, tmp_path, kind, scaling):
    encoder = load_exact(without_extractor(folders[kind], tmp_path))
    assert encoder.preprocessing_note == NOTE.format(kind, "Wav2Vec2FeatureExtractor", scaling)
    # a constant offset and a gain change nothing in a normalised waveform, and something in any other
    states, moved = encoder.hidden_states(AUDIO), encoder.hidden_states(0.3 * AUDIO + 0.1)
    differences = [float((a - b).norm() / b.norm()) for a, b in zip(moved, states, strict=True)]
    if scaling == SCALED:
        assert max(differences) < 1e-3
        whole = load_exact(folders[kind]).hidden_states(AUDIO)  # whose file asks for the same
        assert all(torch.equal(a, b) for a, b in zip(states, whole, strict=True))
    else:
        assert json.loads(encoder.preprocessing)["do_normalize"] is False


def test_whisper_gets_as_many_bands_as_its_config_has(models, tmp_path):
    torch.manual_seed(0)
    config = WhisperConfig(**models["whisper"].config.to_diff_dict() | {"num_mel_bins": 128})
    folder = save_model(WhisperModel(config).eval(), tmp_path / "whisper-128")
    WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    (tmp_path / "bare").mkdir()
    bare = load_exact(without_extractor(folder, tmp_path / "bare"))
    assert bare.preprocessing_note == NOTE.format("whisper-128", "WhisperFeatureExtractor", "128 log-mel bands")
    whole = load_exact(folder)
    assert all(torch.equal(a, b) for a, b in zip(bare.hidden_states(AUDIO), whole.hidden_states(AUDIO), strict=True))


@pytest.mark.parametrize("kind", ["unispeech-sat", "wav2vec2-bert"])
def test_an_architecture_without_a_known_default_is_refused_in_one_sentence(folders, tmp_path, kind):
    message = rf"has no preprocessor_config.json, and {kind} models have no common default: .* Add that file from"
    with pytest.raises(InputError, match=message):
        load_exact(without_extractor(folders[kind], tmp_path))


def test_unispeech_has_no_default_either():
    assert ARCHITECTURES["unispeech"].default_extractor(small_model("hubert").config) is None


def test_the_default_is_reported_and_keys_the_cache(folders, ten_voices, tmp_path, capsys):
    bare = load_exact(without_extractor(folders["hubert"], tmp_path))
    note = NOTE.format("hubert", "Wav2Vec2FeatureExtractor", SCALED)
    assert note in plan_extraction(ten_voices, bare, tmp_path / "a.zarr")
    run_extraction(ten_voices, bare, tmp_path / "a.zarr", progress=LogProgress())
    assert capsys.readouterr().err.count(note) == 1
    whole = load_exact(folders["hubert"])
    assert whole.preprocessing_note == ""
    assert bare.weights_hash() == whole.weights_hash()
    assert json.loads(bare.preprocessing)["architecture_default"] is True
    assert "architecture_default" not in whole.preprocessing
    with pytest.raises(InputError, match="with preprocessing "):
        extract(ten_voices, whole, tmp_path / "a.zarr")
    repair(tmp_path / "a.zarr", ten_voices, bare, progress=LogProgress())
    assert capsys.readouterr().err.count(note) == 1
    printed = run("check-encoder", "--encoder", tmp_path / "hubert").stdout
    assert f"preprocessing: {note}" in printed


def test_trainings_report_the_default_too(folders, ten_voices, tmp_path, capsys):
    bare, note = (
        without_extractor(folders["hubert"], tmp_path),
        NOTE.format("hubert", "Wav2Vec2FeatureExtractor", SCALED),
    )
    few = {"steps": 1, "batch_size": 2, "eval_every": 1}
    distil(ten_voices.table, str(bare), DistilOptions(blocks=1, **few), out=tmp_path / "a", progress=LogProgress())
    assert capsys.readouterr().err.count(note) == 1
    load_label_source(f"{bare}@1", device="cpu", progress=LogProgress())
    assert capsys.readouterr().err.count(note) == 1
    options = {"head": HeadOptions(hidden=8), "optimiser": OptimiserOptions(epochs=1, batch_size=4)}
    chosen = EncoderOptions(audio_encoder=str(bare))
    train(ten_voices, chosen, out=tmp_path / "b", progress=LogProgress(), **options)
    assert capsys.readouterr().err.count(note) == 1


def test_a_broken_file_is_an_error_and_no_reason_for_a_default(folders, tmp_path):
    copy = without_extractor(folders["hubert"], tmp_path)
    (copy / FILE).write_text("{")
    assert "hubert can't be loaded: " in refused("check-encoder", "--encoder", copy)


@pytest.mark.long
def test_a_snapshot_of_the_hub_without_the_file_needs_the_hubs_word_for_it(folders, tmp_path):
    """Without a connection only the record that the hub's cache keeps of a missing file is believed."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--team--bare"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folders["hubert"], repository / "snapshots" / commit)
    (repository / "snapshots" / commit / FILE).unlink()
    code = (
        "from layerprobe.probe.encoders.loading import load_audio_encoder; "
        "print(load_audio_encoder('team/bare', device='cpu').preprocessing_note)"
    )
    with ForkServer(HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1") as forks:
        unknown = forks.run(code=code)
        absent = repository / ".no_exist" / commit
        absent.mkdir(parents=True)
        for name in (FILE, "processor_config.json"):
            (absent / name).touch()
        known = forks.run(code=code)
    assert "encoder team/bare is no local folder, and the hub did not return it:" in unknown.stderr
    assert "the default feature extractor of its architecture is used" in known.stdout, known.stderr
