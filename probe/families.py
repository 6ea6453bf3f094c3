"""Speech architectures: where each keeps its blocks, and what becomes of a waveform before it is heard.

A family is all that `probe.encoder` has to know of an architecture. For one that is not here, write your own in a file
and name it to ``layerprobe extract --adapter``; ``layerprobe doctor --adapter`` checks it. The whole of an adapter for
a model that hears waveforms through strided convolutions:

    from probe.families import Family, convolutions_need, one_piece, whole_waveform

    FAMILY = Family(
        encoder=lambda model: model,
        tensors="",
        blocks=lambda encoder: encoder.encoder.layers,
        final_norm=lambda encoder: None,
        pieces=whole_waveform,
        minimum_samples=convolutions_need,
        long_sound=one_piece,
    )
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from probe.errors import InputError


@dataclass(frozen=True)
class Piece:
    """One forward pass: what the encoder is called with, and which frames of its answer are of the sound."""

    inputs: dict[str, Tensor]
    n_valid_frames: int | None = None  # the leading ones; None where all are


@dataclass(frozen=True)
class Family:
    """One architecture, taken apart; each field is a function of what transformers loads for it."""

    encoder: Callable[[Any], nn.Module]  # what is called, out of the loaded model
    tensors: str  # prefix of the encoder's tensors in the loaded model
    blocks: Callable[[Any], nn.ModuleList]  # of the encoder, in order
    final_norm: Callable[[Any], nn.Module | None]  # of the encoder; None where each block ends with its own
    pieces: Callable[[np.ndarray, Any, Any], Iterator[Piece]]  # of waveform (n_samples,), extractor, config
    minimum_samples: Callable[[Any, Any], int]  # that one frame needs; of extractor, config
    long_sound: Callable[[Any], str]  # how long sound is heard, in words for the plan; of the extractor


def whole_waveform(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[Piece]:
    """The waveform in one piece, normalised if the extractor says so; every frame is of the sound."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    yield Piece({"input_values": inputs.input_values})


def convolutions_need(extractor: Any, config: Any) -> int:
    """Samples that reach one frame through the strided convolutions: 400 in most published encoders.

    SEW averages ``squeeze_factor`` frames into one before its blocks, so it needs as many.
    """
    needed = getattr(config, "squeeze_factor", 1)
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        needed = (needed - 1) * stride + kernel
    return int(needed)


def one_piece(extractor: Any) -> str:
    """Long sound is heard in one piece."""
    return "one piece"


def _log_mel_windows(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[Piece]:
    """Whisper's windows of 30 s, padded with silence; a frame counts where it begins within the sound."""
    stride = extractor.n_samples // config.max_source_positions  # 320 samples
    for begin in range(0, len(waveform), extractor.n_samples):
        window = waveform[begin : begin + extractor.n_samples]
        inputs = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        yield Piece({"input_features": inputs.input_features}, -(-len(window) // stride))


def _filter_banks(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[Piece]:
    """w2v-BERT's stacked filter banks; a frame that is half padding is masked and not of the sound."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt", return_attention_mask=True)
    mask = inputs.attention_mask
    yield Piece({"input_features": inputs.input_features, "attention_mask": mask}, int(mask.sum()))


def _stable_norm(encoder: Any) -> nn.Module | None:
    """The wav2vec 2.0 kind has a final norm where it normalises before each block, which its config calls stable."""
    stable = getattr(encoder.config, "do_stable_layer_norm", False)
    return encoder.encoder.layer_norm if stable else None


_WAV2VEC2 = Family(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=_stable_norm,
    pieces=whole_waveform,
    minimum_samples=convolutions_need,
    long_sound=one_piece,
)
_WAV2VEC2_BERT = replace(
    _WAV2VEC2,
    final_norm=lambda encoder: None,  # each block of a conformer ends with its own
    pieces=_filter_banks,
    minimum_samples=lambda extractor, config: 400 + 160 * (extractor.stride - 1),  # windows of 25 ms every 10 ms
)
_WHISPER = Family(
    encoder=lambda model: model.encoder,
    tensors="encoder.",
    blocks=lambda encoder: encoder.layers,
    final_norm=lambda encoder: encoder.layer_norm,
    pieces=_log_mel_windows,
    minimum_samples=lambda extractor, config: int(extractor.n_fft),
    long_sound=lambda extractor: f"windows of {extractor.chunk_length} s, frames of the sound alone",
)
FAMILIES = {
    "data2vec-audio": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "sew": _WAV2VEC2,
    "unispeech": _WAV2VEC2,
    "unispeech-sat": _WAV2VEC2,
    "wav2vec2": _WAV2VEC2,  # XLS-R and MMS are wav2vec 2.0 in all but name
    "wav2vec2-bert": _WAV2VEC2_BERT,
    "wavlm": _WAV2VEC2,
    "whisper": _WHISPER,
}


def read_adapter(path: Path) -> tuple[Family, str]:
    """The ``FAMILY`` of a user's file, which is run for it, and the hash of the file for the plan.

    Raises:
        InputError: if the file is missing, does not run, or has no `Family` of that name
    """
    if not path.is_file():
        raise InputError(f"adapter {path} does not exist. Name a Python file with a FAMILY in it.")
    specification = importlib.util.spec_from_file_location("layerprobe_adapter", path)
    if specification is None or specification.loader is None:
        raise InputError(f"adapter {path} is no Python file. Name one that ends in .py.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"adapter {path} does not run: {type(error).__name__}: {error}. Correct it.") from error
    family = getattr(module, "FAMILY", None)
    if not isinstance(family, Family):
        raise InputError(f"adapter {path} has no FAMILY = Family(…). probe/families.py has one to start from.")
    return family, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
