"""Every choice of a training, frozen: equal plans on equal sounds mean equal regressors, on the CPU bit for bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from layerprobe.probe.data.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import plan_fingerprint
from layerprobe.probe.regressor.model import FRAME_POOLINGS, FUSIONS

TRAIN, DEVELOPMENT = "train", "development"


@dataclass(frozen=True)
class EncoderChoice:
    """One encoder as it was before training."""

    upstream: str  # "ntu-spml/distilhubert", or a folder's name
    revision: str  # the hub's commit; "" for a folder
    weights: str  # hash of every tensor
    random_init: int | None  # seed of untrained weights, None for the checkpoint's
    layer: str  # last, mix, or a layer's name


@dataclass(frozen=True)
class TrainPlan:
    """What is trained on whom, and how; see `plan_training` for what each means."""

    audio: EncoderChoice | None
    text: EncoderChoice | None
    words: str  # the manifest's column that is read
    targets: tuple[str, ...]
    target_weights: tuple[float, ...]
    test: str | None  # the split that is held out; None where speakers are dealt by the seed
    seeds: tuple[int, ...]
    pooling: str
    fusion: str
    hidden: int
    dropout: float
    frozen: tuple[str, ...]  # audio, text, or parts of them: audio.front_end, text.embeddings, audio.0, …
    batch_size: int  # utterances over which a CCC is taken
    frame_budget: int  # padded frames and tokens that are heard at once
    longest_seconds: float
    epochs: int
    patience: int  # epochs without a better development score after which it ends
    learning_rate: float  # of the top block of an encoder
    head_learning_rate: float
    layer_decay: float  # of the learning rate from each block to the one below
    weight_decay: float
    warmup: float  # share of the steps in which learning rates rise from 0
    clip: float  # the gradient's largest norm
    precision: str  # float32, or bfloat16 for what autocast takes
    checkpointing: bool  # whether activations are made again instead of kept
    libraries: str  # versions that can change a number

    def fingerprint(self) -> str:
        """Twelve hex digits."""
        return plan_fingerprint(self)

    def to_json(self) -> dict[str, Any]:
        """Plain types, for ``regressor.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainPlan:
        """The plan that `to_json` wrote."""
        tuples = ("targets", "target_weights", "seeds", "frozen")
        values: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in content.items()}
        for name in ("audio", "text"):
            values[name] = None if values[name] is None else EncoderChoice(**values[name])
        return cls(**values)


def check_training(plan: TrainPlan, manifest: Manifest) -> None:
    """Refuse what can't be trained, before anything is loaded or heard.

    Raises:
        InputError: naming the choice and the mend
    """
    unknown = [t for t in plan.targets if t not in manifest.targets]
    if unknown or not plan.targets:
        described = ", ".join(manifest.targets) or "none"
        raise InputError(f"{manifest.path} has no rated target {unknown[0] if unknown else ''!r}; it has {described}.")
    if len(plan.target_weights) != len(plan.targets):
        raise InputError(f"{len(plan.targets)} targets need as many weights, not {len(plan.target_weights)}.")
    for name, value, known in (("pooling", plan.pooling, tuple(FRAME_POOLINGS)), ("fusion", plan.fusion, FUSIONS)):
        if value not in known:
            raise InputError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}.")
    if plan.text is not None and plan.words not in manifest.table:
        raise InputError(
            f"{manifest.path} has no column {plan.words!r} to read. layerprobe transcribe makes it, or name another "
            "with --words."
        )
    if plan.batch_size < 2:
        raise InputError("A CCC needs two utterances or more in a batch. Raise --batch-size.")
    if plan.test is not None:
        present = set(manifest.table["split"]) if "split" in manifest.table else set()
        missing = [split for split in (TRAIN, DEVELOPMENT, plan.test) if split not in present]
        if missing:
            raise InputError(
                f"{manifest.path} has no split {missing[0]!r}. Training learns from {TRAIN!r}, stops by "
                f"{DEVELOPMENT!r} and is judged on {plan.test!r}; leave --test out to have speakers dealt."
            )


def autocast(plan: TrainPlan, device: torch.device) -> torch.autocast:
    """What multiplies in 16 bits if the plan says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.precision == "bfloat16")
