"""Checkpoints of fine-tuned models: the encoder is taken out, the head named and left out, in whatever form on disk."""

from __future__ import annotations

import json
import re

import pytest
import torch
from helpers.command_line import run
from helpers.model_folders import rewritten
from helpers.speech_models import load_exact, save_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    HubertForSequenceClassification,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    Wav2Vec2PreTrainedModel,
    WhisperForAudioClassification,
)

from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import TRUST


class RegressionHead(nn.Module):
    """As the published model of arousal, dominance and valence has it (Wagner et al., 2023)."""

    def __init__(self, config):
        super().__init__()
        self.dense, self.out_proj = nn.Linear(config.hidden_size, config.hidden_size), nn.Linear(config.hidden_size, 3)


class EmotionModel(Wav2Vec2PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.wav2vec2, self.classifier = Wav2Vec2Model(config), RegressionHead(config)
        self.post_init()


class Nested(nn.Module):
    """As a training script of one's own keeps an encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.backbone, self.pool, self.out = encoder, nn.Linear(32, 1), nn.Linear(32, 3)


def saved(model, folder):
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


HEADS = {
    "hubert": (HubertForSequenceClassification, "4 tensors of a head (classifier, projector)"),
    "wav2vec2": (EmotionModel, "4 tensors of a head (classifier)"),
    "wav2vec2-pre-norm": (Wav2Vec2ForCTC, "2 tensors of a head (lm_head)"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_the_encoder_is_taken_out_and_the_head_named(folders, tmp_path, kind):
    architecture, named = HEADS[kind]
    folder = saved(architecture.from_pretrained(folders[kind]), tmp_path / "tuned")
    encoder = load_exact(folder)
    assert encoder.weights_hash() == load_exact(folders[kind]).weights_hash()
    assert encoder.preprocessing_note == f"tuned: {named} left out."


def test_the_note_is_printed(folders, tmp_path):
    folder = saved(EmotionModel.from_pretrained(folders["wav2vec2"]), tmp_path / "tuned")
    done = run("check-encoder", "--encoder", folder)
    assert "tuned: 4 tensors of a head (classifier) left out." in done.output


def test_whisper_without_its_decoder_is_an_encoder(folders, tmp_path):
    model = WhisperForAudioClassification.from_pretrained(folders["whisper"])
    save_model(model, tmp_path / "tuned")
    encoder = load_exact(tmp_path / "tuned")
    assert encoder.weights_hash() == load_exact(folders["whisper"]).weights_hash()
    assert "tensors of a head (classifier, projector) left out." in encoder.preprocessing_note


def nested(folders, folder, **tensors):
    saved(Wav2Vec2Model.from_pretrained(folders["wav2vec2"]), folder)
    state = Nested(Wav2Vec2Model.from_pretrained(folders["wav2vec2"])).state_dict()
    save_file({**state, **tensors}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("stored", ["safetensors", "pickle"])
def test_an_encoder_under_a_name_of_ones_own_is_found(folders, tmp_path, monkeypatch, stored):
    folder = nested(folders, tmp_path / "own")
    if stored == "pickle":
        monkeypatch.setenv(TRUST["pickle"], "1")
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    encoder = load_exact(folder)
    assert encoder.weights_hash() == load_exact(folders["wav2vec2"]).weights_hash()
    assert encoder.preprocessing_note == "own: 4 tensors of a head (out, pool) left out."


@pytest.mark.parametrize("whole", [True, False])
def test_a_missing_tensor_of_the_encoder_is_refused(folders, tmp_path, whole):
    name = "encoder.layers.1.attention.q_proj.weight"
    if whole:
        folder = saved(EmotionModel.from_pretrained(folders["wav2vec2"]), tmp_path / "tuned")
        name = f"wav2vec2.{name}"
    else:
        folder = nested(folders, tmp_path / "own")
        name = f"backbone.{name}"
    cut = rewritten(folder, tmp_path / "cut", lambda tensors: tensors.pop(name))
    with pytest.raises(InputError, match=r"the checkpoint lacks encoder\.layers\.1\.attention\.q_proj\.weight, which"):
        load_audio_encoder(str(cut))


def test_two_encoders_in_a_checkpoint_are_not_guessed_between(folders, tmp_path):
    other = {
        f"teacher.{k}": v.clone() for k, v in Wav2Vec2Model.from_pretrained(folders["wav2vec2"]).state_dict().items()
    }
    folder = nested(folders, tmp_path / "two", **other)
    with pytest.raises(InputError, match=r"holds 2 encoders, backbone\. and teacher\., and which is meant.*LP394"):
        load_audio_encoder(str(folder))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_disk_is_read_into_float32(folders, tmp_path, dtype):
    half = rewritten(folders["hubert"], tmp_path / "half", lambda t: t.update({k: v.to(dtype) for k, v in t.items()}))
    back = rewritten(half, tmp_path / "back", lambda t: t.update({k: v.float() for k, v in t.items()}))
    encoder = load_exact(half)
    assert {p.dtype for m in encoder.modules() for p in m.parameters()} == {torch.float32}
    assert encoder.weights_hash() == load_exact(back).weights_hash()
    assert encoder.weights_hash() != load_exact(folders["hubert"]).weights_hash()


def test_a_pickle_in_shards_has_to_be_trusted(models, folders, tmp_path, monkeypatch):
    """As transformers 4 saved them; version 5 reads such shards and writes safetensors alone."""
    tensors = load_file(folders["hubert"] / "model.safetensors")
    folder = saved(models["hubert"], tmp_path / "shards")
    (folder / "model.safetensors").unlink()
    names, shards = sorted(tensors), ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    for shard, part in zip(shards, (names[::2], names[1::2]), strict=True):
        torch.save({name: tensors[name] for name in part}, folder / shard)
    weight_map = {name: shards[k % 2] for k, name in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"its weights are a pickle, .*--trust-pickle"):
        load_audio_encoder(str(folder))
    monkeypatch.setenv(TRUST["pickle"], "1")
    assert load_exact(folder).weights_hash() == load_exact(folders["hubert"]).weights_hash()
    (folder / shards[1]).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(shards[1])} is missing"):
        load_audio_encoder(str(folder))
