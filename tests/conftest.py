"""What tests share: small encoders of the real architectures on disk, and sounds that a decoder decodes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
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

from layerprobe.probe.encoders.loading import load_encoder
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
KINDS: dict[str, tuple[PreTrainedConfig, type[PreTrainedModel]]] = {
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
    """A seeded model of three narrow blocks; every weight is drawn, so that norms are no identities."""
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
    return load_encoder(str(name), precision="float32", **choices)


@pytest.fixture(scope="session")
def models() -> dict[str, PreTrainedModel]:
    with torch.random.fork_rng():
        return {kind: small_model(kind) for kind in KINDS}


@pytest.fixture(scope="session")
def folders(models: dict[str, PreTrainedModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: save_model(model, root / kind) for kind, model in models.items()}


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything that a report can show, and its report."""
    from reported_run import reported_run

    return reported_run(tmp_path_factory.mktemp("reported"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def voice(seconds: float, *, rate: int = 16_000, pitch: float = 120.0, seed: int = 0) -> np.ndarray:
    """A buzz with formant-like colour and some noise, ``(n_samples,)``, peak under full scale."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    harmonics = sum(np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 12) if pitch * k < rate / 2)
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)
    return (0.1 * envelope * harmonics + 0.01 * noise).astype(np.float32)


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write a voice to a file of that name: ``write_sound("a.flac", 1.5, rate=8000, channels=2)``."""

    def write(
        name: str, seconds: float = 1.0, *, rate: int = 16_000, channels: int = 1, subtype: str | None = None,
        pitch: float = 120.0,
    ) -> Path:  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mono = voice(seconds, rate=rate, pitch=pitch)
        soundfile.write(path, np.stack([mono] * channels, axis=1), rate, subtype=subtype)
        return path

    return write


def write_table(folder: Path, rows: list[dict[str, object]], *, targets: tuple[str, ...] = ("arousal",)) -> Path:
    """A manifest ``my.csv`` with a header whose targets are rated from 1 to 7."""
    import pandas as pd

    path = folder / "my.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    lines = ['corpus = "test"', 'version = "1"', 'licence = "none"']
    for target in targets:
        lines += [f"[targets.{target}]", "minimum = 1", "maximum = 7"]
    path.with_suffix(".toml").write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def ten_voices(tmp_path_factory):
    """A manifest of ten short utterances of ten speakers."""
    from layerprobe.probe.data.manifest import read_manifest

    folder, table = tmp_path_factory.mktemp("ten-voices"), []
    for i in range(10):
        soundfile.write(folder / f"s{i}.wav", voice(0.3, pitch=80 + 9 * i, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i / 4})
    return read_manifest(write_table(folder, table))


@pytest.fixture
def heeds_interrupts():
    """Processes that a test starts heed SIGINT, also where a shell in the background made this one ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
