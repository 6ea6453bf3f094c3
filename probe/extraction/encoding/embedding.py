"""Embedding of one utterance: the encoder's frames of every layer, pooled, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import Row
from layerprobe.probe.data.remarks import Remark
from layerprobe.probe.data.spans import UtteranceSpans
from layerprobe.probe.encoders.acoustic import AcousticEncoder
from layerprobe.probe.encoders.acoustic_spans import embed_acoustic_spans
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.forward.chunks import FrameChunk
from layerprobe.probe.forward.frame_times import FrameRanges, FrameTimes, SpanTimes, frame_ranges
from layerprobe.probe.forward.packed.span_pooling import pool_spans
from layerprobe.probe.forward.pooling import pool_frame_chunks
from layerprobe.probe.forward.precision import multiplying_in

CHECKED_AT_ONCE = 16 * 2**20  # bytes of embeddings
ALLOCATION_FAILED = ("can't allocate memory", "could not allocate", "out of memory", "bad allocation")


@dataclass(frozen=True)
class EmbeddedUtterance:
    """The embeddings of one utterance, or the reason why there are none."""

    row: Row
    content: str  # hash of the audio or the transcript, see `probe.data.inputs`
    embeddings: np.ndarray | None  # (n_layers, n_poolings, dim); of spans (n_spans, n_layers, n_poolings, dim)
    reason: str  # "" where there are embeddings
    audio_seconds: float  # 0 of text
    seconds_encoding: float  # of the thread that encoded it; of the device, divided by the utterances of its pack
    seconds_reading: float  # of the thread that read it
    remarks: tuple[Remark, ...] = ()  # on its audio
    spans: UtteranceSpans | None = None  # that were pooled; None where it was pooled as a whole


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


def embed_spans(
    encoder: AnyEncoder, data: np.ndarray | str, spans: UtteranceSpans, *, poolings: tuple[str, ...]
) -> EmbeddedSpans:
    """Encode one utterance as a whole and pool the frames of each of its spans in every layer.

    Args:
        encoder: of audio
        data: waveform ``(n_samples,)`` at the encoder's sampling rate
        spans: of the utterance
        poolings: keys of `probe.forward.pooling.POOLINGS`

    Raises:
        InvalidAudioError: if the waveform is too short, or an embedding is not finite
    """
    check_data(encoder, data)
    times = span_times(encoder, spans, len(data))
    found: list[FrameRanges] = []

    def ranges_of(n_frames: int) -> FrameRanges:
        found.append(frame_ranges(times, frame_times(encoder), n_frames))
        return found[-1]

    with torch.inference_mode(), multiplying_in(encoder.precision):
        if isinstance(encoder, AcousticEncoder):
            return _checked(*embed_acoustic_spans(encoder, np.asarray(data), times, poolings=poolings))
        embeddings = pool_spans(
            _frame_chunks(encoder, data), ranges_of, poolings=poolings, n_layers=len(encoder.layers), dim=encoder.dim
        )
    return _checked(embeddings, int(found[0].nearest.sum()))


@dataclass(frozen=True, eq=False)
class EmbeddedSpans:
    """The embeddings of the spans of an utterance."""

    embeddings: np.ndarray  # (n_spans, n_layers, n_poolings, dim) float32
    n_nearest: int  # spans that hold the nearest frame, for no frame has its centre in them


def _checked(embeddings: np.ndarray, n_nearest: int) -> EmbeddedSpans:
    for part in np.array_split(embeddings, max(1, embeddings.nbytes // CHECKED_AT_ONCE)):
        if not np.isfinite(part).all():
            raise not_finite()
    return EmbeddedSpans(embeddings, n_nearest)


def span_times(encoder: AnyEncoder, spans: UtteranceSpans, n_samples: int) -> SpanTimes:
    """Return the spans of an utterance in samples of an encoder."""
    rate = encoder.sampling_rate if encoder.reads == "audio" else 1
    return SpanTimes.of_seconds(spans.starts, spans.ends, sampling_rate=rate, n_samples=n_samples)


def frame_times(encoder: AnyEncoder) -> FrameTimes | None:
    """Return when the frames of an encoder are; None where its strides are not known."""
    known: FrameTimes | None = getattr(encoder, "frame_times", None)
    return known


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
