"""Supported speech architectures: where each keeps its blocks, and how a waveform becomes its input.

An `Architecture` is all that `probe.encoders.speech` has to know of a model. For one that is not here, write your own
in a file and pass it to ``layerprobe extract --adapter``; ``layerprobe check-encoder --adapter`` checks it. A complete
adapter for a model that reads waveforms through strided convolutions:

    from layerprobe.probe.encoders.architectures import (
        Architecture, convolutions_give, convolutions_need, overlapping, waveform_chunks,
    )

    ARCHITECTURE = Architecture(
        encoder=lambda model: model,
        tensors="",
        blocks=lambda encoder: encoder.encoder.layers,
        final_norm=lambda _: None,
        input_chunks=waveform_chunks,
        minimum_samples=convolutions_need,
        chunking=overlapping,
        n_frames=convolutions_give,
    )
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.chunks import InputChunk, convolution_rows
from layerprobe.probe.forward.frame_times import FrameTimes

# Attention grows with the square of the length. Longer audio is encoded in chunks that overlap.
LONGEST_CHUNK = 60.0  # seconds
CONTEXT = 5.0  # seconds that are encoded on either side of a chunk and not counted there


def _no_default(config: Any) -> None:
    """Return no feature extractor, because the settings of the architecture are not known."""


@dataclass(frozen=True)
class Architecture:
    """How to reach the parts of a model; each field but ``tensors`` is a function of what transformers loads."""

    encoder: Callable[[Any], nn.Module]  # the module to call, out of the loaded model
    tensors: str  # prefix of the encoder's tensors in the loaded model
    blocks: Callable[[Any], nn.ModuleList]  # of the encoder, in order
    final_norm: Callable[[Any], nn.Module | None]  # of the encoder; None where each block ends with its own
    input_chunks: Callable[[np.ndarray, Any, Any], Iterator[InputChunk]]  # of waveform (n_samples,), extractor, config
    minimum_samples: Callable[[Any, Any], int]  # that one frame needs; of extractor, config
    chunking: Callable[[Any], str]  # how long audio is cut, as the plan records it; of the extractor
    n_frames: Callable[[InputChunk, Any], int]  # that a chunk gives in every layer; of chunk, config
    default_extractor: Callable[[Any], Any] = _no_default  # where a checkpoint has none; of config; None if unknown
    # Centres of its frames in samples, of extractor and config; None divides an utterance evenly among its frames.
    frame_times: Callable[[Any, Any], FrameTimes] | None = None
    # Of a folder or file, where transformers can't load the model: the model, whose ``config`` is of transformers
    # (``PreTrainedConfig(hidden_size=…)``) or alike, and its feature extractor. Its weights are checked by the loader.
    load: Callable[[Path], tuple[Any, Any]] | None = None


def waveform_chunks(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[InputChunk]:
    """Yield a waveform, normalised as a whole if the extractor does so, in one chunk or in overlapping ones."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_values
    stride = math.prod(config.conv_stride) * getattr(config, "squeeze_factor", 1)
    reach = convolutions_need(extractor, config)
    n_frames = (inputs.shape[1] - reach) // stride + 1
    for encoded, counted in overlapping_windows(n_frames, frames_per_second=extractor.sampling_rate / stride):
        if len(encoded) == n_frames:
            yield InputChunk({"input_values": inputs})
        else:
            samples = slice(encoded.start * stride, (encoded.stop - 1) * stride + reach)
            yield part_of({"input_values": inputs[:, samples]}, encoded, counted, n_frames)


