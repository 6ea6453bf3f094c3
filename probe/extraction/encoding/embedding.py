"""Embedding of one utterance: the encoder's frames of every layer, pooled, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import Row
from layerprobe.probe.data.remarks import Remark
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.forward.chunks import FrameChunk
from layerprobe.probe.forward.pooling import pool_frame_chunks
from layerprobe.probe.forward.precision import multiplying_in

ALLOCATION_FAILED = ("can't allocate memory", "could not allocate", "out of memory", "bad allocation")


@dataclass(frozen=True)
class EmbeddedUtterance:
    """The embeddings of one utterance, or the reason why there are none."""

    row: Row
    content: str  # hash of the audio or the transcript, see `probe.data.inputs`
    embeddings: np.ndarray | None  # (n_layers, n_poolings, dim)
    reason: str  # "" where there are embeddings
    audio_seconds: float  # 0 of text
    seconds_encoding: float  # of the thread that encoded it; of the device, divided by the utterances of its pack
    seconds_reading: float  # of the thread that read it
    remarks: tuple[Remark, ...] = ()  # on its audio


def embed(encoder: AnyEncoder, data: np.ndarray | str, *, poolings: tuple[str, ...]) -> np.ndarray:
    """Encode one utterance and pool the frames of every layer.

    Args:
        encoder: of audio or text
        data: waveform ``(n_samples,)`` at the encoder's sampling rate, or a text
        poolings: keys of `probe.forward.pooling.POOLINGS`

    Returns:
        embeddings ``(n_layers, n_poolings, dim)`` float32

    Raises:
        InvalidAudioError: if the waveform is too short, or an embedding is not finite
    """
    with torch.inference_mode(), multiplying_in(encoder.precision):  # pooling multiplies, too
        embeddings: np.ndarray = pool_frame_chunks(_frame_chunks(encoder, data), poolings=poolings).cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise not_finite()
    return embeddings


def check_data(encoder: AnyEncoder, data: np.ndarray | str) -> None:
    """Check that an input is of the encoder's kind and long enough for one frame.

    Raises:
        InvalidAudioError: if a waveform is too short
        TypeError: if the encoder reads the other kind
    """
    if encoder.reads == "text":
        if not isinstance(data, str):
            raise TypeError("a text encoder was given a waveform")
        return
    if not isinstance(data, np.ndarray):
        raise TypeError("a speech encoder was given text")
    n, needed = len(data), encoder.minimum_samples
    if n < needed:
        raise InvalidAudioError(
            "LP461", f"too short: {n} samples at {encoder.sampling_rate} Hz, one frame needs {needed}"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error states that memory could not be allocated, on the host or on a device."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(message in str(error) for message in ALLOCATION_FAILED)


def not_finite() -> InvalidAudioError:
    """Return the reason why an utterance is quarantined whose embeddings hold NaN or infinite values."""
    return InvalidAudioError("LP460", "the encoder returned values that are not finite")


def too_large(seconds: float) -> InvalidAudioError:
    """Return the reason why an utterance of so many seconds is quarantined that exceeds the memory on its own."""
    return InvalidAudioError(
        "LP462",
        f"{seconds:.0f} s need more memory than is free without other utterances, too; cut it into spans with start "
        "and end",
    )


def _frame_chunks(encoder: AnyEncoder, data: np.ndarray | str) -> Iterator[FrameChunk]:
    check_data(encoder, data)
    return encoder.frame_chunks(data)  # type: ignore[arg-type]
