"""A small predictor: a real encoder with random weights and heads with random coefficients, written as deploy does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.speech_models import save_model, small_model

from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.predictors.cut import cut_encoder, save_encoder
from layerprobe.probe.predictors.folder import ENCODER, PredictorPlan, write_predictor
from layerprobe.probe.predictors.heads import Head

LAYERS = {"arousal": ("1",), "valence": ("2",), "dominance": ("0", "1", "2")}


def write_small_predictor(folder: Path, *, kind: str = "hubert", n_blocks: int = 2) -> Path:
    """A predictor of three ratings with a narrow encoder of a kind of `speech_models`, cut at two of three blocks."""
    loaded = load_model(str(save_model(small_model(kind), folder / "whole")))
    cut_encoder(loaded, n_blocks)
    save_encoder(loaded, folder / "predictor" / ENCODER)
    rng = np.random.default_rng(0)
    heads = tuple(
        Head(target, layers, rng.normal(size=(len(layers), 64)) / 8, 4.0, half_width=1.5)
        for target, layers in LAYERS.items()
    )
    plan = PredictorPlan(
        fingerprint="0123456789ab",
        run="ba9876543210",
        upstream=kind,
        revision="",
        weights="0123456789abcdef",
        architecture=type(loaded.model).__name__,
        n_blocks=n_blocks,
        n_blocks_of_whole=3,
        poolings=("mean", "std"),
        precision="float32",
        audio_channels="mean",
        end_silence="kept",
        sampling_rate=16_000,
        level=0.9,
        corpus="a small corpus",
        n_speakers=12,
        n_utterances=120,
    )
    write_predictor(folder / "predictor", plan, heads, scales=dict.fromkeys(LAYERS, (1.0, 7.0)))
    return folder / "predictor"
