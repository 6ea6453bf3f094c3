"""A checkpoint is read whole or refused: tensors that are missing or ignored, settings, sizes, devices."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from helpers.asr_models import save_ctc
from helpers.model_folders import changed, rewritten
from helpers.speech_models import NARROW
from helpers.text_models import save_text_model
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    Speech2TextConfig,
    Speech2TextForConditionalGeneration,
    SpeechEncoderDecoderConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from layerprobe.probe.data.asr import load_recogniser
from layerprobe.probe.encoders.loading import load_audio_encoder, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.model_size import check_model_size
from layerprobe.probe.model_tensors import check_tensors


def extra(name):
    return lambda tensors: tensors.update({name: torch.ones(2, 32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("wav2vec2.encoder.layers.1.attention.q_proj.weight"), r"lacks wav2vec2\.encoder\.layers\.1\."),
        (extra("wav2vec2.encoder.layers.1.attention.q_proj.lora_A.weight"), r"q_proj\.lora_A\.weight inside its layer"),
        (lambda t: t["lm_head.bias"].fill_(float("nan")), r"lm_head\.bias holds NaN or infinite values"),
    ],
)
def test_a_recognisers_tensors_are_complete_and_all_read(tmp_path, change, message):
    copy = rewritten(save_ctc(tmp_path / "ctc"), tmp_path / "model", change)
    with pytest.raises(InputError, match=message):
        load_recogniser(str(copy))


def test_an_output_layer_that_is_the_embedding_of_tokens_is_not_missing(tmp_path):
    config = Speech2TextConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, conv_channels=16,
    )  # fmt: skip
    Speech2TextForConditionalGeneration(config).save_pretrained(tmp_path)
    assert not any("lm_head" in name for name in load_file(tmp_path / "model.safetensors"))
    model, report = Speech2TextForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    check_tensors("m", model, report)


def test_a_recogniser_of_two_configurations_is_measured_by_both(models):
    decoder = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, is_decoder=True)
    both = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(models["hubert"].config, decoder)
    check_model_size("m", both)
    both.decoder.num_hidden_layers = 10**5
    with pytest.raises(InputError, match=r"num_hidden_layers is 100000 in its config\.json"):
        check_model_size("m", both)


def test_norms_of_the_front_end_that_a_configuration_leaves_out_are_refused(models, tmp_path):
    pre_norm = Wav2Vec2Model(Wav2Vec2Config(**NARROW | {"feat_extract_norm": "layer"}))
    pre_norm.save_pretrained(tmp_path / "layer")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "layer")
    load_audio_encoder(str(tmp_path / "layer"))
    other = changed(tmp_path / "layer", tmp_path / "group", feat_extract_norm="group")
    with pytest.raises(InputError, match=r"conv_layers\.1\.layer_norm\.bias and 11 more inside its layers"):
        load_audio_encoder(str(other))


@pytest.mark.parametrize("name", ["do_normalize", "return_attention_mask"])
def test_a_text_is_neither_true_nor_false(folders, tmp_path, name):
    copy = tmp_path / "model"
    shutil.copytree(folders["hubert"], copy)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {name: "false"}))
    with pytest.raises(InputError, match=rf"{name} is 'false' in preprocessor_config\.json, neither true nor false\."):
        load_audio_encoder(str(copy))


def test_a_width_is_bounded_before_a_vector_of_it_is_made(folders, tmp_path):
    copy = changed(folders["hubert"], tmp_path / "model", hidden_size=10**10)
    with pytest.raises(InputError, match=r"hidden_size is 10000000000 in its config\.json, more than 10,000,000\."):
        load_audio_encoder(str(copy))


@pytest.mark.parametrize("content", [{}, {"weight_map": ["model.safetensors"]}])
def test_an_index_without_a_map_is_named(folders, tmp_path, content):
    copy = tmp_path / "model"
    shutil.copytree(folders["hubert"], copy)
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json holds no weight_map"):
        load_audio_encoder(str(copy))


def test_weights_behind_a_broken_link_are_missing(folders, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folders["hubert"], copy)
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"model\.safetensors is missing\. Copy or download it again\."):
        load_audio_encoder(str(copy))


@pytest.mark.parametrize(("device", "message"), [("gpu0", "'gpu0' is unknown"), ("cuda:99", "is not available")])
def test_a_device_that_there_is_not_is_named_before_a_model_is_loaded(folders, tmp_path, device, message):
    for folder in (folders["hubert"], save_text_model("bert", tmp_path / "bert")):
        with pytest.raises(InputError, match=f"device .*{message}"):
            load_encoder(str(folder), device=device)


def test_a_missing_recogniser_is_called_one():
    with pytest.raises(InputError, match=r"^recogniser \./none: no such folder\."):
        load_recogniser("./none")


@pytest.mark.parametrize("kind", ["hubert", "wavlm"])
def test_weights_that_are_not_finite_are_named(folders, tmp_path, kind):
    name = "encoder.layers.0.attention.q_proj.bias"
    copy = rewritten(folders[kind], tmp_path / "model", lambda tensors: tensors[name][3].fill_(float("inf")))
    with pytest.raises(InputError, match=r"encoder\.layers\.0\.attention\.q_proj\.bias holds NaN or infinite values"):
        load_audio_encoder(str(copy))
