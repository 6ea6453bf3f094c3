"""Options of distillation and pre-training, from which plans and the parameters of the command line are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layerprobe.probe.training.options import channel_option, option, trim_silence_option


@dataclass(frozen=True)
class DistilOptions:
    """Options of a distillation: the student, the teacher's layers that it predicts, and its training."""

    blocks: int = option(low=1, help="Number of blocks of the student, taken from the teacher's first.")
    layers: tuple[str, ...] = option(
        (), name="layer", help="Layer of the teacher to predict (repeatable); three at equal distances by default."
    )
    steps: int = option(2000, low=1, help="Number of training steps.")
    batch_size: int = option(8, low=1, help="Utterances per step.")
    crop_seconds: float = option(10.0, low=0.1, help="Length of the random crop that is taken of longer utterances.")
    learning_rate: float = option(2e-4, help="Peak learning rate, reached after the warm-up.")
    cosine_weight: float = option(1.0, low=0, help="Weight of the cosine term of the loss relative to its L1 term.")
    eval_every: int = option(100, low=1, help="Steps between two evaluations on held-out speakers.")
    seed: int = option(0, low=0, help="Random seed of batches, crops and held-out speakers.")
    freeze_student: bool = option(False, help="Freeze the student and train its prediction heads alone, as a baseline.")
    random_init: int | None = option(
        None, low=0, help="Seed of a student with random weights instead of the teacher's, as a control."
    )
    train_front_end: bool = option(False, help="Train the convolutional front end of the student as well.")
    channel: str | None = channel_option()
    trim_silence: bool = trim_silence_option()


@dataclass(frozen=True)
class PretrainOptions:
    """Options of a pre-training: cluster units, the encoder's configuration, and its training."""

    label_source: str = option("mfcc", help="Source of the cluster units: mfcc, or ENCODER@LAYER of an earlier round.")
    units: int = option(100, low=2, help="Number of clusters.")
    config: Path | None = option(
        None, help="Configuration (config.json) of a HuBERT; the small one of this project by default."
    )
    steps: int = option(5000, low=1, help="Number of training steps.")
    batch_size: int = option(16, low=1, help="Utterances per step.")
    crop_seconds: float = option(4.0, low=0.5, help="Length of the random crop that is taken of each utterance.")
    learning_rate: float = option(1e-3, help="Peak learning rate, reached after the warm-up.")
    eval_every: int = option(250, low=1, help="Steps between two evaluations on held-out speakers.")
    precision: str = option("float32", help="Precision of training: float32 or bfloat16.")
    seed: int = option(0, low=0, help="Random seed of units, masks, batches and held-out speakers.")
    channel: str | None = channel_option()
    trim_silence: bool = trim_silence_option()
