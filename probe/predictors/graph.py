"""A predictor as one module of torch, from the waveform to ratings, written so that torch exports it.

It computes what `probe.predictors.predictor.Predictor` does, for a recording that is encoded at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from layerprobe.probe.encoders.speech import LoadedModel
from layerprobe.probe.forward.hooks import HookedEncoder
from layerprobe.probe.predictors.cut import WHISPER
from layerprobe.probe.predictors.front_ends import front_end
from layerprobe.probe.predictors.heads import Head, used_layers

SEW = "sew"


def _deviation(frames: Tensor) -> Tensor:
    return (frames - frames.mean(dim=0)).square().mean(dim=0).sqrt()


def _first(frames: Tensor, n: Any) -> Tensor:
    return frames[torch.arange(n)]  # not a slice, whose length torch can't derive from that of the waveform


def _last_third(frames: Tensor) -> Tensor:
    n = frames.shape[0]
    return frames[torch.arange(_third(n)) + (n - _third(n))].mean(dim=0)


def _third(n: Any) -> Any:
    return (n + 2) // 3


# As `probe.forward.pooling.POOLINGS`, of all frames at once and with operators that every runtime has.
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda frames: frames.mean(dim=0),
    "std": _deviation,
    "max": lambda frames: frames.amax(dim=0),
    "min": lambda frames: frames.amin(dim=0),
    "first_token": lambda frames: frames[0],
    "first_third": lambda frames: _first(frames, _third(frames.shape[0])).mean(dim=0),
    "last_third": _last_third,
    "normed_mean": lambda frames: nn.functional.layer_norm(frames, frames.shape[-1:]).mean(dim=0),
}


class PredictorGraph(nn.Module):
    """From a waveform ``(1, n_samples)`` to ratings, their prediction intervals, and the embeddings that heads read."""

    def __init__(self, loaded: LoadedModel, heads: Sequence[Head], *, poolings: Sequence[str], upstream: str) -> None:
        """Take the encoder out of a loaded model, and change it where torch would not export it.

        Args:
            loaded: of `probe.encoders.loading.load_model`
            heads: of the predictor
            poolings: keys of `POOLINGS`, in the order of the heads' coefficients
            upstream: name of the encoder, for messages

        Raises:
            InputError: if the feature extractor can't be exported
        """
        super().__init__()
        self.front_end = front_end(loaded.extractor, upstream=upstream)
        encoder: Any = loaded.family.encoder(loaded.model)
        self.encoder = encoder.float().eval().requires_grad_(False)
        _fix_weights(self.encoder)
        self._hooked = HookedEncoder(
            self.encoder, loaded.family.blocks(self.encoder), loaded.family.final_norm(self.encoder)
        )
        self.layers = used_layers(heads, self._hooked.layers)
        self._wanted = [self._hooked.layers.index(layer) for layer in self.layers]
        self._poolings = [POOLINGS[name] for name in poolings]
        self.window: int | None = None  # samples of a window, where the encoder takes windows of one length
        if encoder.config.model_type == WHISPER:
            self.window = int(loaded.extractor.n_samples)
        coefficients, intercepts, half_widths = _stacked(heads, self.layers)
        self.coefficients, self.intercepts = nn.Buffer(coefficients), nn.Buffer(intercepts)
        self.half_widths = nn.Buffer(half_widths)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ratings, intervals and embeddings of a waveform ``(1, n_samples)`` at the encoder's rate.

        Returns:
            ratings ``(1, n_targets)``, intervals ``(1, n_targets, 2)`` (low, high), both in the targets' units, and
            embeddings ``(1, n_layers, n_poolings * dim)``; all float32
        """
        embeddings = torch.stack([self._pooled(frames) for frames in self._frames(waveform)])
        # In float64, since large terms cancel; as a sum, which is never rounded to 8 bits.
        ratings = (self.coefficients * embeddings.double()).sum(dim=(1, 2)) + self.intercepts
        ends = torch.stack([ratings - self.half_widths, ratings + self.half_widths], dim=1)
        return ratings.float()[None], ends.float()[None], embeddings[None]

    def _pooled(self, frames: Tensor) -> Tensor:
        return torch.cat([pool(frames) for pool in self._poolings])

    def _frames(self, waveform: Tensor) -> list[Tensor]:
        """Return the frames of each of `layers`, ``(n_frames, dim)``."""
        inputs = self.front_end(waveform)
        sew = self.encoder.config.model_type == SEW
        states = self._sew_states(inputs["input_values"]) if sew else self._hooked.states(inputs)
        wanted = [states[k] for k in self._wanted]
        if self.window is None:
            return [frames[0] for frames in wanted]
        stride = self.window // self.encoder.config.max_source_positions
        n_frames = (waveform.shape[1] + stride - 1) // stride  # those that begin within the audio
        return [_first(frames.reshape(-1, frames.shape[-1]), n_frames) for frames in wanted]

    def _sew_states(self, input_values: Tensor) -> list[Tensor]:
        """Return the states of SEW's blocks without what follows them, which brings frames back to 20 ms.

        Its own pass compares numbers of frames that torch can't derive from that of the samples.
        """
        outer, inner = self.encoder, self.encoder.encoder
        features = outer.layer_norm(outer.feature_extractor(input_values).transpose(1, 2))
        if outer.project_features:
            features = outer.feature_projection(features)
        frames = outer.feature_dropout(features).transpose(1, 2)
        pooled, positions = inner.pool(frames), inner.pos_conv_embed(frames)
        every = torch.arange(pooled.shape[2])

        def run() -> None:
            states = inner.layer_norm((pooled + positions[..., every]).transpose(1, 2))
            for block in inner.layers:
                out = block(states)
                states = out[0] if isinstance(out, tuple) else out

        return self._hooked.run_with_hooks(run)


def _stacked(heads: Sequence[Head], layers: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Return coefficients ``(n_targets, n_layers, n_features)``, 0 where a head has none, intercepts and half widths.

    All are float64; the latter two are ``(n_targets,)``.
    """
    coefficients = np.zeros((len(heads), len(layers), heads[0].coefficients.shape[1]))
    for row, head in zip(coefficients, heads, strict=True):
        row[[layers.index(layer) for layer in head.layers]] = head.coefficients
    intercepts, half_widths = (np.array([getattr(h, name) for h in heads]) for name in ("intercept", "half_width"))
    return torch.from_numpy(coefficients), torch.from_numpy(intercepts), torch.from_numpy(half_widths)


def _fix_weights(encoder: nn.Module) -> None:
    """Replace weights that are computed from others in each pass, such as those of a weight norm, by their values."""
    for module in list(encoder.modules()):
        if is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                remove_parametrizations(module, name, leave_parametrized=True)
    config: Any = encoder.config
    if config.model_type == SEW:
        config._attn_implementation = "eager"  # the other asks how many frames there are
