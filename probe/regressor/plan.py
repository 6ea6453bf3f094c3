"""Every choice of a training, frozen: equal plans on equal sounds mean equal regressors, on the CPU bit for bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch

from layerprobe.probe.data.schema import Manifest
from layerprobe.probe.encoders.hooks import tensors_hash
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.speech import NEVER_READ
from layerprobe.probe.encoders.text import load_text_model
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import plan_fingerprint
from layerprobe.probe.regressor.model import FRAME_POOLINGS, FUSIONS
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions

TRAIN, DEVELOPMENT = "train", "development"
LIBRARIES = ("torch", "transformers", "soxr", "soundfile")
ALWAYS_FROZEN = "audio.front_end"
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Encoders:
    """Encoders that a regressor is built of, loaded or made from configurations."""

    audio: Any = None  # the speech encoder, and its feature extractor
    extractor: Any = None
    text: Any = None  # the text encoder, and its tokenizer
    tokenizer: Any = None


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
    text_column: str  # the manifest's column that is read
    targets: tuple[str, ...]
    target_weights: tuple[float, ...]
    test_split: str | None  # the split that is held out; None where speakers are dealt by the seed
    seeds: tuple[int, ...]
    pooling: str
    fusion: str
    hidden: int
    dropout: float
    frozen: tuple[str, ...]  # audio, text, or parts of them: audio.front_end, text.embeddings, audio.0, …
    batch_size: int  # utterances over which a CCC is taken
    max_batch_frames: int  # padded frames and tokens that are heard at once
    max_duration: float
    epochs: int
    patience: int  # epochs without a better development score after which it ends
    learning_rate: float  # of the top block of an encoder
    head_learning_rate: float
    layer_decay: float  # of the learning rate from each block to the one below
    weight_decay: float
    warmup: float  # share of the steps in which learning rates rise from 0
    max_grad_norm: float  # the gradient's largest norm
    precision: str  # float32, or bfloat16 for what autocast takes
    gradient_checkpointing: bool  # whether activations are made again instead of kept
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


def plan_training(
    manifest: Manifest,
    *,
    encoders: EncoderOptions,
    head: HeadOptions | None = None,
    optimiser: OptimiserOptions | None = None,
    device: str = "cpu",
    show_download: bool = True,
) -> tuple[Encoders, TrainPlan]:
    """Load what is to be trained and settle how.

    Args:
        manifest: what was rated
        encoders: which encoders, and what of them learns; blocks above the layer that is pooled are dropped
        head: what is predicted, and by what; None for the defaults
        optimiser: how it is fitted; None for the defaults
        device: cpu or cuda, on which the precision ``auto`` depends
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if an encoder can't be loaded or a choice is unknown
    """
    head, optimiser = head or HeadOptions(), optimiser or OptimiserOptions()
    if encoders.audio_encoder is None and encoders.text_encoder is None:
        raise InputError("A regressor needs an encoder: give --audio-encoder, --text-encoder or both.")
    if optimiser.precision not in PRECISIONS:
        raise InputError(f"precision {optimiser.precision!r} is unknown; choose auto, float32 or bfloat16.")
    parts, audio, text = _loaded(encoders, show_download=show_download)
    targets = head.targets or tuple(manifest.targets)
    plan = TrainPlan(
        audio=audio,
        text=text,
        text_column=encoders.text_column,
        targets=targets,
        target_weights=head.target_weights or (1.0,) * len(targets),
        test_split=_test_split(manifest) if optimiser.test_split is None else optimiser.test_split,
        seeds=tuple(range(optimiser.seeds)),
        pooling=head.pooling,
        fusion=head.fusion,
        hidden=head.hidden,
        dropout=head.dropout,
        frozen=_frozen(encoders, parts),
        batch_size=optimiser.batch_size,
        max_batch_frames=optimiser.max_batch_frames,
        max_duration=encoders.max_duration,
        epochs=optimiser.epochs,
        patience=optimiser.patience,
        learning_rate=optimiser.learning_rate,
        head_learning_rate=optimiser.head_learning_rate,
        layer_decay=optimiser.layer_decay,
        weight_decay=optimiser.weight_decay,
        warmup=optimiser.warmup,
        max_grad_norm=optimiser.max_grad_norm,
        precision=_precision(optimiser.precision, device),
        gradient_checkpointing=optimiser.gradient_checkpointing,
        libraries=", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in LIBRARIES),
    )
    return parts, plan


def _loaded(
    options: EncoderOptions, *, show_download: bool
) -> tuple[Encoders, EncoderChoice | None, EncoderChoice | None]:
    """Both encoders in float32, and how they are named in the plan."""
    parts, audio, text, seed = Encoders(), None, None, options.random_init
    if options.audio_encoder is not None:
        heard = load_model(options.audio_encoder, random_init=seed, show_download=show_download)
        encoder = heard.family.encoder(heard.model).float()
        parts = Encoders(audio=encoder, extractor=heard.extractor)
        weights = tensors_hash(encoder, never_read=NEVER_READ)
        audio = EncoderChoice(heard.upstream, heard.revision, weights, seed, options.audio_layer)
    if options.text_encoder is not None:
        read = load_text_model(options.text_encoder, random_init=seed, show_download=show_download)
        parts = Encoders(parts.audio, parts.extractor, read.model.float(), read.tokenizer)
        text = EncoderChoice(read.upstream, read.revision, tensors_hash(read.model), seed, options.text_layer)
    return parts, audio, text


def _test_split(manifest: Manifest) -> str | None:
    """The split that is held out unless another is named; None where the manifest has none."""
    present = set(manifest.table["split"]) if "split" in manifest.table else set()
    return next((name for name in ("test", "test1") if name in present), None)


def _frozen(options: EncoderOptions, parts: Encoders) -> tuple[str, ...]:
    """Parts that do not learn: the convolutional front end unless it is asked for, and those that are named."""
    # w2v-BERT takes filter banks and has none
    names = () if parts.audio is None else (name.split(".")[0] for name, _ in parts.audio.named_parameters())
    has_front_end = any(name in ("feature_extractor", "conv1") for name in names)
    always = (ALWAYS_FROZEN,) if has_front_end and not options.train_front_end else ()
    return tuple(dict.fromkeys((*always, *options.freeze)))


def _precision(asked: str, device: str) -> str:
    """``auto`` is bfloat16 on a GPU that multiplies in it."""
    if asked != "auto":
        return asked
    sixteen = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if sixteen else "float32"


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
    if plan.text is not None and plan.text_column not in manifest.table:
        raise InputError(
            f"{manifest.path} has no column {plan.text_column!r} to read. layerprobe transcribe makes it, or name another "
            "with --text-column."
        )
    if plan.batch_size < 2:
        raise InputError("A CCC needs two utterances or more in a batch. Raise --batch-size.")
    if plan.test_split is not None:
        present = set(manifest.table["split"]) if "split" in manifest.table else set()
        missing = [split for split in (TRAIN, DEVELOPMENT, plan.test_split) if split not in present]
        if missing:
            raise InputError(
                f"{manifest.path} has no split {missing[0]!r}. Training learns from {TRAIN!r}, stops by "
                f"{DEVELOPMENT!r} and is judged on {plan.test_split!r}; leave --test-split out to have speakers dealt."
            )


def autocast(plan: TrainPlan, device: torch.device) -> torch.autocast:
    """What multiplies in 16 bits if the plan says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.precision == "bfloat16")
