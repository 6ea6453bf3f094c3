"""Branches and regressors of small encoders."""

from __future__ import annotations

from pathlib import Path

import soundfile
import torch
from helpers.voices import manifest_of, voice

from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.text import load_text_model
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.regressor.plan import plan_training
from layerprobe.probe.regressor.saving import build, write_configurations, write_regressor, write_weights
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions
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


def write_trained(folder: Path, *, audio: Path | None = None, text: Path | None = None, seeds: int = 2) -> Path:
    """A folder as train leaves it, of regressors whose heads have random weights; the targets are two ratings."""
    folder.mkdir(parents=True)
    soundfile.write(folder / "one.wav", voice(0.3), 16_000)
    row = {"path": "one.wav", "transcript": "the letter", "arousal": 3, "valence": 4}
    rows = [
        {"utterance_id": split, "speaker_id": split, "split": split, **row}
        for split in ("train", "development", "test")
    ]
    encoders, plan = plan_training(
        manifest_of(folder, rows),
        encoders=EncoderOptions(
            audio_encoder=None if audio is None else str(audio), text_encoder=None if text is None else str(text)
        ),
        head=HeadOptions(hidden=8, targets=("arousal", "valence")),
        optimiser=OptimiserOptions(seeds=seeds),
    )
    run = folder / "run"
    write_configurations(run, encoders)
    for seed in plan.seeds:
        torch.manual_seed(seed)
        regressor = build(encoders, plan)
        regressor.get_buffer("mean").fill_(4.0)
        write_weights(regressor, run / f"seed-{seed}")
    widths = {"level": 0.9, "half_width": {"arousal": 1.0, "valence": 0.5}}
    write_regressor(run, plan, fingerprint=plan.fingerprint(), intervals=widths)
    return run
