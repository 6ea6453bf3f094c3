"""A trained regressor on disk: weights as safetensors, everything else as text that a person can read.

``regressor.json`` has the plan and how far development speakers' ratings were from their predictions; ``audio`` and
``text`` have the configurations of the encoders, with the preprocessor and the tokenizer; each seed's weights lie in
``seed-N/model.safetensors``. Nothing else is needed to predict: no hub, no pickle.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from layerprobe.probe.encoders.architectures import ARCHITECTURES
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.regressor.plan import Encoders, TrainPlan
from layerprobe.probe.training.branches import AudioBranch, TextBranch

REGRESSOR, MODEL = "regressor.json", "model.safetensors"
AUDIO, TEXT = "audio", "text"


@dataclass(frozen=True)
class TrainedRegressor:
    """A regressor's folder, read."""

    folder: Path
    plan: TrainPlan
    fingerprint: str
    intervals: dict[str, Any]  # ``level``, and ``half_width`` of each target


def build(parts: Encoders, plan: TrainPlan) -> AudioTextRegressor:
    """Encoders as they are in ``parts``, which are copied, and a head drawn by torch's chance."""
    audio = text = None
    if plan.audio is not None:
        encoder = copy.deepcopy(parts.audio)
        audio = AudioBranch(encoder, ARCHITECTURES[encoder.config.model_type], parts.extractor, layer=plan.audio.layer)
    if plan.text is not None:
        model = copy.deepcopy(parts.text)
        text = TextBranch(model, TEXT_ARCHITECTURES[model.config.model_type], parts.tokenizer, layer=plan.text.layer)
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
            branch.make_activations_again()
    return regressor


def write_configurations(folder: Path, parts: Encoders) -> None:
    """What encoders are made from, as transformers writes it."""
    with quiet_transformers(bars=False):
        if parts.audio is not None:
            parts.audio.config.save_pretrained(folder / AUDIO)
            parts.extractor.save_pretrained(folder / AUDIO)
        if parts.text is not None:
            parts.text.config.save_pretrained(folder / TEXT)
            parts.tokenizer.save_pretrained(folder / TEXT)


def write_weights(regressor: AudioTextRegressor, folder: Path) -> None:
    """All tensors of a regressor."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in regressor.state_dict().items()}
    temporary = folder / f"{MODEL}.new"
    save_file(tensors, temporary)
    temporary.replace(folder / MODEL)


def write_regressor(folder: Path, plan: TrainPlan, *, fingerprint: str, intervals: dict[str, Any]) -> None:
    """The plan and the intervals."""
    content = {"fingerprint": fingerprint, "plan": plan.to_json(), "intervals": intervals}
    (folder / REGRESSOR).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_regressor(folder: Path | str) -> TrainedRegressor:
    """Read what `write_regressor` wrote.

    Raises:
        InputError: if ``folder`` holds no trained regressor
    """
    folder = Path(folder)
    path = folder / REGRESSOR
    if not path.exists():
        raise InputError(f"{folder} holds no trained regressor: it has no {REGRESSOR}. Make one with layerprobe train.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = TrainPlan.from_json(content["plan"])
        return TrainedRegressor(folder, plan, str(content["fingerprint"]), dict(content["intervals"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} can't be read ({error}). Train again, or restore it.") from error


def load_regressors(trained: TrainedRegressor, *, device: str = "cpu") -> Iterator[AudioTextRegressor]:
    """The regressor of each seed in turn, in eval mode.

    Raises:
        InputError: if its files are missing or do not fit the plan
    """
    parts = _parts_from_configurations(trained)
    for seed in trained.plan.seeds:
        path = trained.folder / f"seed-{seed}" / MODEL
        if not path.exists():
            raise InputError(f"{path} is missing. Run layerprobe train again: it goes on where it was.")
        with torch.random.fork_rng(devices=[]):
            regressor = build(parts, trained.plan)
        try:
            regressor.load_state_dict(load_file(path))
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"{path} does not fit {REGRESSOR}: {str(error).splitlines()[0]}") from error
        yield regressor.eval().requires_grad_(False).to(device)


def _parts_from_configurations(trained: TrainedRegressor) -> Encoders:
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoTokenizer

    audio = extractor = text = tokenizer = None
    try:
        with quiet_transformers(bars=False), torch.random.fork_rng(devices=[]):
            if trained.plan.audio is not None:
                config = AutoConfig.from_pretrained(trained.folder / AUDIO)
                audio = ARCHITECTURES[config.model_type].encoder(AutoModel.from_config(config))
                extractor = AutoFeatureExtractor.from_pretrained(trained.folder / AUDIO)
            if trained.plan.text is not None:
                text = AutoModel.from_config(AutoConfig.from_pretrained(trained.folder / TEXT))
                tokenizer = AutoTokenizer.from_pretrained(trained.folder / TEXT)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{trained.folder}: an encoder's configuration can't be read ({error}).") from error
    return Encoders(audio, extractor, text, tokenizer)
