"""Speech architectures: where each keeps its blocks, and what becomes of a waveform before it is heard.

A family is all that `probe.encoders.speech` has to know of an architecture. For one that is not here, write your own in
a file and name it to ``layerprobe extract --adapter``; ``layerprobe check-encoder --adapter`` checks it. The whole of an
adapter for a model that hears waveforms through strided convolutions:

    from layerprobe.probe.encoders.architectures import Architecture, convolutions_need, overlapping, waveform_chunks

    ARCHITECTURE = Architecture(
        encoder=lambda model: model,
        tensors="",
        blocks=lambda encoder: encoder.encoder.layers,
        final_norm=lambda _: None,
        input_chunks=waveform_chunks,
        minimum_samples=convolutions_need,
        chunking=overlapping,
    )
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from layerprobe.probe.exceptions import InputError

# Attention grows with the square of the length. Beyond this a sound is heard in pieces that overlap.
LONGEST_CHUNK = 60.0  # seconds
CONTEXT = 5.0  # seconds that are heard on either side of a piece and not counted there


@dataclass(frozen=True)
class InputChunk:
    """One forward pass: what the encoder is called with, and which frames of its answer count."""

    inputs: dict[str, Tensor]
    counted: slice = field(default_factory=lambda: slice(None))  # those that are of the sound and of no other piece
    first: int = 0  # place of the first of them in the utterance
    total: int | None = None  # frames of the utterance; None where these are all


@dataclass(frozen=True)
class Architecture:
    """One architecture, taken apart; each field is a function of what transformers loads for it."""

    encoder: Callable[[Any], nn.Module]  # what is called, out of the loaded model
    tensors: str  # prefix of the encoder's tensors in the loaded model
    blocks: Callable[[Any], nn.ModuleList]  # of the encoder, in order
    final_norm: Callable[[Any], nn.Module | None]  # of the encoder; None where each block ends with its own
    input_chunks: Callable[[np.ndarray, Any, Any], Iterator[InputChunk]]  # of waveform (n_samples,), extractor, config
    minimum_samples: Callable[[Any, Any], int]  # that one frame needs; of extractor, config
    chunking: Callable[[Any], str]  # how long sound is heard, in words for the plan; of the extractor


def waveform_chunks(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[InputChunk]:
    """The waveform, normalised as a whole if the extractor says so, in one piece or in overlapping ones."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_values
    stride = math.prod(config.conv_stride) * getattr(config, "squeeze_factor", 1)
    reach = convolutions_need(extractor, config)
    n_frames = (inputs.shape[1] - reach) // stride + 1
    for heard, counted in overlapping_windows(n_frames, frames_per_second=extractor.sampling_rate / stride):
        if len(heard) == n_frames:
            yield InputChunk({"input_values": inputs})
        else:
            samples = slice(heard.start * stride, (heard.stop - 1) * stride + reach)
            yield _part({"input_values": inputs[:, samples]}, heard, counted, n_frames)


