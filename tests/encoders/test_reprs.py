"""Encoders describe themselves on one line."""

from __future__ import annotations

from helpers.speech_models import load_exact
from helpers.text_models import save_text_model

from layerprobe.probe.encoders.loading import load_encoder


def test_a_speech_encoder_shows_layers_width_precision_and_device(folders):
    assert repr(load_exact(folders["hubert"], device="cpu")) == (
        "SpeechEncoder('hubert', 4 layers of 32 (0 1 2 3), float32 on cpu)"
    )
    encoder = load_exact(folders["hubert"], device="cpu", random_init=7)
    encoder.revision = "0123456789abcdef0123456789abcdef01234567"
    assert repr(encoder) == (
        "SpeechEncoder('hubert', revision 0123456789ab, random weights of seed 7, 4 layers of 32 (0 1 2 3), "
        "float32 on cpu)"
    )


def test_many_layers_are_abbreviated():
    assert repr(load_encoder("embedded", device="cpu", precision="float32")) == (
        "SpeechEncoder('embedded', 9 layers of 256 (0 … 8), float32 on cpu)"
    )


def test_text_encoders_and_acoustic_features_do_so_too(tmp_path):
    text = load_encoder(str(save_text_model("bert", tmp_path / "bert")), device="cpu")
    assert repr(text) == f"TranscriptEncoder('bert', {len(text.layers)} layers of {text.dim} (0 1 2 3), float32 on cpu)"
    assert repr(load_encoder("acoustic")) == (
        "AcousticEncoder('acoustic', 5 layers of 80 (log_mel mfcc f0 loudness duration), float32 on cpu)"
    )
