"""Options of a training, from which its plan and the parameters of the command line are made."""

from __future__ import annotations

from dataclasses import dataclass

from layerprobe.probe.training.options import channel_option, option, trim_silence_option


@dataclass(frozen=True)
class EncoderOptions:
    """Encoders to train, their inputs, and which of their parts are frozen."""

    audio_encoder: str | None = option(None, help="Speech encoder: a hub name with an optional @revision, or a folder.")
    text_encoder: str | None = option(None, help="Text encoder: a hub name with an optional @revision, or a folder.")
    audio_layer: str = option(
        "last", help="Layer of the speech encoder that is pooled: last, mix (a learnt weighted sum), or a number."
    )
    text_layer: str = option(
        "last", help="Layer of the text encoder that is pooled: last, mix (a learnt weighted sum), or a number."
    )
    random_init: int | None = option(
        None, low=0, help="Seed of random weights instead of the checkpoints', as a control."
    )
    text_column: str = option("transcript", help="Column of the manifest that the text encoder reads.")
    channel: str | None = channel_option()
    trim_silence: bool = trim_silence_option()
    max_duration: float = option(30.0, low=0.1, help="Maximum duration; longer utterances are quarantined.")
    freeze: tuple[str, ...] = option(
        (),
        help="Encoder or part of one that is not trained (repeatable): audio, text, audio.0, text.embeddings.",
        metavar="PART",
    )
    train_front_end: bool = option(False, help="Train the convolutional front end of the speech encoder as well.")


@dataclass(frozen=True)
class HeadOptions:
    """Targets, and the head that predicts them."""

    targets: tuple[str, ...] = option(
        (), name="target", help="Target to predict (repeatable); all rated targets by default."
    )
    target_weights: tuple[float, ...] = option(
        (), name="target_weight", help="Weight of each target in the loss, in their order (repeatable); 1 by default."
    )
    pooling: str = option("attentive", help="Pooling of frames and tokens: attentive, mean_std or mean.")
    fusion: str = option("concatenation", help="Fusion of audio and text: concatenation, gate or cross_attention.")
    hidden: int = option(256, low=4, help="Number of hidden features of the head.")
    dropout: float = option(0.5, low=0, high=0.95, help="Dropout rate of the head's hidden features.")


@dataclass(frozen=True)
class OptimiserOptions:
    """Optimisation: speakers, batches, learning rates and early stopping."""

    test_split: str | None = option(
        None,
        help="Split that is held out; test or test1 by default, a fifth of the speakers without splits.",
    )
    seeds: int = option(1, low=1, help="Number of regressors, which differ by their random seed alone.")
    batch_size: int = option(32, low=2, help="Utterances per batch, over which the CCC loss is computed.")
    max_batch_frames: int = option(
        8000, low=1, help="Maximum of padded frames encoded at once, at 50 frames per second."
    )
    epochs: int = option(20, low=1, help="Maximum number of epochs.")
    patience: int = option(5, low=1, help="Epochs without a better development score before training stops.")
    learning_rate: float = option(2e-5, help="Learning rate of each encoder's top block.")
    head_learning_rate: float = option(1e-3, help="Learning rate of all parameters outside the encoders.")
    layer_decay: float = option(
        0.9, low=0.01, high=1, help="Factor of the learning rate from each block to the one below."
    )
    weight_decay: float = option(0.01, low=0, help="Weight decay of matrices; biases and norms have none.")
    warmup: float = option(0.1, low=0, high=1, help="Fraction of the steps in which learning rates rise from 0.")
    max_grad_norm: float = option(1.0, low=0, help="Maximum norm of the gradient.")
    precision: str = option("auto", help="Precision of training: float32, bfloat16, or auto (bfloat16 on a GPU).")
    gradient_checkpointing: bool = option(False, help="Recompute activations to save memory (gradient checkpointing).")