def overlapping_windows(n_frames: int, *, frames_per_second: float) -> Iterator[tuple[range, range]]:
    """Windows of a sound: the frames that each hears, and those that it alone counts; equal but for rounding.

    >>> list(overlapping_windows(100, frames_per_second=1.0))
    [(range(0, 55), range(0, 50)), (range(45, 100), range(50, 100))]
    """
    longest, context = round(LONGEST_CHUNK * frames_per_second), round(CONTEXT * frames_per_second)
    n_windows = 1 if n_frames <= longest else -(-n_frames // (longest - 2 * context))
    bounds = [k * n_frames // n_windows for k in range(n_windows + 1)]
    for begin, end in pairwise(bounds):
        yield range(max(0, begin - context), min(n_frames, end + context)), range(begin, end)


def _part(inputs: dict[str, Tensor], heard: range, counted: range, n_frames: int) -> InputChunk:
    begin = counted.start - heard.start
    return InputChunk(inputs, slice(begin, begin + len(counted)), counted.start, n_frames)


def convolutions_need(extractor: Any, config: Any) -> int:  # noqa: ARG001 - as every family's `minimum_samples`
    """Samples that reach one frame through the strided convolutions: 400 in most published encoders.

    SEW averages ``squeeze_factor`` frames into one before its blocks, so it needs as many.
    """
    needed = getattr(config, "squeeze_factor", 1)
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        needed = (needed - 1) * stride + kernel
    return int(needed)


def overlapping(extractor: Any) -> str:  # noqa: ARG001 - as every family's `chunking`
    """How `overlapping_windows` hears long sound, in words for the plan."""
    return f"beyond {LONGEST_CHUNK:g} s in equal pieces with {CONTEXT:g} s of context, each frame counted once"


def _log_mel_windows(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[InputChunk]:
    """Whisper's windows of 30 s, padded with silence; a frame counts where it begins within the sound."""
    stride = extractor.n_samples // config.max_source_positions  # 320 samples
    total, first = -(-len(waveform) // stride), 0
    for begin in range(0, len(waveform), extractor.n_samples):
        window = waveform[begin : begin + extractor.n_samples]
        inputs = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        n = -(-len(window) // stride)
        yield InputChunk({"input_features": inputs.input_features}, slice(n), first, total)
        first += n


def _filter_banks(waveform: np.ndarray, extractor: Any, _config: Any) -> Iterator[InputChunk]:
    """w2v-BERT's stacked filter banks; a frame that is half padding is masked and not of the sound."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt", return_attention_mask=True)
    features, mask = inputs.input_features, inputs.attention_mask
    n_frames = int(mask.sum())
    for heard, counted in overlapping_windows(n_frames, frames_per_second=100 / extractor.stride):
        end = features.shape[1] if heard.stop == n_frames else heard.stop  # the masked frame goes with the last piece
        part = {"input_features": features[:, heard.start : end], "attention_mask": mask[:, heard.start : end]}
        yield _part(part, heard, counted, n_frames)


def _stable_norm(encoder: Any) -> nn.Module | None:
    """The wav2vec 2.0 kind has a final norm where it normalises before each block, which its config calls stable."""
    stable = getattr(encoder.config, "do_stable_layer_norm", False)
    return encoder.encoder.layer_norm if stable else None


_WAV2VEC2 = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=_stable_norm,
    input_chunks=waveform_chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
)
_WAV2VEC2_BERT = replace(
    _WAV2VEC2,
    final_norm=lambda _: None,  # each block of a conformer ends with its own
    input_chunks=_filter_banks,
    minimum_samples=lambda extractor, _: 400 + 160 * (extractor.stride - 1),  # windows of 25 ms every 10 ms
)
_WHISPER = Architecture(
    encoder=lambda model: model.encoder,
    tensors="encoder.",
    blocks=lambda encoder: encoder.layers,
    final_norm=lambda encoder: encoder.layer_norm,
    input_chunks=_log_mel_windows,
    minimum_samples=lambda extractor, _: int(extractor.n_fft),
    chunking=lambda extractor: f"windows of {extractor.chunk_length} s, frames of the sound alone",
)
ARCHITECTURES = {
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


def read_adapter(path: Path) -> tuple[Architecture, str]:
    """The ``ARCHITECTURE`` of a user's file, which is run for it, and the hash of the file for the plan.

    Raises:
        InputError: if the file is missing, does not run, or has no `Architecture` of that name
    """
    if not path.is_file():
        raise InputError(f"adapter {path} does not exist. Name a Python file with a ARCHITECTURE in it.")
    specification = importlib.util.spec_from_file_location("layerprobe_adapter", path)
    if specification is None or specification.loader is None:
        raise InputError(f"adapter {path} is no Python file. Name one that ends in .py.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"adapter {path} does not run: {type(error).__name__}: {error}. Correct it.") from error
    family = getattr(module, "ARCHITECTURE", None)
    if not isinstance(family, Architecture):
        raise InputError(
            f"adapter {path} has no ARCHITECTURE = Architecture(…). probe/encoders/architectures.py has one to start from."
        )
    return family, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
