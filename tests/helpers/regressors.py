"""Branches and regressors of small encoders."""

from __future__ import annotations

import torch

from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.text import load_text_model
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.training.branches import AudioBranch, TextBranch


def audio_branch(folder, layer="last"):
    loaded = load_model(str(folder))
    return AudioBranch(loaded.family.encoder(loaded.model).eval(), loaded.family, loaded.extractor, layer=layer)


def text_branch(folder, layer="last"):
    loaded = load_text_model(str(folder))
    return TextBranch(loaded.model.eval(), loaded.family, loaded.tokenizer, layer=layer)


def regressor_of(folders, text_folder, kind="hubert", *, fusion="concatenation", pooling="attentive", branches="both"):
    torch.manual_seed(0)
    audio = None if branches == "text" else audio_branch(folders[kind])
    text = None if branches == "audio" else text_branch(text_folder)
    return AudioTextRegressor(audio, text, n_targets=3, pooling=pooling, fusion=fusion, hidden=16, dropout=0.5).eval()
