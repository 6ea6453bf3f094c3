"""Feature extractors as modules of torch, so that a file of ONNX takes the waveform itself.

Fourier transforms are products with cosines and sines, which every runtime has. Each computes in the precision of the
extractor that it stands for: Whisper's in float32, and w2v-BERT's in float64, since it normalises each band, also those
that hold next to nothing. Of a steady tone it normalises the rounding of its own sums, and the bands of this module
differ from its by up to 0.01 standard deviations.
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
        matrix = fourier_matrix(np.hanning(n_fft + 1)[:-1], n_fft)
        self.transform = nn.Buffer(torch.from_numpy(matrix).float()[:, None])  # as kernels of a convolution
        self.bands = nn.Buffer(torch.from_numpy(np.array(extractor.mel_filters).T.copy()).float()[..., None])

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Return the encoder's inputs of a waveform ``(1, n_samples)``, ``(n_windows, n_bands, n_steps)``."""
        padded = functional.pad(waveform, (0, -waveform.shape[1] % self._n_samples))
        windows = padded.reshape(-1, 1, self._n_samples)
        windows = functional.pad(windows, (self._reach, self._reach), mode="reflect")
        real, imaginary = functional.conv1d(windows, self.transform, stride=self._hop)[..., :-1].chunk(2, dim=1)
        decades = functional.conv1d(real.square() + imaginary.square(), self.bands).clamp(min=1e-10).log10()
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
        matrix = fourier_matrix(np.asarray(extractor.window, dtype=np.float64), KALDI_FFT)
        self.transform = nn.Buffer(torch.from_numpy((INT16 * matrix @ emphasis @ centre).T.copy()))
        self.bands = nn.Buffer(torch.from_numpy(np.array(extractor.mel_filters, dtype=np.float64)))

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Return the encoder's inputs of a waveform ``(1, n_samples)``, ``(1, n_frames, stride * n_bands)``."""
        n_frames = (waveform.shape[1] - KALDI_FRAME) // KALDI_HOP + 1
        begins = KALDI_HOP * torch.arange(n_frames)
        frames = waveform[0][begins[:, None] + torch.arange(KALDI_FRAME)].double()
        # rounded where the extractor rounds, since normalising can enlarge that
        real, imaginary = (frames @ self.transform).float().double().chunk(2, dim=1)
        bands = ((real.square() + imaginary.square()) @ self.bands).clamp(min=KALDI_FLOOR).log().float().double()
        centred = bands - bands.mean(dim=0)
        normalised = centred / torch.sqrt(centred.square().sum(dim=0) / (n_frames - 1) + EPSILON)
        whole = normalised[torch.arange(n_frames // self._stride * self._stride)].float()
        return {"input_features": whole.reshape(1, -1, self._stride * bands.shape[1])}


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
    if kind not in FRONT_ENDS or getattr(extractor, "dither", False):
        settings = " with dither" if kind in FRONT_ENDS else ""
        raise InputError(
            "LP930",
            f"{upstream} has the feature extractor {kind}{settings}, which can't be part of an ONNX file; "
            f"{', '.join(FRONT_ENDS)} can. Use the predictor's folder with layerprobe predict.",
        )
    return FRONT_ENDS[kind](extractor)


def fourier_matrix(window: np.ndarray, n_fft: int) -> np.ndarray:
    """Return the matrix that gives the real and the imaginary parts of a Fourier transform of a frame.

    Args:
        window: that frames are multiplied by, ``(n_samples,)``
        n_fft: length of the transform, at least that of the window

    Returns:
        ``(2 * (n_fft // 2 + 1), n_samples)`` float64, the real parts first; imaginary parts with the other sign
    """
    angles = 2 * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(len(window))) / n_fft
    return np.asarray(np.concatenate([np.cos(angles), np.sin(angles)]) * window)
