"""A predictor at work: a waveform becomes ratings, each with its prediction interval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from layerprobe.probe.data.reading import ReadingOptions, make_recording
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.forward.chunks import FrameChunk
from layerprobe.probe.forward.pooling import pool_frame_chunks
from layerprobe.probe.predictors.folder import ENCODER, SavedPredictor, read_predictor
from layerprobe.probe.predictors.heads import Rating, used_layers
from layerprobe.probe.system import choose_device, torch_threads


class Predictor:
    """A cut encoder with the heads of its targets; `load_predictor` makes it."""

    def __init__(self, saved: SavedPredictor, encoder: SpeechEncoder) -> None:
        """Take the heads, and the encoder that their layers are of."""
        self.saved, self.encoder = saved, encoder
        self.plan, self.heads = saved.plan, saved.heads
        self.targets = tuple(head.target for head in saved.heads)
        self.layers = used_layers(saved.heads, encoder.layers)
        self.sampling_rate = encoder.sampling_rate  # Hz
        self.reading = ReadingOptions.from_plan(self.plan.audio_channels, self.plan.end_silence)
        self._wanted = {encoder.layers.index(layer) for layer in self.layers}

    def __repr__(self) -> str:
        kept = f"{self.plan.n_blocks} of {self.plan.n_blocks_of_whole} blocks"
        return f"Predictor({', '.join(self.targets)}; {self.plan.upstream}, {kept})"

    def __call__(self, waveform: np.ndarray, sampling_rate: int) -> dict[str, Rating]:
        """Return the rating of each target for one recording.

        No rating depends on what was rated before.

        Args:
            waveform: ``(n_samples,)``, or ``(n_samples, n_channels)``, full scale -1 to 1
            sampling_rate: of it, Hz

        Returns:
            for each target its rating in its own unit, with the prediction interval at `PredictorPlan.level`; as in a
            sweep, ratings are not clipped to the target's scale

        Raises:
            InvalidAudioError: if it is silent, too short for a frame, beyond full scale or not finite
        """
        channels = np.asarray(waveform, dtype=np.float32)
        if channels.ndim not in (1, 2) or not channels.size:
            raise ValueError(f"waveform {channels.shape} is neither (n_samples,) nor (n_samples, n_channels)")
        recording = make_recording(
            channels.reshape(len(channels), -1),
            sampling_rate,
            sampling_rate=self.sampling_rate,
            reading=self.reading,
        )
        return self.rate(self.embed(recording.waveform))

    def embed(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Return the pooled embeddings of the layers that heads read, ``(n_poolings * dim,)`` float32 each.

        Args:
            waveform: ``(n_samples,)`` float32 at `sampling_rate`

        Raises:
            InvalidAudioError: if it is too short for a frame
        """
        if len(waveform) < self.encoder.minimum_samples:
            needed = self.encoder.minimum_samples / self.sampling_rate
            raise InvalidAudioError(
                "LP909", f"too short: {len(waveform) / self.sampling_rate:.3f} s, and a frame needs {needed:.3f} s"
            )
        with torch_threads(1):
            chunks = map(self._of_wanted, self.encoder.frame_chunks(waveform))
            pooled = pool_frame_chunks(chunks, poolings=self.plan.poolings)
        vectors = pooled.float().cpu().numpy().reshape(len(self.layers), -1)
        return dict(zip(self.layers, vectors, strict=True))

    def rate(self, embeddings: dict[str, np.ndarray]) -> dict[str, Rating]:
        """Return the rating of each target for the embeddings of one recording, as `embed` returns them."""
        one = {layer: vector[None].astype(np.float64) for layer, vector in embeddings.items()}
        return {head.target: head.interval(float(head(one)[0])) for head in self.heads}

    def _of_wanted(self, chunk: FrameChunk) -> FrameChunk:
        return FrameChunk(self._wanted_layers(chunk), chunk.first, chunk.total)

    def _wanted_layers(self, chunk: FrameChunk) -> Iterator[Tensor]:
        for k, frames in zip(range(max(self._wanted) + 1), chunk.layers, strict=False):  # no later one is computed
            if k in self._wanted:
                yield frames


def load_predictor(folder: Path | str, *, device: str | None = None, precision: str | None = None) -> Predictor:
    """Load a predictor that `layerprobe deploy` made.

    Args:
        folder: of the predictor
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        precision: of matrix products, as of `probe.encoders.loading.load_encoder`; None for that of the embeddings that
            the heads were fitted on, or float32 where that is one of GPUs and this device is none

    Raises:
        InputError: if the folder holds no predictor, or a file of it is missing or damaged
    """
    saved = read_predictor(folder)
    device = choose_device(device)
    if precision is None:
        of_gpu = saved.plan.precision in ("float16", "tf32")
        precision = "float32" if of_gpu and not device.startswith("cuda") else saved.plan.precision
    encoder = load_audio_encoder(
        str(saved.folder / ENCODER), device=device, precision=precision, forward="single", show_download=False
    )
    return Predictor(saved, encoder)
