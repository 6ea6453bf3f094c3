"""check-encoder: every architecture passes, a wrong adapter fails, a right one makes an unknown architecture usable."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch
from helpers.command_line import refused, run
from helpers.speech_models import KINDS, NARROW
from torch import nn
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, Wav2Vec2FeatureExtractor

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.diagnostics import how_encoded, measure, precision_summary, run_checks
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import LoadedModel, SpeechEncoder

ADAPTER = """
from layerprobe.probe.encoders.architectures import (
    Architecture,
    convolutions_give,
    convolutions_need,
    overlapping,
    waveform_chunks,
)

ARCHITECTURE = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=lambda encoder: encoder.encoder.layer_norm,
    input_chunks=waveform_chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
    n_frames=convolutions_give,
)
"""


def failed(encoder):
    return {check.name for check in run_checks(encoder) if not check.passed}


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_passes_every_check(folders, kind):
    encoder = load_audio_encoder(str(folders[kind]))
    assert failed(encoder) == set()
    found = {measurement.name: measurement.found for measurement in measure(encoder)}
    assert "speed" in found
    forward = {"sew": "equal lengths", "wav2vec2-bert": "masked"}.get(kind, "packed")
    assert found["forward pass on a GPU, or with --forward packed"].startswith(f"{forward}; pooled layers against")


def wrong(models, **changes):
    family = dataclasses.replace(ARCHITECTURES["hubert"], **changes)
    return SpeechEncoder(
        LoadedModel(models["hubert"], family, Wav2Vec2FeatureExtractor(), "wrong", "", adapter="wrong")
    )


def test_a_wrong_adapter_fails(models):
    some = wrong(models, blocks=lambda encoder: encoder.encoder.layers[1:])
    assert failed(some) == set()  # a shorter stack is a stack
    turned = wrong(models, blocks=lambda encoder: nn.ModuleList(list(encoder.encoder.layers)[::-1]))
    assert "the input of block k is layer k - 1" in failed(turned)
    gaps = wrong(models, blocks=lambda encoder: encoder.encoder.layers[::2])
    assert "the input of block k is layer k - 1" in failed(gaps)


def test_a_model_in_training_mode_fails(models):
    encoder = wrong(models)
    try:
        for module in encoder.modules():  # dropout only: layerdrop would skip blocks, which is an error before
            module.training = isinstance(module, nn.Dropout)
        assert {"no module is in training mode", "a second forward pass gives the same bits"} <= failed(encoder)
    finally:
        models["hubert"].eval()


def test_the_error_of_padding_is_measured(folders):
    """Group norm sees the padding even with the mask; layer norm with the mask does not."""
    grouped, layered = (measure(load_audio_encoder(str(folders[k]))) for k in ("hubert", "hubert-pre-norm"))

    def maximum(measurements, name):
        (found,) = [m.found for m in measurements if m.name == name]
        return float(found.split(" to ")[1].split()[0])

    assert maximum(grouped, "padded with the attention mask") > 1e-2
    assert maximum(layered, "padded with the attention mask") < 1e-5
    assert maximum(layered, "padded without a mask") > 1e-2


@pytest.fixture(scope="module")
def conformer(tmp_path_factory):
    """An architecture that is not supported, and an adapter for it."""
    folder = tmp_path_factory.mktemp("conformer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2ConformerModel(Wav2Vec2ConformerConfig(**NARROW)).save_pretrained(folder / "model")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "model")
    (folder / "adapter.py").write_text(ADAPTER)
    return folder


def test_an_adapter_makes_an_unknown_architecture_usable(conformer):
    name = str(conformer / "model")
    assert "is a 'wav2vec2-conformer' model; supported are" in refused("check-encoder", "--encoder", name)
    result = run("check-encoder", "--encoder", name, "--adapter", conformer / "adapter.py")
    assert result.exit_code == 0, result.output
    assert "3 blocks, layers 0, 1, 2, 3, final" in result.stdout
    assert result.stdout.count("ok      ") == 9
    assert "FAILED" not in result.stdout
    encoder = load_audio_encoder(name, adapter=conformer / "adapter.py")
    assert len(encoder.adapter) == 16


def test_a_broken_adapter_is_one_sentence(conformer, tmp_path):
    def error(text):
        (tmp_path / "bad.py").write_text(text)
        return refused("check-encoder", "--encoder", conformer / "model", "--adapter", tmp_path / "bad.py")

    assert "does not run: SyntaxError" in error("def")
    assert "has no ARCHITECTURE = Architecture(…)" in error("ARCHITECTURE = 3")
    assert "fails 1 of 9 checks: the input of block k is layer k - 1" in error(
        ADAPTER.replace("encoder.encoder.layers,", "encoder.encoder.layers[::2],")
    )
    gone = tmp_path / "gone.py"
    assert "does not exist" in refused("check-encoder", "--encoder", conformer / "model", "--adapter", gone)


@pytest.mark.parametrize(
    ("moved", "summary"), [(0.0, "they do not change each other"), (2.5e-7, "they move each other by at most 2.5e-07")]
)
def test_what_packing_changes_is_summarised(folders, moved, summary):
    encoder = load_audio_encoder(str(folders["sew"]), precision="float32", forward="packed")
    table = pd.DataFrame({"layer": ["0"], "relative_error": [1e-7], "cosine": [1.0], "composition_error": [moved]})
    assert precision_summary(table, encoder, n_sampled=2).endswith(f"encoded together (equal lengths), {summary}")


def test_a_packed_pass_is_named_and_its_composition_measured(folders):
    """A pass of one utterance at a time is not."""
    name = folders["sew"]
    encoder = load_audio_encoder(str(name), precision="float32", forward="packed")
    packed = run("check-encoder", "--encoder", name, "--forward", "packed", "--precision", "float32")
    assert packed.exit_code == 0, packed.output
    assert packed.stdout.strip().endswith(f"SEWModel: {how_encoded(encoder)}, float32.")
    assert "together" in how_encoded(encoder)
    assert f"precision: float32 in the {encoder.forward} forward pass moves pooled layers by at most " in packed.stdout
    assert f"encoded together ({encoder.forward}), they " in packed.stdout
    single = run("check-encoder", "--encoder", name, "--forward", "single", "--precision", "float32")
    assert single.stdout.strip().endswith("SEWModel: encoding one utterance at a time (no padding), float32.")
    assert "precision:" not in single.stdout
    assert "extraction pads only where that is exact" in single.stdout
