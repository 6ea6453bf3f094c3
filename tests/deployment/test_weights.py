"""Encoders that are no plain folder of transformers are deployed as one: PEFT adapters, foreign files, languages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.speech_models import KINDS, load_exact, save_model, small_model
from helpers.swept_voices import SweptVoices, swept_voices, write_voices
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torchaudio.models.wav2vec2.utils import import_huggingface_model
from transformers import HubertModel, Wav2Vec2ForCTC

from layerprobe.deployment.deploy import deploy
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.hub import TRUST
from layerprobe.probe.predictors.predictor import load_predictor


def assert_layers_of_the_cut_encoder_are_those_of_the_run(voices: SweptVoices, out: Path) -> None:
    done = deploy(voices.run, out, layers=2)
    assert done.plan.n_blocks == 2
    cut = extract(voices.manifest, load_exact(out / "encoder"), out.with_suffix(".zarr"))
    for layer in ("0", "1", "2"):
        np.testing.assert_array_equal(cut.read_layer(layer), voices.cache.read_layer(layer))
    assert load_predictor(out).encoder.preprocessing_note == ""


def few_voices(folder: Path) -> Path:
    return write_voices(folder / "corpus", n_speakers=9, each=2)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_peft_adapter_is_merged(tmp_path: Path) -> None:
    base = save_model(small_model("hubert"), tmp_path / "base")
    torch.manual_seed(3)
    tuned = get_peft_model(HubertModel.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    tuned.save_pretrained(tmp_path / "tuned")
    voices = swept_voices(tmp_path, encoder=tmp_path / "tuned", table=few_voices(tmp_path), folds=3)
    assert "+" in voices.cache.plan.weights
    assert_layers_of_the_cut_encoder_are_those_of_the_run(voices, tmp_path / "p")


def test_a_foreign_checkpoint_becomes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST["pickle"], "1")
    model = small_model("hubert")
    save_model(model, tmp_path / "foreign")
    (tmp_path / "foreign" / "model.safetensors").unlink()
    torch.save(import_huggingface_model(model).state_dict(), tmp_path / "foreign" / "hubert.pt")
    file = tmp_path / "foreign" / "hubert.pt"
    voices = swept_voices(tmp_path, encoder=file, table=few_voices(tmp_path), folds=3)
    assert_layers_of_the_cut_encoder_are_those_of_the_run(voices, tmp_path / "p")


def test_the_adapter_of_a_language_stays_in_its_blocks(tmp_path: Path) -> None:
    settings = KINDS["wav2vec2-pre-norm"][0].to_diff_dict() | {"adapter_attn_dim": 4}
    torch.manual_seed(5)
    model = Wav2Vec2ForCTC(KINDS["wav2vec2-pre-norm"][0].__class__(**settings | {"vocab_size": 4}))
    folder = save_model(model.wav2vec2, tmp_path / "mms")
    tensors = {n: t.contiguous() for n, t in model.wav2vec2.state_dict().items() if "adapter_layer" in n}
    assert tensors
    save_file(
        {f"wav2vec2.{n}": t for n, t in tensors.items()} | {"lm_head.weight": torch.ones(2, 2)},
        folder / "adapter.deu.safetensors",
    )
    voices = swept_voices(tmp_path, encoder=folder, table=few_voices(tmp_path), folds=3)
    assert_layers_of_the_cut_encoder_are_those_of_the_run(voices, tmp_path / "p")


def test_an_encoder_of_an_adapter_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    adapter = tmp_path / "own.py"
    adapter.write_text(
        "from dataclasses import replace\n\nfrom layerprobe.probe.encoders.architectures import ARCHITECTURES\n\n"
        'ARCHITECTURE = replace(ARCHITECTURES["hubert"], final_norm=lambda encoder: encoder.encoder.layer_norm)\n'
    )
    kind = "hubert-pre-norm"
    voices = swept_voices(tmp_path, kind=kind, adapter=adapter, table=few_voices(tmp_path), folds=3)
    with pytest.raises(InputError, match="is loaded by an adapter file") as caught:
        deploy(voices.run, tmp_path / "p", layers=1)
    assert caught.value.code == "LP905"
