"""Small speech encoders of the real architectures, initialised at random and saved as transformers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    SEWConfig,
    SEWModel,
    UniSpeechSatConfig,
    UniSpeechSatModel,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import SpeechEncoder

NARROW = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    # what must be off when layers are read
    "layerdrop": 0.5,
    "hidden_dropout": 0.5,
    "attention_dropout": 0.5,
    "feat_proj_dropout": 0.5,
    "mask_time_prob": 0.5,
}


PRE_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


CONFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "feature_projection_input_dim": 160,
    "conv_depthwise_kernel_size": 5,
    "layerdrop": 0.5,
    "hidden_dropout": 0.5,
}


# For each kind its configuration and model; "pre-norm" normalises before each block and once at the end.
KINDS: dict[str, tuple[PretrainedConfig, type[PreTrainedModel]]] = {
    "hubert": (HubertConfig(**NARROW), HubertModel),
    "hubert-pre-norm": (HubertConfig(**NARROW, **PRE_NORM), HubertModel),
    "wav2vec2": (Wav2Vec2Config(**NARROW), Wav2Vec2Model),
    "wav2vec2-pre-norm": (Wav2Vec2Config(**NARROW, **PRE_NORM), Wav2Vec2Model),
    "wavlm": (WavLMConfig(**NARROW), WavLMModel),
    "wavlm-pre-norm": (WavLMConfig(**NARROW, **PRE_NORM), WavLMModel),
    "unispeech-sat": (UniSpeechSatConfig(**NARROW), UniSpeechSatModel),
    "unispeech-sat-pre-norm": (UniSpeechSatConfig(**NARROW, **PRE_NORM), UniSpeechSatModel),
    "data2vec-audio": (Data2VecAudioConfig(**NARROW | {"conv_pos_kernel_size": 19}), Data2VecAudioModel),
    "sew": (SEWConfig(**NARROW | {"squeeze_factor": 2, "conv_dim": (16,) * 13}), SEWModel),
    "wav2vec2-bert": (Wav2Vec2BertConfig(**CONFORMER), Wav2Vec2BertModel),
    "whisper": (WhisperConfig(**WHISPER), WhisperModel),
}


def small_model(kind: str) -> PreTrainedModel:
    """A seeded model of three narrow blocks; every weight is random, so that norms are no identities."""
    torch.manual_seed(7)
    config, architecture = KINDS[kind]
    model = architecture(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def save_model(model: PreTrainedModel, folder: Path) -> Path:
    """The model as a transformers folder with its feature extractor."""
    model.save_pretrained(folder)
    extractors = {"whisper": WhisperFeatureExtractor, "wav2vec2-bert": SeamlessM4TFeatureExtractor}
    extractors.get(model.config.model_type, Wav2Vec2FeatureExtractor)().save_pretrained(folder)
    return folder


def load_exact(name: object, **choices: Any) -> SpeechEncoder:
    """An encoder in float32 whatever this machine multiplies, for what must be exact."""
    return load_audio_encoder(str(name), precision="float32", **choices)
