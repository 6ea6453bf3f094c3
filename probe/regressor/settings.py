"""Names and wishes become encoders to be trained and a plan with every choice settled."""

from __future__ import annotations

from importlib.metadata import version

import torch

from layerprobe.probe.data.schema import TRANSCRIPT, Manifest
from layerprobe.probe.encoders.hooks import tensors_hash
from layerprobe.probe.encoders.loading import load_model
from layerprobe.probe.encoders.speech import NEVER_READ
from layerprobe.probe.encoders.text import load_text_model
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor.plan import EncoderChoice, TrainPlan
from layerprobe.probe.regressor.saving import Parts

LIBRARIES = ("torch", "transformers", "soxr", "soundfile")
ALWAYS_FROZEN = "audio.front_end"


def plan_training(
    manifest: Manifest,
    *,
    audio: str | None,
    text: str | None,
    words: str = TRANSCRIPT,
    audio_layer: str = "last",
    text_layer: str = "last",
    random_init: int | None = None,
    targets: tuple[str, ...] = (),
    target_weights: tuple[float, ...] = (),
    test: str | None = None,
    seeds: int = 1,
    pooling: str = "attentive",
    fusion: str = "concatenation",
    hidden: int = 256,
    dropout: float = 0.5,
    freeze: tuple[str, ...] = (),
    train_front_end: bool = False,
    batch_size: int = 32,
    frame_budget: int = 8000,
    longest_seconds: float = 30.0,
    epochs: int = 20,
    patience: int = 5,
    learning_rate: float = 2e-5,
    head_learning_rate: float = 1e-3,
    layer_decay: float = 0.9,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    clip: float = 1.0,
    precision: str = "auto",
    checkpointing: bool = False,
    device: str = "cpu",
    show_download: bool = True,
) -> tuple[Parts, TrainPlan]:
    """Load what is to be trained and settle how.

    Args:
        manifest: what was rated
        audio: a hub name with an optional ``@revision`` or a folder of a speech encoder; None for words alone
        text: the same of a text encoder; None for sound alone
        words: the manifest's column that is read
        audio_layer: the state that is pooled: ``last``, a learnt ``mix`` of all, or a layer's name; blocks above it are
            dropped
        text_layer: the same of the text encoder
        random_init: seed for untrained encoders, the control; None for the checkpoints' weights
        targets: those to predict; all rated ones of the manifest if empty
        target_weights: of each in the loss; 1 each if empty
        test: the split that is held out; None takes ``test``, else ``test1``, where the manifest has splits, and has
            speakers dealt where it has none
        seeds: how many regressors are trained, with seeds 0, 1, …
        pooling: a key of `probe.regressor.model.FRAME_POOLINGS`
        fusion: one of `probe.regressor.model.FUSIONS`
        hidden: features of the head
        dropout: of the head's features
        freeze: ``audio``, ``text`` or parts of them that do not learn: ``text.embeddings``, ``audio.0``, …
        train_front_end: whether the convolutional front end learns, too
        batch_size: utterances over which a CCC is taken
        frame_budget: padded frames and tokens that are heard at once, 50 frames a second
        longest_seconds: a longer sound is quarantined
        epochs: at most
        patience: epochs without a better development score after which it ends
        learning_rate: of each encoder's top block
        head_learning_rate: of everything that is no encoder
        layer_decay: of the learning rate from block to block downwards
        weight_decay: of AdamW, on matrices
        warmup: share of the steps in which learning rates rise
        clip: the gradient's largest norm
        precision: float32 or bfloat16; auto is bfloat16 on a GPU that has it
        checkpointing: whether activations are made again instead of kept
        device: cpu or cuda
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if an encoder can't be loaded or a choice is unknown
    """
    if audio is None and text is None:
        raise InputError("A regressor needs an encoder: give --audio, --text or both.")
    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision {precision!r} is unknown; choose auto, float32 or bfloat16.")
    parts, choices = Parts(), {"audio": None, "text": None}
    if audio is not None:
        heard = load_model(audio, random_init=random_init, show_download=show_download)
        encoder = heard.family.encoder(heard.model).float()
        parts = Parts(audio=encoder, extractor=heard.extractor)
        weights = tensors_hash(encoder, never_read=NEVER_READ)
        choices["audio"] = EncoderChoice(heard.upstream, heard.revision, weights, random_init, audio_layer)  # type: ignore[assignment]
    if text is not None:
        read = load_text_model(text, random_init=random_init, show_download=show_download)
        parts = Parts(parts.audio, parts.extractor, read.model.float(), read.tokenizer)
        choices["text"] = EncoderChoice(read.upstream, read.revision, tensors_hash(read.model), random_init, text_layer)  # type: ignore[assignment]
    rated = targets or tuple(manifest.targets)
    present = set(manifest.table["split"]) if "split" in manifest.table else set()
    if test is None:
        test = next((name for name in ("test", "test1") if name in present), None)
    if precision == "auto":
        sixteen = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if sixteen else "float32"
    front_end = () if train_front_end or audio is None or not _has_front_end(parts) else (ALWAYS_FROZEN,)
    plan = TrainPlan(
        audio=choices["audio"],
        text=choices["text"],
        words=words,
        targets=rated,
        target_weights=target_weights or (1.0,) * len(rated),
        test=test,
        seeds=tuple(range(seeds)),
        pooling=pooling,
        fusion=fusion,
        hidden=hidden,
        dropout=dropout,
        frozen=tuple(dict.fromkeys((*front_end, *freeze))),
        batch_size=batch_size,
        frame_budget=frame_budget,
        longest_seconds=longest_seconds,
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        precision=precision,
        checkpointing=checkpointing,
        libraries=", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in LIBRARIES),
    )
    return parts, plan


def _has_front_end(parts: Parts) -> bool:
    """w2v-BERT hears filter banks."""
    return any(name.split(".")[0] in ("feature_extractor", "conv1") for name, _ in parts.audio.named_parameters())
