"""The doctor: every family keeps its promises, a wrong adapter is found out, a right one opens what is unknown."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.command_line import refused, run
from helpers.speech_models import KINDS, NARROW
from torch import nn
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.diagnostics import examine, measure
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import LoadedModel, SpeechEncoder

ADAPTER = """
from layerprobe.probe.encoders.architectures import Architecture, convolutions_need, overlapping, waveform_chunks

ARCHITECTURE = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=lambda encoder: encoder.encoder.layer_norm,
    input_chunks=waveform_chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
)
"""


def broken(encoder):
    return {check.name for check in examine(encoder) if not check.kept}


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_keeps_its_promises(folders, kind):
    encoder = load_audio_encoder(str(folders[kind]))
    assert broken(encoder) == set()
    assert any(figure.name == "speed" for figure in measure(encoder))


def wrong(models, **changes):
    family = dataclasses.replace(ARCHITECTURES["hubert"], **changes)
    return SpeechEncoder(
        LoadedModel(models["hubert"], family, Wav2Vec2FeatureExtractor(), "wrong", "", adapter="wrong")
    )


def test_a_wrong_adapter_is_found_out(models):
    some = wrong(models, blocks=lambda encoder: encoder.encoder.layers[1:])
    assert broken(some) == set()  # a shorter stack is a stack
    turned = wrong(models, blocks=lambda encoder: nn.ModuleList(list(encoder.encoder.layers)[::-1]))
    assert "block k hears what layer k is" in broken(turned)
    gaps = wrong(models, blocks=lambda encoder: encoder.encoder.layers[::2])
    assert "block k hears what layer k is" in broken(gaps)


def test_a_model_in_training_mode_is_found_out(models):
    encoder = wrong(models)
    try:
        for module in encoder.modules():  # of all of them, layerdrop would leave states out, which is refused before
            module.training = isinstance(module, nn.Dropout)
        assert {"nothing is in training mode", "hearing twice gives the same bits"} <= broken(encoder)
    finally:
        models["hubert"].eval()


def test_padding_is_measured_as_it_is(folders):
    """Group norm sees the padding even with the mask; layer norm with the mask does not."""
    grouped, layered = (measure(load_audio_encoder(str(folders[k]))) for k in ("hubert", "hubert-pre-norm"))

    def greatest(figures, name):
        (found,) = [f.found for f in figures if f.name == name]
        return float(found.split(" to ")[1].split()[0])

    assert greatest(grouped, "padded with the attention mask") > 1e-2
    assert greatest(layered, "padded with the attention mask") < 1e-5
    assert greatest(layered, "padded without a mask") > 1e-2


@pytest.fixture(scope="module")
def conformer(tmp_path_factory):
    """An architecture that no family describes, and an adapter for it."""
    folder = tmp_path_factory.mktemp("conformer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2ConformerModel(Wav2Vec2ConformerConfig(**NARROW)).save_pretrained(folder / "model")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "model")
    (folder / "adapter.py").write_text(ADAPTER)
    return folder


def test_an_adapter_opens_an_unknown_architecture(conformer):
    name = str(conformer / "model")
    assert "is a 'wav2vec2-conformer' model; layers can be read of" in refused("check-encoder", "--encoder", name)
    result = run("check-encoder", "--encoder", name, "--adapter", conformer / "adapter.py")
    assert result.exit_code == 0, result.output
    assert "3 blocks, layers 0, 1, 2, 3, final" in result.stdout
    assert "BROKEN" not in result.stdout
    encoder = load_audio_encoder(name, adapter=conformer / "adapter.py")
    assert len(encoder.adapter) == 16


def test_a_broken_adapter_is_one_sentence(conformer, tmp_path):
    def words(text):
        (tmp_path / "bad.py").write_text(text)
        return refused("check-encoder", "--encoder", conformer / "model", "--adapter", tmp_path / "bad.py")

    assert "does not run: SyntaxError" in words("def")
    assert "has no ARCHITECTURE = Architecture(…)" in words("ARCHITECTURE = 3")
    assert "breaks 1 promises: block k hears what layer k is" in words(
        ADAPTER.replace("encoder.encoder.layers,", "encoder.encoder.layers[::2],")
    )
    gone = tmp_path / "gone.py"
    assert "does not exist" in refused("check-encoder", "--encoder", conformer / "model", "--adapter", gone)