def overlapping_windows(n_frames: int, *, frames_per_second: float) -> Iterator[tuple[range, range]]:
    """Yield windows of equal length (but for rounding): the frames to encode, and those of them that count.

    >>> list(overlapping_windows(100, frames_per_second=1.0))
    [(range(0, 55), range(0, 50)), (range(45, 100), range(50, 100))]
    """
    longest, context = round(LONGEST_CHUNK * frames_per_second), round(CONTEXT * frames_per_second)
    n_windows = 1 if n_frames <= longest else -(-n_frames // (longest - 2 * context))
    bounds = [k * n_frames // n_windows for k in range(n_windows + 1)]
    for begin, end in pairwise(bounds):
        yield range(max(0, begin - context), min(n_frames, end + context)), range(begin, end)


def part_of(inputs: dict[str, Tensor], encoded: range, counted: range, n_frames: int) -> InputChunk:
    """Return the chunk of one of the `overlapping_windows` of an utterance of ``n_frames`` frames."""
    begin = counted.start - encoded.start
    return InputChunk(inputs, slice(begin, begin + len(counted)), counted.start, n_frames)


def convolutions_need(extractor: Any, config: Any) -> int:  # noqa: ARG001 - as every architecture's `minimum_samples`
    """Return the number of samples that the strided convolutions need for one frame, 400 in most encoders.

    SEW averages ``squeeze_factor`` frames into one before its blocks, so it needs as many.
    """
    needed = getattr(config, "squeeze_factor", 1)
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        needed = (needed - 1) * stride + kernel
    return int(needed)


def convolutions_centre(extractor: Any, config: Any) -> FrameTimes:
    """Return the middles of the samples that each frame's strided convolutions read."""
    stride = math.prod(config.conv_stride) * getattr(config, "squeeze_factor", 1)
    return FrameTimes(convolutions_need(extractor, config) / 2, stride)


def convolutions_give(chunk: InputChunk, config: Any) -> int:
    """Return the number of frames that the strided convolutions make of a chunk's samples."""
    return convolution_rows(chunk, config)[-1] // int(getattr(config, "squeeze_factor", 1))


def overlapping(extractor: Any) -> str:  # noqa: ARG001 - as every architecture's `chunking`
    """Return how `overlapping_windows` cuts long audio, as the plan records it."""
    return f"beyond {LONGEST_CHUNK:g} s in equal chunks with {CONTEXT:g} s of context, each frame counted once"


def _log_mel_windows(waveform: np.ndarray, extractor: Any, config: Any) -> Iterator[InputChunk]:
    """Yield Whisper's windows of 30 s, padded with silence; a frame counts where it begins within the audio."""
    stride = extractor.n_samples // config.max_source_positions  # 320 samples
    total, first = -(-len(waveform) // stride), 0
    for begin in range(0, len(waveform), extractor.n_samples):
        window = waveform[begin : begin + extractor.n_samples]
        inputs = extractor(window, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        n = -(-len(window) // stride)
        yield InputChunk({"input_features": inputs.input_features}, slice(n), first, total)
        first += n


def _filter_banks(waveform: np.ndarray, extractor: Any, _config: Any) -> Iterator[InputChunk]:
    """Yield w2v-BERT's stacked filter banks; a frame that is half padding is masked and does not count."""
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt", return_attention_mask=True)
    features, mask = inputs.input_features, inputs.attention_mask
    n_frames = int(mask.sum())
    for encoded, counted in overlapping_windows(n_frames, frames_per_second=100 / extractor.stride):
        # the masked frame belongs to the last chunk
        end = features.shape[1] if encoded.stop == n_frames else encoded.stop
        part = {"input_features": features[:, encoded.start : end], "attention_mask": mask[:, encoded.start : end]}
        yield part_of(part, encoded, counted, n_frames)


def _stable_norm(encoder: Any) -> nn.Module | None:
    """Return the final norm of a wav2vec 2.0 relative, which has one where it normalises before each block.

    Its config calls that a stable layer norm.
    """
    stable = getattr(encoder.config, "do_stable_layer_norm", False)
    return encoder.encoder.layer_norm if stable else None


def _normalising_extractor(config: Any) -> Any:
    """Return a feature extractor that scales each waveform to zero mean and unit variance.

    These are the settings that transformers' conversion scripts write for wav2vec 2.0, HuBERT and SEW; that of
    data2vec copies wav2vec2-large-lv60's.
    """
    from transformers import Wav2Vec2FeatureExtractor

    norm = getattr(config, "feat_extract_norm", "layer")  # data2vec has no group norm, so its config lacks the key
    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=norm == "layer")


def _wavlm_extractor(config: Any) -> Any:
    """Return WavLM's feature extractor: its Large model was trained on normalised waveforms, Base and Base+ were not.

    The source are its authors (microsoft/unilm, issue 708, 2022). Only Large has layer norm in its convolutions.
    """
    from transformers import Wav2Vec2FeatureExtractor

    large = config.feat_extract_norm == "layer"
    return Wav2Vec2FeatureExtractor(do_normalize=large, return_attention_mask=large)


def _log_mel_extractor(config: Any) -> Any:
    """Return Whisper's log-mel extractor, whose settings differ between its checkpoints in the number of bands only."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=config.num_mel_bins)


_WAV2VEC2 = Architecture(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=_stable_norm,
    input_chunks=waveform_chunks,
    minimum_samples=convolutions_need,
    chunking=overlapping,
    n_frames=convolutions_give,
    frame_times=convolutions_centre,
    default_extractor=_normalising_extractor,
)
_UNISPEECH = replace(_WAV2VEC2, default_extractor=_no_default)  # published models differ in whether they normalise
_WAVLM = replace(_WAV2VEC2, default_extractor=_wavlm_extractor)
_WAV2VEC2_BERT = replace(
    _WAV2VEC2,
    final_norm=lambda _: None,  # each block of a conformer ends with its own
    input_chunks=_filter_banks,
    minimum_samples=lambda extractor, _: 400 + 160 * (extractor.stride - 1),  # windows of 25 ms every 10 ms
    n_frames=lambda chunk, _: int(chunk.inputs["input_features"].shape[1]),
    frame_times=lambda extractor, _: FrameTimes((400 + 160 * (extractor.stride - 1)) / 2, 160 * extractor.stride),
    default_extractor=_no_default,
)
_WHISPER = Architecture(
    encoder=lambda model: model.encoder,
    tensors="encoder.",
    blocks=lambda encoder: encoder.layers,
    final_norm=lambda encoder: encoder.layer_norm,
    input_chunks=_log_mel_windows,
    minimum_samples=lambda extractor, _: int(extractor.n_fft),
    chunking=lambda extractor: f"windows of {extractor.chunk_length} s, frames of the audio alone",
    n_frames=lambda _, config: int(config.max_source_positions),
    # windows of its mel bands are centred at every 160th sample, and its convolutions take every other one
    frame_times=lambda extractor, config: FrameTimes(0, extractor.n_samples / config.max_source_positions),
    default_extractor=_log_mel_extractor,
)
ARCHITECTURES = {
    "data2vec-audio": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "sew": _WAV2VEC2,
    "unispeech": _UNISPEECH,
    "unispeech-sat": _UNISPEECH,
    "wav2vec2": _WAV2VEC2,  # XLS-R and MMS are wav2vec 2.0 in all but name
    "wav2vec2-bert": _WAV2VEC2_BERT,
    "wavlm": _WAVLM,
    "whisper": _WHISPER,
}


def read_adapter(path: Path, *, shipped: Sequence[str] = ()) -> tuple[Architecture, str]:
    """Run a user's file and return its ``ARCHITECTURE``, and the hash of the file for the plan.

    Args:
        path: of the file
        shipped: names that installed packages ship, which could have been meant

    Raises:
        InputError: if the file is missing, does not run, or has no `Architecture` of that name
    """
    if not path.is_file():
        known = f"; installed packages ship {', '.join(shipped)}" if shipped else ""
        raise InputError(
            "LP332", f"adapter {path} does not exist. Name a Python file that defines an ARCHITECTURE{known}."
        )
    specification = importlib.util.spec_from_file_location("layerprobe_adapter", path)
    if specification is None or specification.loader is None:
        raise InputError("LP332", f"adapter {path} is no Python file. Name one that ends in .py.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            "LP333", f"adapter {path} does not run: {type(error).__name__}: {error}. Correct it."
        ) from error
    return described_by(module, path, name=str(path))


def described_by(module: ModuleType, path: Path, *, name: str) -> tuple[Architecture, str]:
    """Return the ``ARCHITECTURE`` of an adapter's module, and the hash of its file for the plan.

    Args:
        module: of the adapter
        path: of its file
        name: of the adapter, for the message

    Raises:
        InputError: if it has no `Architecture` of that name
    """
    architecture = getattr(module, "ARCHITECTURE", None)
    if not isinstance(architecture, Architecture):
        raise InputError(
            "LP334",
            f"adapter {name} has no ARCHITECTURE = Architecture(…). The docstring of probe/encoders/architectures.py "
            "has one to start from.",
        )
    return architecture, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
