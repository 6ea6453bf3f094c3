"""ONNX files of a regressor, run by another runtime."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.regressors import regressor_of
from helpers.text_models import SENTENCES, save_text_model
from helpers.voices import voice

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor import onnx as export_module
from layerprobe.probe.regressor.model import FUSIONS, Utterance
from layerprobe.probe.regressor.onnx import export_onnx
from layerprobe.probe.regressor.saving import REGRESSOR, TrainedRegressor


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return save_text_model("distilbert", tmp_path_factory.mktemp("text") / "distilbert")


class _Plan:
    seeds, targets = (0,), ("arousal", "valence", "dominance")


def exported(regressor, tmp_path, monkeypatch):
    """A regressor that needs no training to be written out."""
    monkeypatch.setattr(export_module, "read_regressor", lambda folder: TrainedRegressor(folder, _Plan, "f", {}))
    monkeypatch.setattr(export_module, "load_regressors", lambda trained: iter([regressor]))
    return export_onnx(tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "fusion", "branches"),
    [
        ("hubert", "concatenation", "both"),
        pytest.param("hubert-pre-norm", "cross_attention", "both", marks=pytest.mark.long),
        ("wavlm", "gate", "audio"),
        pytest.param("whisper", "concatenation", "both", marks=pytest.mark.long),
        pytest.param("wav2vec2-bert", "concatenation", "audio", marks=pytest.mark.long),
        ("hubert", "gate", "text"),
    ],
)
def test_onnx_runtime_gives_the_same_ratings(folders, text_folder, tmp_path, monkeypatch, kind, fusion, branches):
    import onnxruntime

    assert fusion in FUSIONS
    regressor = regressor_of(folders, text_folder, kind, fusion=fusion, branches=branches)
    regressor.get_buffer("mean").copy_(torch.tensor([4.0, 3.0, 5.0]))
    regressor.get_buffer("std").copy_(torch.tensor([0.5, 1.5, 1.0]))
    done = exported(regressor, tmp_path, monkeypatch)
    assert done.largest_difference < 1e-4
    names = list(regressor.branches)
    assert [f.name for f in done.files] == [*(f"{n}.onnx" for n in names), "head.onnx", "export.json"]
    sessions = {f.stem: onnxruntime.InferenceSession(str(f)) for f in done.files[:-1]}
    audio = None if regressor.audio is None else regressor.audio.prepare(voice(1.37, pitch=170))
    text = None if regressor.text is None else regressor.text.prepare(SENTENCES[1])
    states = {}
    if audio is not None:
        given = {k: v.numpy() for k, v in audio.inputs.items()}
        states["audio_states"] = sessions["audio"].run(None, given)[0][:, audio.counted]
    if text is not None:
        ids = text.inputs["input_ids"].numpy()[None]
        states["text_states"] = sessions["text"].run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    found = sessions["head"].run(None, states)[0]
    with torch.no_grad():
        expected = regressor.scale(regressor([Utterance(audio, text)]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert json.loads(done.files[-1].read_text())["targets"] == list(_Plan.targets)


def test_files_that_give_other_ratings_are_not_passed_off(folders, text_folder, tmp_path, monkeypatch):
    regressor = regressor_of(folders, text_folder, branches="text")
    monkeypatch.setattr(export_module, "_largest_difference", lambda *_: 0.5)
    with pytest.raises(InputError, match=r"give ratings that differ by 0\.5 standard deviations"):
        exported(regressor, tmp_path, monkeypatch)
    assert not (tmp_path / "out" / "export.json").exists()


def test_a_folder_without_a_regressor_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"has no {REGRESSOR}"):
        export_onnx(tmp_path, tmp_path / "out")
