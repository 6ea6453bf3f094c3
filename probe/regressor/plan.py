"""The plan of a training: equal plans on equal audio give equal weights, on the CPU bit for bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.encoders.identity import model_hash
from layerprobe.probe.encoders.loading import check_forward, load_model
from layerprobe.probe.encoders.speech import NEVER_READ
from layerprobe.probe.encoders.text import check_text_forward, load_text_model
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
    """The encoders of a regressor, loaded or built from configurations."""

    audio: Any = None  # speech encoder
    extractor: Any = None  # its feature extractor
    text: Any = None  # text encoder
    tokenizer: Any = None
    preprocessing_note: str = ""  # on a default feature extractor of the speech encoder


@dataclass(frozen=True)
class EncoderChoice:
    """Identity of an encoder before training, and the layer that is pooled."""

    upstream: str  # "ntu-spml/distilhubert", or a folder's name
    revision: str  # the hub's commit; "" for a folder
    weights: str  # hash of every tensor, of the model's configuration and of code that came with it
    random_init: int | None  # seed of untrained weights, None for the checkpoint's
    layer: str  # last, mix, or a layer's name


@dataclass(frozen=True)
class TrainPlan:
    """Every choice of a training that can change a number."""

    audio: EncoderChoice | None
    text: EncoderChoice | None
    text_column: str  # the manifest's column with the transcripts
    targets: tuple[str, ...]
    target_weights: tuple[float, ...]
    test_split: str | None  # the split that is held out; None for speakers assigned at random by the first seed
    seeds: tuple[int, ...]
    pooling: str
    fusion: str
    hidden: int
    dropout: float
    frozen: tuple[str, ...]  # audio, text, or parts of them: audio.front_end, text.embeddings, audio.0, …
    batch_size: int  # utterances over which the CCC loss is computed
    max_batch_frames: int  # padded frames and tokens that are encoded at once
    max_duration: float  # seconds; longer utterances are quarantined
    epochs: int
    patience: int  # epochs without a better development score before training stops
    learning_rate: float  # of each encoder's top block
    head_learning_rate: float  # of all parameters outside the encoders
    layer_decay: float  # factor of the learning rate from each block to the one below
    weight_decay: float
    warmup: float  # fraction of the steps in which learning rates rise from 0
    max_grad_norm: float  # maximum norm of the gradient
    precision: str  # float32, or bfloat16 (autocast)
    gradient_checkpointing: bool  # whether activations are recomputed in the backward pass
    libraries: str  # versions of libraries that can change a number
    audio_channels: str = DEFAULT_READING.channels_in_plan  # how channels become one
    end_silence: str = DEFAULT_READING.silence_in_plan  # what becomes of digital silence at the ends

    @property
    def reading(self) -> ReadingOptions:
        """What is read of recordings."""
        return ReadingOptions.from_plan(self.audio_channels, self.end_silence)

    def fingerprint(self) -> str:
        """Return twelve hex digits that identify the plan."""
        return plan_fingerprint(self)

    def to_json(self) -> dict[str, Any]:
        """Return the plan in plain types, for ``regressor.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainPlan:
        """Return the plan from what `to_json` returned."""
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
    """Load the encoders and make the plan of a training.

    Args:
        manifest: manifest with ratings
        encoders: encoders and their frozen parts; blocks above the pooled layer are dropped
        head: targets, pooling, fusion and head; the defaults if None
        optimiser: split, batches, learning rates and early stopping; the defaults if None
        device: cpu or cuda, on which the precision ``auto`` depends
        show_download: whether the hub's progress bars are shown

    Returns:
        the loaded encoders and the plan

    Raises:
        InputError: if an encoder can't be loaded or a choice is unknown
    """
    head, optimiser = head or HeadOptions(), optimiser or OptimiserOptions()
    if encoders.audio_encoder is None and encoders.text_encoder is None:
        raise InputError("LP730", "A regressor needs an encoder: give --audio-encoder, --text-encoder or both.")
    if optimiser.precision not in PRECISIONS:
        raise InputError("LP731", f"precision {optimiser.precision!r} is unknown; choose auto, float32 or bfloat16.")
    reading = ReadingOptions(encoders.channel, encoders.trim_silence)
    loaded, audio, text = _load_encoders(encoders, show_download=show_download)
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
        frozen=_frozen(encoders, loaded),
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
        audio_channels=reading.channels_in_plan,
        end_silence=reading.silence_in_plan,
    )
    return loaded, plan


