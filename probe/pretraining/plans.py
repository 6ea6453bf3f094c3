"""Plans of distillations and pre-trainings: every choice that can change a weight, frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.encoders.identity import model_hash
from layerprobe.probe.encoders.loading import EMBEDDED
from layerprobe.probe.encoders.speech import NEVER_READ, LoadedModel
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import layer_names
from layerprobe.probe.pretraining.settings import DistilOptions, PretrainOptions

MFCC = "mfcc"


@dataclass(frozen=True)
class DistilPlan:
    """Every choice of a distillation; equal plans on equal audio give equal weights on the CPU."""

    teacher: str  # hub name, or a folder's name
    revision: str  # the hub's commit; "" for a folder
    weights: str  # hash of the teacher's tensors
    n_blocks: int  # of the student
    layers: tuple[str, ...]  # layers of the teacher that are predicted
    random_init: int | None  # seed of random weights of the student; None for the teacher's
    freeze_student: bool  # whether only the prediction heads are trained, as a baseline
    train_front_end: bool
    cosine_weight: float
    steps: int
    batch_size: int  # utterances per step, encoded one at a time
    crop_seconds: float  # length of the random crop of longer recordings
    learning_rate: float
    warmup: float  # fraction of the steps
    max_grad_norm: float  # maximum norm of the gradient
    held_out: float  # fraction of the speakers
    eval_every: int  # steps between two evaluations
    seed: int
    audio_channels: str = DEFAULT_READING.channels_in_plan  # how channels become one
    end_silence: str = DEFAULT_READING.silence_in_plan  # what becomes of digital silence at the ends

    @property
    def reading(self) -> ReadingOptions:
        """What is read of recordings."""
        return ReadingOptions.from_plan(self.audio_channels, self.end_silence)


def default_layers(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return three layers at equal distances, such as 4, 8 and 12 of twelve blocks (Chang, Yang and Lee, 2022).

    >>> default_layers(tuple(map(str, range(13)))), default_layers(("0", "1", "2", "3", "4", "final"))
    (('4', '8', '12'), ('1', '3', '4'))
    """
    n = sum(name.isdecimal() for name in layers) - 1
    return tuple(dict.fromkeys(str(max(1, round(n * k / 3))) for k in (1, 2, 3)))


def plan_distillation(teacher: LoadedModel, options: DistilOptions) -> DistilPlan:
    """Make the plan of a distillation; a teacher in half precision is converted to float32.

    Args:
        teacher: as `probe.encoders.loading.load_model` loads it
        options: options of the distillation
    """
    encoder: Any = teacher.family.encoder(teacher.model).float()
    final_norm = teacher.family.final_norm(encoder)
    names = layer_names(len(teacher.family.blocks(encoder)), final_norm=final_norm is not None)
    reading = ReadingOptions(options.channel, options.trim_silence)
    return DistilPlan(
        teacher=teacher.upstream,
        revision=teacher.revision,
        weights=model_hash(encoder, never_read=NEVER_READ),
        n_blocks=options.blocks,
        layers=options.layers or default_layers(names),
        random_init=options.random_init,
        freeze_student=options.freeze_student,
        train_front_end=options.train_front_end,
        cosine_weight=options.cosine_weight,
        steps=options.steps,
        batch_size=options.batch_size,
        crop_seconds=options.crop_seconds,
        learning_rate=options.learning_rate,
        warmup=0.07,
        max_grad_norm=1.0,
        held_out=0.1,
        eval_every=options.eval_every,
        seed=options.seed,
        audio_channels=reading.channels_in_plan,
        end_silence=reading.silence_in_plan,
    )


@dataclass(frozen=True)
class PretrainPlan:
    """Every choice of a pre-training; equal plans on equal audio give equal weights on the CPU."""

    config: str  # of the encoder, as JSON
    label_source: str  # "mfcc", or an encoder and the layer of it that is clustered
    label_weights: str  # hash of that encoder's tensors; "" for MFCC
    n_units: int
    steps: int
    batch_size: int
    crop_seconds: float
    learning_rate: float
    warmup: float  # fraction of the steps
    max_grad_norm: float
    mask_fraction: float  # fraction of frames that start a masked span
    mask_span: int  # frames
    held_out: float  # fraction of the speakers
    eval_every: int  # steps between two evaluations and checkpoints
    precision: str  # float32 or bfloat16
    seed: int
    audio_channels: str = DEFAULT_READING.channels_in_plan  # how channels become one
    end_silence: str = DEFAULT_READING.silence_in_plan  # what becomes of digital silence at the ends

    @property
    def reading(self) -> ReadingOptions:
        """What is read of recordings."""
        return ReadingOptions.from_plan(self.audio_channels, self.end_silence)


def plan_pretraining(options: PretrainOptions, *, weights: str = "") -> PretrainPlan:
    """Make the plan of a pre-training.

    Args:
        options: options of the pre-training
        weights: hash of the encoder whose layer is clustered; "" for MFCC

    Raises:
        InputError: if the precision is unknown, or the configuration is not that of a HuBERT
    """
    if options.precision not in ("float32", "bfloat16"):
        raise InputError("LP731", f"precision {options.precision!r} is unknown; choose float32 or bfloat16.")
    reading = ReadingOptions(options.channel, options.trim_silence)
    return PretrainPlan(
        config=_configuration(options.config),
        label_source=MFCC if options.label_source == MFCC else Path(options.label_source).name,
        label_weights=weights,
        n_units=options.units,
        steps=options.steps,
        batch_size=options.batch_size,
        crop_seconds=options.crop_seconds,
        learning_rate=options.learning_rate,
        warmup=0.08,
        max_grad_norm=5.0,
        mask_fraction=0.08,
        mask_span=10,
        held_out=0.05,
        eval_every=options.eval_every,
        precision=options.precision,
        seed=options.seed,
        audio_channels=reading.channels_in_plan,
        end_silence=reading.silence_in_plan,
    )


def _configuration(path: Path | None) -> str:
    """Return a HuBERT's configuration as JSON, reduced to what describes the model; the embedded one if None."""
    try:
        content = json.loads((path or EMBEDDED / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            "LP739", f"{path} can't be read as JSON: {error}. Give the config.json of a HuBERT."
        ) from error
    if not isinstance(content, dict) or content.get("model_type") != "hubert":
        raise InputError("LP739", f"{path} has another model_type. Give the config.json of a HuBERT.")
    left_out = ("architectures", "model_type", "transformers_version")
    return json.dumps({k: v for k, v in content.items() if k not in left_out}, sort_keys=True)
