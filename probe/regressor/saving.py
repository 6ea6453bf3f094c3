"""Files of a trained regressor: weights as safetensors, everything else as readable text.

``regressor.json`` holds the plan and the half-widths of the prediction intervals; ``audio`` and ``text`` hold the
configurations of the encoders, with the feature extractor and the tokenizer; ``seed-N/model.safetensors`` holds the
weights of a seed. Nothing else is needed to predict: no hub, no pickle.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.foreign_files import damage_of, first_line
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.pretrained import SPEECH_ENCODER, TEXT_ENCODER, find_pretrained
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.regressor.plan import Encoders, TrainPlan
from layerprobe.probe.training.branches import AudioBranch, TextBranch
from layerprobe.probe.training.checkpoints import FORMAT_VERSION, check_format_version, read_json, read_tensors

REGRESSOR, MODEL = "regressor.json", "model.safetensors"
AUDIO, TEXT = "audio", "text"


@dataclass(frozen=True)
class TrainedRegressor:
    """The content of a trained regressor's ``regressor.json``."""

    folder: Path
    plan: TrainPlan
    fingerprint: str
    intervals: dict[str, Any]  # ``level``, and ``half_width`` by target; empty before the training has finished


def build(encoders: Encoders, plan: TrainPlan) -> AudioTextRegressor:
    """Return a regressor of copies of these encoders and a head initialised from torch's random state."""
    audio = text = None
    if plan.audio is not None:
        encoder = copy.deepcopy(encoders.audio)
        architecture = ARCHITECTURES[encoder.config.model_type]
        audio = AudioBranch(encoder, architecture, encoders.extractor, layer=plan.audio.layer)
    if plan.text is not None:
        model = copy.deepcopy(encoders.text)
        text = TextBranch(model, TEXT_ARCHITECTURES[model.config.model_type], encoders.tokenizer, layer=plan.text.layer)
    regressor = AudioTextRegressor(
        audio,
        text,
        n_targets=len(plan.targets),
        pooling=plan.pooling,
        fusion=plan.fusion,
        hidden=plan.hidden,
        dropout=plan.dropout,
    )
    for branch in regressor.branches.values():
        if plan.gradient_checkpointing:
            branch.recompute_activations()
    return regressor


def write_configurations(folder: Path, encoders: Encoders) -> None:
    """Write the encoders' configurations, feature extractor and tokenizer in the format of transformers."""
    with quiet_transformers(bars=False):
        if encoders.audio is not None:
            encoders.audio.config.save_pretrained(folder / AUDIO)
            encoders.extractor.save_pretrained(folder / AUDIO)
        if encoders.text is not None:
            encoders.text.config.save_pretrained(folder / TEXT)
            encoders.tokenizer.save_pretrained(folder / TEXT)


def write_weights(regressor: AudioTextRegressor, folder: Path) -> None:
    """Write all tensors of a regressor as ``model.safetensors``."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in regressor.state_dict().items()}
    temporary = folder / f"{MODEL}.new"
    save_file(tensors, temporary)
    temporary.replace(folder / MODEL)


def write_regressor(folder: Path, plan: TrainPlan, *, fingerprint: str, intervals: dict[str, Any]) -> None:
    """Write ``regressor.json`` with the plan and the prediction intervals."""
    content = {
        "format_version": FORMAT_VERSION, "fingerprint": fingerprint, "plan": plan.to_json(), "intervals": intervals,
    }  # fmt: skip
    replace_file(folder / REGRESSOR, json.dumps(content, indent=1) + "\n")


def read_regressor(folder: Path | str) -> TrainedRegressor:
    """Return the plan and intervals of a trained regressor's folder.

    Raises:
        InputError: if ``folder`` holds no trained regressor, or one of another format version
    """
    folder = Path(folder)
    path = folder / REGRESSOR
    if not path.exists():
        raise InputError(
            "LP740", f"{folder} holds no trained regressor: it has no {REGRESSOR}. Make one with layerprobe train."
        )
    content = read_json(path, advice="Train again, or restore it.")
    check_format_version(content, path)
    try:
        plan = TrainPlan.from_json(content["plan"])
        return TrainedRegressor(folder, plan, str(content["fingerprint"]), dict(content["intervals"]))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("LP700", f"{path} {damage_of(path, error)}. Train again, or restore it.") from error


def load_regressors(trained: TrainedRegressor, *, device: str = "cpu") -> Iterator[AudioTextRegressor]:
    """Yield the regressor of each seed, in eval mode.

    Raises:
        InputError: if a file is missing or does not fit the plan
    """
    encoders = _encoders_from_configurations(trained)
    for seed in trained.plan.seeds:
        path = trained.folder / f"seed-{seed}" / MODEL
        if not path.exists():
            raise InputError("LP741", f"{path} is missing. Run layerprobe train again to resume it.")
        with torch.random.fork_rng(devices=[]):
            regressor = build(encoders, trained.plan)
        tensors = read_tensors(path, advice="Restore it, or delete it and run layerprobe train again.")
        try:
            regressor.load_state_dict(tensors)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                "LP702", f"{path} does not fit {REGRESSOR}: {first_line(error)}. Restore both from one training."
            ) from error
        yield regressor.eval().requires_grad_(False).to(device)


def _encoders_from_configurations(trained: TrainedRegressor) -> Encoders:
    audio = extractor = text = tokenizer = None
    if trained.plan.audio is not None:
        found = find_pretrained(str(trained.folder / AUDIO), SPEECH_ENCODER)
        config = found.config()
        extractor = found.feature_extractor()
        with found.loading():
            audio = ARCHITECTURES[config.model_type].encoder(found.untrained(config, seed=0))
    if trained.plan.text is not None:
        found = find_pretrained(str(trained.folder / TEXT), TEXT_ENCODER)
        config = found.config()
        tokenizer = found.tokenizer()
        text = found.untrained(config, seed=0)
    return Encoders(audio, extractor, text, tokenizer)