def _load_encoders(
    options: EncoderOptions, *, show_download: bool
) -> tuple[Encoders, EncoderChoice | None, EncoderChoice | None]:
    """Load both encoders in float32, each with its identity for the plan."""
    loaded, audio, text, seed = Encoders(), None, None, options.random_init
    if options.audio_encoder is not None:
        speech = load_model(options.audio_encoder, random_init=seed, show_download=show_download)
        encoder = speech.family.encoder(speech.model).float()
        check_forward(speech, options.audio_encoder)
        loaded = Encoders(audio=encoder, extractor=speech.extractor, preprocessing_note=speech.preprocessing_note)
        weights = speech.weights or model_hash(encoder, never_read=NEVER_READ)
        audio = EncoderChoice(speech.upstream, speech.revision, weights, seed, options.audio_layer)
    if options.text_encoder is not None:
        text_model = load_text_model(options.text_encoder, random_init=seed, show_download=show_download)
        model = text_model.model.float()
        check_text_forward(text_model, options.text_encoder)
        loaded = replace(loaded, text=model, tokenizer=text_model.tokenizer)
        weights = text_model.weights or model_hash(model)
        text = EncoderChoice(text_model.upstream, text_model.revision, weights, seed, options.text_layer)
    return loaded, audio, text


def _test_split(manifest: Manifest) -> str | None:
    """Return the split that is held out by default, or None where the manifest has no test split."""
    present = set(manifest.table["split"]) if "split" in manifest.table else set()
    return next((name for name in ("test", "test1") if name in present), None)


def _frozen(options: EncoderOptions, encoders: Encoders) -> tuple[str, ...]:
    """Return the frozen parts: the convolutional front end unless it is to be trained, and those of the options."""
    # w2v-BERT takes filter banks and has none
    names = () if encoders.audio is None else (name.split(".")[0] for name, _ in encoders.audio.named_parameters())
    has_front_end = any(name in ("feature_extractor", "conv1") for name in names)
    always = (ALWAYS_FROZEN,) if has_front_end and not options.train_front_end else ()
    return tuple(dict.fromkeys((*always, *options.freeze)))


def _precision(precision: str, device: str) -> str:
    """Resolve ``auto``: bfloat16 on a GPU with hardware support for it, else float32."""
    if precision != "auto":
        return precision
    supported = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if supported else "float32"


def check_training(plan: TrainPlan, manifest: Manifest) -> None:
    """Check that a plan can be carried out on a manifest, before any audio is read.

    Raises:
        InputError: if a target, column, split or choice does not fit; the message names it and a remedy
    """
    unknown = [t for t in plan.targets if t not in manifest.targets]
    if unknown or not plan.targets:
        described = ", ".join(manifest.targets) or "none"
        raise InputError(
            "LP716", f"{manifest.path} has no rated target {unknown[0] if unknown else ''!r}; it has {described}."
        )
    if len(plan.target_weights) != len(plan.targets):
        raise InputError("LP717", f"{len(plan.targets)} targets need as many weights, not {len(plan.target_weights)}.")
    for name, value, known in (("pooling", plan.pooling, tuple(FRAME_POOLINGS)), ("fusion", plan.fusion, FUSIONS)):
        if value not in known:
            raise InputError("LP731", f"{name} {value!r} is unknown; choose one of {', '.join(known)}.")
    if plan.text is not None and plan.text_column not in manifest.table:
        raise InputError(
            "LP718",
            f"{manifest.path} has no column {plan.text_column!r} of transcripts. Make it with layerprobe transcribe, "
            "or name another one with --text-column.",
        )
    if plan.batch_size < 2:
        raise InputError("LP732", "A CCC needs two utterances or more in a batch. Raise --batch-size.")
    if plan.test_split is not None:
        present = set(manifest.table["split"]) if "split" in manifest.table else set()
        missing = [split for split in (TRAIN, DEVELOPMENT, plan.test_split) if split not in present]
        if missing:
            raise InputError(
                "LP713",
                f"{manifest.path} has no split {missing[0]!r}. Training uses {TRAIN!r}, early stopping "
                f"{DEVELOPMENT!r}, evaluation {plan.test_split!r}. Omit --test-split to assign speakers at random.",
            )


def autocast(plan: TrainPlan, device: torch.device) -> torch.autocast:
    """Return the autocast context of the plan's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.precision == "bfloat16")
