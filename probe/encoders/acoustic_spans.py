"""Acoustic features of the spans of an utterance: every feature is computed once, on the whole utterance.

Frames of ``f0`` are the voiced ones of the span, with the fraction of its frames that are voiced; ``duration`` is the
logarithm of the span's own seconds. Deltas and slopes at the ends of a span know the frames around it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.encoders.acoustic import RATE, AcousticEncoder, AcousticFrames, middle_pitch, pitch_slopes
from layerprobe.probe.encoders.range_moments import range_moments
from layerprobe.probe.forward.frame_times import FrameTimes, SpanTimes, frame_ranges
from layerprobe.probe.forward.packed.pooling import SegmentPooling
from layerprobe.probe.forward.pooling import pool_layers
from layerprobe.probe.forward.stream.index_arrays import starts, within

MOMENTS = ("mean", "std")  # the poolings that most caches have, of which the frames of spans are not collected
OF_CONSTANT = {"std": 0.0}  # poolings of a single frame that are not the frame itself


def embed_acoustic_spans(
    encoder: AcousticEncoder, waveform: np.ndarray, spans: SpanTimes, *, poolings: tuple[str, ...]
) -> tuple[np.ndarray, int]:
    """Pool the features of each span of a waveform.

    Args:
        encoder: of acoustic features
        waveform: ``(n_samples,)`` at its sampling rate
        spans: of the waveform
        poolings: keys of `probe.forward.pooling.POOLINGS`, in the order of the result

    Returns:
        ``(n_spans, n_layers, n_poolings, dim)`` float32, and the number of spans that hold the nearest frame; a span
        that is the whole waveform holds what the waveform does, to the bit
    """
    settings = encoder.settings
    features = encoder.features(waveform)
    times = FrameTimes(settings.window / 2, settings.hop)
    ranges = frame_ranges(spans, times, len(features.log_mel))
    found = torch.zeros(len(ranges.begins), len(encoder.layers), len(poolings), encoder.dim)
    if ranges.whole.any():
        layers = (encoder.padded(frames) for frames in features.layers(settings))
        found[torch.from_numpy(ranges.whole)] = pool_layers(layers, poolings=poolings)
    part = np.flatnonzero(~ranges.whole)
    if len(part):
        seconds = (spans.ends - spans.starts)[part] / RATE
        pool = _moments if set(poolings) <= set(MOMENTS) else _parts
        found[torch.from_numpy(part)] = pool(
            encoder, features, ranges.begins[part], ranges.counts[part], seconds, poolings
        )
    return found.numpy(), int(ranges.nearest.sum())


def _moments(
    encoder: AcousticEncoder,
    features: AcousticFrames,
    begins: np.ndarray,
    counts: np.ndarray,
    seconds: np.ndarray,
    poolings: tuple[str, ...],
) -> Tensor:
    """Return what `_parts` does, of mean and standard deviation alone and in fewer steps."""
    found = np.zeros((len(begins), len(encoder.layers), len(MOMENTS), encoder.dim), dtype=np.float32)
    of_all = {"log_mel": features.log_mel, "mfcc": features.mfcc, "loudness": features.loudness}
    frames = torch.cat(list(of_all.values()), dim=1).numpy()
    columns = np.cumsum([0, *(layer.shape[1] for layer in of_all.values())])
    for k, moment in enumerate(range_moments(frames, begins, counts)):
        for name, low, high in zip(of_all, columns[:-1], columns[1:], strict=True):
            found[:, encoder.layers.index(name), k, : high - low] = moment[:, low:high]
    pitch = features.pitch
    voiced = ~np.isnan(pitch.numpy())
    n_before = np.concatenate([[0], np.cumsum(voiced)])
    n_voiced = n_before[begins + counts] - n_before[begins]
    f0 = found[:, encoder.layers.index("f0")]
    f0[:, 0, :3] = np.stack([np.full(len(begins), middle_pitch(encoder.settings)), 0 * counts, n_voiced / counts], 1)
    some = n_voiced > 0
    if some.any():
        of_voiced = torch.stack([pitch.log2(), pitch_slopes(pitch, encoder.settings)], dim=1).numpy()[voiced]
        for k, moment in enumerate(range_moments(of_voiced, n_before[begins[some]], n_voiced[some])):
            f0[some, k, :2] = moment
    found[:, encoder.layers.index("duration"), 0, 0] = np.log(seconds)
    return torch.from_numpy(found[:, :, [MOMENTS.index(name) for name in poolings]])


def _parts(
    encoder: AcousticEncoder,
    features: AcousticFrames,
    begins: np.ndarray,
    counts: np.ndarray,
    seconds: np.ndarray,
    poolings: tuple[str, ...],
) -> Tensor:
    found = torch.zeros(len(begins), len(encoder.layers), len(poolings), encoder.dim)
    pool = SegmentPooling.of_ranges(begins, counts, poolings, device="cpu")
    of_all = (features.log_mel, features.mfcc, features.loudness)
    at = [encoder.layers.index(name) for name in ("log_mel", "mfcc", "loudness")]
    if "normed_mean" in poolings:  # which norms a frame over all columns of the layer
        for layer, frames in zip(at, of_all, strict=True):
            found[:, layer] = pool(encoder.padded(frames))
    else:
        pooled = pool(torch.cat(of_all, dim=1))
        for layer, columns in zip(at, torch.split(pooled, [len(frames[0]) for frames in of_all], dim=2), strict=True):
            found[:, layer, :, : columns.shape[2]] = columns
    frames, n_voiced = _voiced(encoder, features.pitch, begins, counts)
    pool = SegmentPooling.of_ranges(starts(n_voiced), n_voiced, poolings, device="cpu")
    if "normed_mean" in poolings:
        found[:, encoder.layers.index("f0")] = pool(encoder.padded(frames))
    else:
        found[:, encoder.layers.index("f0"), :, : frames.shape[1]] = pool(frames)
    duration = encoder.padded(torch.from_numpy(np.log(seconds)).float()[:, None])
    for k, name in enumerate(poolings):
        if name == "normed_mean":
            found[:, -1, k] = torch.nn.functional.layer_norm(duration, duration.shape[-1:])
        else:
            found[:, -1, k] = duration * OF_CONSTANT.get(name, 1.0)
    return found


def _voiced(
    encoder: AcousticEncoder, pitch: Tensor, begins: np.ndarray, counts: np.ndarray
) -> tuple[Tensor, np.ndarray]:
    """Return the frames of ``f0`` of each span, one span after another, ``(n_frames, 3)``, and how many each has."""
    voiced = ~np.isnan(pitch.numpy())
    rows = np.repeat(begins, counts) + within(counts)
    of_span = np.repeat(np.arange(len(counts)), counts)
    kept = voiced[rows]
    n_voiced = np.bincount(of_span[kept], minlength=len(counts))
    fractions = n_voiced / counts
    values = torch.stack([pitch.log2(), pitch_slopes(pitch, encoder.settings)], dim=1).numpy()
    frames = np.empty((int(np.maximum(n_voiced, 1).sum()), 3), dtype=np.float32)
    frames[:] = (middle_pitch(encoder.settings), 0.0, 0.0)
    n_frames = np.maximum(n_voiced, 1)
    has_voice = np.repeat(n_voiced > 0, n_frames)
    frames[has_voice, :2] = values[rows[kept]]
    frames[has_voice, 2] = np.repeat(fractions, n_voiced)
    return torch.from_numpy(frames), n_frames
