"""Acoustic features as a baseline without a network, in the form of an encoder's layers.

Every layer is a sequence of frames, one every 10 ms, which the ordinary poolings summarise; the mean of the waveform is
subtracted first. Layers narrower than the widest are padded with zero columns, so that all have one width:

* ``log_mel``: natural log of the power in 80 mel bands
* ``mfcc``: 13 cepstral coefficients of these bands, their deltas, and the deltas of those
* ``f0``: of voiced frames only, log2 of F0 in Hz, its absolute slope in octaves per second (mean of both sides; 0
  without a voiced frame next to it), and the voiced fraction of all frames. With none voiced there is one frame
  instead, F0 in the middle of its range, slope 0, fraction 0: an F0 of 0 would be an outlier that distorts every probe
* ``loudness``: level in dB of full scale, -100 at least, and its delta
* ``duration``: one frame, natural log of the seconds

torchaudio computes the mel bands, the cepstrum and the deltas. Its pitch is wrong by more than 15 % in a quarter of the
voiced frames of LibriSpeech and has no voicing, so F0 is found by autocorrelation as in Boersma (1993).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
import torchaudio
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import compute_deltas, create_dct, melscale_fbanks

from layerprobe.probe.encoders.base import describe_encoder
from layerprobe.probe.forward.chunks import FrameChunk
from layerprobe.probe.forward.pooling import DEFAULT_POOLINGS

DEFINITION = 1  # version of the layers; raise it with every change here that changes a number
RATE = 16_000  # Hz
BLOCK = 1_000  # frames that are transformed at once, so that long audio needs little memory


@dataclass(frozen=True)
class AcousticSettings:
    """Every parameter of the layers; thresholds and costs of the pitch are those of Boersma (1993)."""

    window: int = 400  # samples of a frame, 25 ms; Hann
    hop: int = 160  # samples from frame to frame, 10 ms
    fft: int = 512
    mel_bands: int = 80
    mel_scale: str = "htk"  # triangles of height 1
    mel_low: float = 20.0  # Hz
    mel_high: float = 8000.0  # Hz
    power_floor: float = 1e-10  # of a mel band, and of a frame's mean square
    n_mfcc: int = 13
    delta_window: int = 5  # frames of the regression
    pitch_floor: float = 75.0  # Hz
    pitch_ceiling: float = 600.0  # Hz
    pitch_window: int = 640  # samples, three periods of the floor, with the same centre; Hann
    pitch_fft: int = 864  # at least pitch_window and the longest lag
    pitch_oversampling: int = 2  # of the autocorrelation, whose peak can lie between two samples
    pitch_candidates: int = 4  # voiced ones of a frame
    voicing_threshold: float = 0.45
    silence_threshold: float = 0.03  # of the waveform's maximum amplitude
    octave_cost: float = 0.01
    octave_jump_cost: float = 0.35
    voicing_change_cost: float = 0.14


@dataclass(frozen=True)
class AcousticFrames:
    """The features of one utterance before they become layers, each with a row for every frame."""

    log_mel: Tensor  # (n_frames, mel_bands)
    mfcc: Tensor  # (n_frames, 3 * n_mfcc)
    pitch: Tensor  # (n_frames,) F0 in Hz, NaN where unvoiced
    loudness: Tensor  # (n_frames, 2)
    seconds: float  # of the utterance

    def layers(self, settings: AcousticSettings) -> Iterator[Tensor]:
        """Yield the layers of the whole utterance, each ``(n_frames, n_features)``."""
        yield self.log_mel
        yield self.mfcc
        yield _voiced_frames(self.pitch, settings)
        yield self.loudness
        yield torch.tensor([[math.log(self.seconds)]])


class AcousticEncoder:
    """Acoustic features with the interface of a speech encoder, for any number of threads at once."""

    reads: Literal["audio"] = "audio"
    default_poolings = DEFAULT_POOLINGS
    upstream = "acoustic"
    revision = ""
    architecture = "AcousticFeatures"
    random_init: int | None = None
    adapter = ""
    layers: tuple[str, ...] = ("log_mel", "mfcc", "f0", "loudness", "duration")
    sampling_rate = RATE
    chunking = "whole"
    forward = f"torchaudio {'.'.join(torchaudio.__version__.split('.')[:2])}"
    precision = "float32"
    packed = None  # each waveform is computed by itself
    device = "cpu"

    def __init__(self, settings: AcousticSettings | None = None) -> None:
        """Precompute windows and filters for ``settings``, by default those of `AcousticSettings`."""
        self.settings = s = settings or AcousticSettings()
        self.dim = max(s.mel_bands, 3 * s.n_mfcc)
        self.minimum_samples = s.window
        self.preprocessing = json.dumps(asdict(s), sort_keys=True)
        self._window, self._pitch_window = torch.hann_window(s.window), torch.hann_window(s.pitch_window)
        self._mel = melscale_fbanks(s.fft // 2 + 1, s.mel_low, s.mel_high, s.mel_bands, RATE, mel_scale=s.mel_scale)
        self._cosines = create_dct(s.n_mfcc, s.mel_bands, norm="ortho")
        rate = RATE * s.pitch_oversampling
        self._lags = torch.arange(int(rate / s.pitch_ceiling) - 1, math.ceil(rate / s.pitch_floor) + 2)
        self._window_correlation = self._autocorrelation(torch.ones(1, s.pitch_window))

    def __repr__(self) -> str:
        return describe_encoder(self)

    def weights_hash(self) -> str:
        """Return sixteen hex digits over the definition of the layers and its parameters, instead of weights."""
        return hashlib.sha256(f"{DEFINITION} {self.preprocessing}".encode()).hexdigest()[:16]

    def frame_chunks(self, waveform: np.ndarray) -> Iterator[FrameChunk]:
        """Compute the features of one waveform, in one chunk whatever its length.

        Args:
            waveform: ``(n_samples,)`` at `sampling_rate`, at least `minimum_samples` long, full scale -1 to 1

        Yields:
            frames of each of `layers`, ``(n_frames, dim)`` float32: ``1 + (n_samples - 400) // 160`` of them, in
            ``f0`` as many as are voiced, in ``duration`` one

        Raises:
            ValueError: if the waveform is not one-dimensional or is too short
        """
        if waveform.ndim != 1 or len(waveform) < self.minimum_samples:
            raise ValueError(f"waveform {waveform.shape} is not (n_samples,) with at least {self.minimum_samples}")
        yield FrameChunk(self.padded(frames) for frames in self.features(waveform).layers(self.settings))

    def hidden_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Return all frames of each layer, ``(n_frames, dim)``; arguments as of `frame_chunks`."""
        return [frames for frame_chunk in self.frame_chunks(waveform) for frames in frame_chunk.layers]

    def padded(self, frames: Tensor) -> Tensor:
        """Return frames with zero columns up to `dim`."""
        return pad(frames, (0, self.dim - frames.shape[1]))

    def features(self, waveform: np.ndarray) -> AcousticFrames:
        """Compute the features of one waveform; see `frame_chunks`."""
        mean = float(waveform.mean(dtype=np.float64))
        samples = torch.from_numpy((waveform - mean).astype(np.float32, copy=False))
        log_mel = self._log_mel(samples)
        cepstrum = log_mel @ self._cosines
        slope = self._deltas(cepstrum)
        pitch, level = self._pitch(samples), self._level(samples)
        return AcousticFrames(
            log_mel,
            torch.cat([cepstrum, slope, self._deltas(slope)], dim=1),
            pitch,
            torch.cat([level, self._deltas(level)], dim=1),
            len(waveform) / RATE,
        )

    def _log_mel(self, samples: Tensor) -> Tensor:
        s = self.settings
        blocks = [_power(frames * self._window, s.fft) @ self._mel for frames in self._frames(samples, s.window)]
        return torch.cat(blocks).clamp(min=s.power_floor).log()

    def _level(self, samples: Tensor) -> Tensor:
        s = self.settings
        blocks = [frames.square().mean(dim=1, keepdim=True) for frames in self._frames(samples, s.window)]
        return 10 * torch.cat(blocks).clamp(min=s.power_floor).log10()

    def _deltas(self, frames: Tensor) -> Tensor:
        deltas: Tensor = compute_deltas(frames.T, win_length=self.settings.delta_window)
        return deltas.T

    def _frames(self, samples: Tensor, length: int) -> Iterator[Tensor]:
        """Yield ``length`` samples around each frame's centre, zeros beyond the ends, in blocks ``(n, length)``."""
        margin = (length - self.settings.window) // 2
        yield from torch.split(pad(samples, (margin, margin)).unfold(0, length, self.settings.hop), BLOCK)

    def _pitch(self, samples: Tensor) -> Tensor:
        """Return F0 of each frame in Hz, ``(n_frames,)``; NaN where the best path of candidates is unvoiced."""
        s, loudest = self.settings, samples.abs().amax()
        blocks = [self._candidates(frames, loudest) for frames in self._frames(samples, s.pitch_window)]
        pitches, strengths = (torch.cat(parts).double().numpy() for parts in zip(*blocks, strict=True))
        return torch.from_numpy(pitches[np.arange(len(pitches)), _best_path(np.log2(pitches), strengths, s)]).float()

    def _candidates(self, frames: Tensor, loudest: Tensor) -> tuple[Tensor, Tensor]:
        """Return F0 in Hz and strength of each frame's candidates, both ``(n, 1 + pitch_candidates)``.

        The first candidate is the unvoiced one, NaN Hz, whose strength grows as the frame's amplitude falls; the others
        are the highest peaks of the autocorrelation, divided by that of the window.
        """
        s = self.settings
        frames = frames - frames.mean(dim=1, keepdim=True)
        period = round(RATE / s.pitch_floor)
        amplitude = frames.narrow(1, (s.pitch_window - period) // 2, period).abs().amax(dim=1, keepdim=True)
        faintness = 2 - amplitude / loudest.clamp(min=1e-20) * (1 + s.voicing_threshold) / s.silence_threshold
        unvoiced = s.voicing_threshold + faintness.clamp(min=0)
        r = self._autocorrelation(frames) / self._window_correlation
        before, at, after = r[:, :-2], r[:, 1:-1], r[:, 2:]
        is_peak = (at > before) & (at >= after)
        shift = torch.where(is_peak, (before - after) / (before - 2 * at + after) / 2, 0)  # of a parabola's top
        height = at - (before - after) * shift / 4
        pitch = RATE * s.pitch_oversampling / (self._lags[1:-1] + shift)
        strength = torch.where(height > 1, 1 / height, height) + s.octave_cost * (pitch / s.pitch_floor).log2()
        strengths, peaks = torch.where(is_peak, strength, -1.0).topk(s.pitch_candidates, dim=1)
        unvoiced_pitch = torch.full_like(unvoiced, math.nan)
        return torch.cat([unvoiced_pitch, pitch.gather(1, peaks)], dim=1), torch.cat([unvoiced, strengths], dim=1)

    def _autocorrelation(self, frames: Tensor) -> Tensor:
        """Return the autocorrelation of windowed frames, ``(n, n_lags)``, divided by that at lag 0."""
        s = self.settings
        power = _power(frames * self._pitch_window, s.pitch_fft)
        correlation: Tensor = torch.fft.irfft(power, s.pitch_fft * s.pitch_oversampling)
        return correlation[:, self._lags] / correlation[:, :1].clamp(min=1e-30)


def _power(frames: Tensor, fft: int) -> Tensor:
    spectrum: Tensor = torch.fft.rfft(frames, fft)
    return spectrum.real.square() + spectrum.imag.square()


def _best_path(log_pitches: np.ndarray, strengths: np.ndarray, s: AcousticSettings) -> np.ndarray:
    """Return each frame's candidate on the path of maximum strength minus the cost of changes, ``(n_frames,)``."""
    costs = s.octave_jump_cost * np.abs(log_pitches[:-1, :, None] - log_pitches[1:, None, :])
    costs = np.nan_to_num(costs, nan=s.voicing_change_cost)
    costs[:, 0, 0] = 0.0
    came_from = np.zeros(strengths.shape, dtype=np.int64)
    best = strengths[0]
    for t in range(1, len(strengths)):
        totals = best[:, None] - costs[t - 1]
        came_from[t] = totals.argmax(axis=0)
        best = totals.max(axis=0) + strengths[t]
    path = [int(best.argmax())]
    for t in range(len(strengths) - 1, 0, -1):
        path.append(int(came_from[t, path[-1]]))
    return np.array(path[::-1])


def _voiced_frames(pitch: Tensor, s: AcousticSettings) -> Tensor:
    """Return log2 of F0, its absolute slope, and the voiced fraction, for voiced frames only, ``(n_voiced, 3)``."""
    voiced = ~pitch.isnan()
    if not voiced.any():
        return torch.tensor([[middle_pitch(s), 0.0, 0.0]])
    fraction = voiced.float().mean().expand_as(pitch)
    return torch.stack([pitch.log2(), pitch_slopes(pitch, s), fraction], dim=1)[voiced]


def middle_pitch(s: AcousticSettings) -> float:
    """Return log2 of the middle of F0's range, which stands for that of utterances and spans without a voiced frame."""
    return math.log2(s.pitch_floor * s.pitch_ceiling) / 2


def pitch_slopes(pitch: Tensor, s: AcousticSettings) -> Tensor:
    """Return the absolute slope of F0 at each frame in octaves per second, ``(n_frames,)``; mean of both sides."""
    steps = pitch.log2().diff().abs() * RATE / s.hop
    sides = torch.stack([pad(steps, (1, 0), value=math.nan), pad(steps, (0, 1), value=math.nan)])
    return sides.nanmean(dim=0).nan_to_num(0.0)
