"""Feature extractors as modules of torch, so that a file of ONNX takes the waveform itself.

Fourier transforms are convolutions with cosines and sines, which every runtime has. They compute in float32, as
Whisper's extractor does; log-mel bands are within 1e-4 of its own, and w2v-BERT's, which are normalised by band, within
1e-3 in the bands that hold least.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprobe.probe.exceptions import InputError

EPSILON = 1e-7  # that the extractors of transformers add to a variance
KALDI_FLOOR = 1.192092955078125e-07  # lowest power of a band, as in Kaldi
KALDI_FRAME, KALDI_HOP, KALDI_FFT, PREEMPHASIS = 400, 160, 512, 0.97
INT16 = 2.0**15  # full scale of Kaldi's samples


class Waveform(nn.Module):
    """The waveform as it is, or with zero mean and unit variance."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self._normalises = bool(getattr(extractor, "do_normalize", False))

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Return the encoder's inputs of a waveform ``(1, n_samples)``."""
        if not self._normalises:
            return {"input_values": waveform}
        centred = waveform - waveform.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        return {"input_values": centred / torch.sqrt(variance + EPSILON)}


class LogMelWindows(nn.Module):
    """Whisper's log-mel bands of windows of 30 s, each as an item of the batch, the last padded with silence."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        n_fft = int(extractor.n_fft)
        self._n_samples, self._hop, self._reach = int(extractor.n_samples), int(extractor.hop_length), n_fft // 2
        self.transform = nn.Buffer(fourier_kernels(np.hanning(n_fft + 1)[:-1], n_fft))
        self.bands = nn.Buffer(mel_kernels(extractor))

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Return the encoder's inputs of a waveform ``(1, n_samples)``, ``(n_windows, n_bands, n_steps)``."""
        padded = functional.pad(waveform, (0, -waveform.shape[1] % self._n_samples))
        windows = padded.reshape(-1, 1, self._n_samples)
        windows = functional.pad(windows, (self._reach, self._reach), mode="reflect")
        power = power_spectrum(windows, self.transform, hop=self._hop)[..., :-1]
        decades = functional.conv1d(power, self.bands).clamp(min=1e-10).log10()
        decades = torch.maximum(decades, decades.amax(dim=(1, 2), keepdim=True) - 8.0)
        return {"input_features": (decades + 4.0) / 4.0}


class FilterBanks(nn.Module):
    """w2v-BERT's logarithmic filter banks, as in Kaldi, normalised by band and stacked.

    A last frame without a partner is left out. In the encoder it is masked, and convolutions look backwards only, so
    that it changes no other.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self._stride = int(extractor.stride)
        centre = np.eye(KALDI_FRAME) - 1 / KALDI_FRAME  # of each frame
        emphasis = np.eye(KALDI_FRAME) - PREEMPHASIS * np.eye(KALDI_FRAME, k=-1)
        emphasis[0, 0] = 1 - PREEMPHASIS
        window = np.asarray(extractor.window, dtype=np.float64)
        self.transform = nn.Buffer(fourier_kernels(window, KALDI_FFT, before=INT16 * emphasis @ centre))
        self.bands = nn.Buffer(mel_kernels(extractor))

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Return the encoder's inputs of a waveform ``(1, n_samples)``, ``(1, n_frames, stride * n_bands)``."""
        power = power_spectrum(waveform[:, None], self.transform, hop=KALDI_HOP)
        bands = functional.conv1d(power, self.bands).clamp(min=KALDI_FLOOR).log()
        centred = bands - bands.mean(dim=2, keepdim=True)
        variance = centred.square().sum(dim=2, keepdim=True) / (bands.shape[2] - 1)
        frames = (centred / torch.sqrt(variance + EPSILON)).transpose(1, 2)
        whole = torch.arange(frames.shape[1] // self._stride * self._stride)
        return {"input_features": frames[:, whole].reshape(1, -1, self._stride * frames.shape[2])}


FRONT_ENDS: dict[str, type[nn.Module]] = {
    "Wav2Vec2FeatureExtractor": Waveform,
    "WhisperFeatureExtractor": LogMelWindows,
    "SeamlessM4TFeatureExtractor": FilterBanks,
}


def front_end(extractor: Any, *, upstream: str) -> nn.Module:
    """Return the module that computes what a feature extractor does.

    Args:
        extractor: of transformers
        upstream: name of its encoder, for the message

    Raises:
        InputError: if there is no module for that kind of extractor, or for its settings
    """
    kind = type(extractor).__name__
    if kind not in FRONT_ENDS or getattr(extractor, "dither", 0.0):
        settings = " with dither" if kind in FRONT_ENDS else ""
        raise InputError(
            "LP930",
            f"{upstream} has the feature extractor {kind}{settings}, which can't be part of an ONNX file; "
            f"{', '.join(FRONT_ENDS)} can. Use the predictor's folder with layerprobe predict.",
        )
    return FRONT_ENDS[kind](extractor)


def fourier_kernels(window: np.ndarray, n_fft: int, *, before: np.ndarray | None = None) -> Tensor:
    """Return the real and imaginary parts of a Fourier transform as kernels of a convolution.

    Args:
        window: that frames are multiplied by, ``(n_samples,)``
        n_fft: length of the transform, at least that of the window
        before: a matrix that frames are multiplied by first, ``(n_samples, n_samples)``

    Returns:
        ``(2 * (n_fft // 2 + 1), 1, n_samples)`` float32, cosines first
    """
    angles = 2 * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(len(window))) / n_fft
    kernels = np.concatenate([np.cos(angles), np.sin(angles)]) * window
    return torch.from_numpy(kernels if before is None else kernels @ before).float()[:, None]


def mel_kernels(extractor: Any) -> Tensor:
    """Return an extractor's mel filters as kernels of a convolution, ``(n_bands, n_frequencies, 1)`` float32."""
    return torch.from_numpy(np.array(extractor.mel_filters).T.copy()).float()[..., None]


def power_spectrum(waveforms: Tensor, transform: Tensor, *, hop: int) -> Tensor:
    """Return power by frequency and frame, ``(n, n_frequencies, n_frames)``, of waveforms ``(n, 1, n_samples)``."""
    both = functional.conv1d(waveforms, transform, stride=hop)
    n = transform.shape[0] // 2
    return both[:, :n].square() + both[:, n:].square()
