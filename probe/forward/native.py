"""A native forward pass of wav2vec 2.0 and HuBERT for one utterance: transformers' layers in less time.

In the usual implementation most time is spent in the convolutions before the blocks. Here these are matrix products
over channels-last windows, tiled in time (exact, since the convolutions have no padding); the group norm of the first
is folded into its weights, its statistics being quadratic forms of the waveform's covariance over the ten samples of a
window; the positional convolution is computed in the frequency domain (overlap-save). Utterances are never batched, so
no order or batch can change a bit. The residual stream, norms and pooling stay in float32 whatever the precision of the
products (float32 or bfloat16).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.linear_kernels import ROWS, Linear, packs
from layerprobe.probe.forward.plain_modules import is_plain_wav2vec2
from layerprobe.probe.forward.stream.layout import Convolutions
from layerprobe.probe.forward.stream.operators import Norm, windows

NATIVE_ARCHITECTURES = frozenset({"HubertModel", "Wav2Vec2Model", "UniSpeechModel", "UniSpeechSatModel"})
TILE = 64  # frames: what one pass of the convolutions holds fits a core's cache
# Samples of a Fourier block of the positional convolution. Its spectrum is read once per utterance, which costs more
# than the transforms, so it is as short as the published kernels of 128 allow.
FOURIER = 256


def has_native_forward(encoder: Any) -> bool:
    """Return whether `NativeForward` computes what this encoder does: by its configuration and each of its modules."""
    config = encoder.config
    return (
        type(encoder).__name__ in NATIVE_ARCHITECTURES
        and config.feat_extract_norm in ("group", "layer")
        and config.num_conv_pos_embeddings <= FOURIER // 2
        and is_plain_wav2vec2(encoder)
    )


@dataclass(frozen=True)
class _Block:
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    up: Linear
    down: Linear
    attention_norm: Norm
    output_norm: Norm


class NativeForward:
    """An encoder for which `has_native_forward` holds, on the CPU."""

    def __init__(self, encoder: Any, *, dtype: torch.dtype = torch.float32) -> None:
        """Take the weights; matrix products are done in ``dtype``, float32 or bfloat16."""
        config, self._dtype = encoder.config, dtype
        layers = encoder.feature_extractor.conv_layers
        self._multiple = ROWS if dtype == torch.bfloat16 and packs() else 1  # of rows in a product
        self._shape = Convolutions(tuple(config.conv_kernel), tuple(config.conv_stride))
        self._group_norm: Any = layers[0].layer_norm if config.feat_extract_norm == "group" else None
        self._first = layers[0].conv
        self._convolutions = [self._as_product(layer.conv) for layer in layers]
        self._norms = None if self._group_norm is not None else [Norm.from_module(layer.layer_norm) for layer in layers]
        projection = encoder.feature_projection
        self._project_norm = Norm.from_module(projection.layer_norm) if hasattr(projection, "layer_norm") else None
        self._project = self._linear(projection.projection)
        self._transform_positions(encoder.encoder.pos_conv_embed.conv)
        self._heads: int = config.num_attention_heads
        self._pre_norm: bool = getattr(config, "do_stable_layer_norm", False)
        self._norm = Norm.from_module(encoder.encoder.layer_norm)
        self._blocks = [self._block(layer) for layer in encoder.encoder.layers]

    @torch.inference_mode()
    def hidden_states(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield each layer's frames, ``(n_frames, dim)`` float32, of a normalised waveform ``(n_samples,)`` float32."""
        n_frames = (len(waveform) - self._shape.reach) // self._shape.stride + 1
        x = self._front_end(waveform, n_frames + -n_frames % self._multiple)
        if self._project_norm is not None:
            x = self._project_norm(x)
        x = self._project(x).float()
        x[:n_frames] += self._positions(x[:n_frames])
        if not self._pre_norm:
            x = self._norm(x)
        yield x[:n_frames]
        for block in self._blocks:
            x = self._run(block, x, n_frames)
            yield x[:n_frames]
        if self._pre_norm:
            yield self._norm(x[:n_frames])

    def _run(self, block: _Block, x: Tensor, n_frames: int) -> Tensor:
        normed = block.attention_norm(x) if self._pre_norm else x
        x = x + self._attend(block, normed.to(self._dtype), n_frames).float()
        if not self._pre_norm:
            x = block.attention_norm(x)
        normed = block.output_norm(x) if self._pre_norm else x
        x = x + block.down(block.up(normed.to(self._dtype), gelu=True)).float()
        return x if self._pre_norm else block.output_norm(x)

    def _attend(self, block: _Block, x: Tensor, n_frames: int) -> Tensor:
        """Let each row of ``x`` attend to its first ``n_frames`` rows; the others only pad a product."""

        def heads(project: Linear) -> Tensor:
            return project(x).view(len(x), self._heads, -1).transpose(0, 1)[None]

        q, k, v = heads(block.query), heads(block.key)[:, :, :n_frames], heads(block.value)[:, :, :n_frames]
        mixed = functional.scaled_dot_product_attention(q, k, v)[0]
        return block.out(mixed.transpose(0, 1).reshape(len(x), -1))

    def _front_end(self, waveform: Tensor, n_frames: int) -> Tensor:
        """Return the frames before the projection, ``(n_frames, channels)`` in the precision of the products."""
        first = self._convolutions[0] if self._group_norm is None else self._folded(waveform)
        reach, stride = self._shape.reach, self._shape.stride
        n_samples = reach + (n_frames - 1) * stride
        samples = functional.pad(waveform.to(self._dtype), (0, n_samples - len(waveform)))
        tiles = []
        for begin in range(0, n_frames, TILE):
            first_sample = begin * stride
            n = min(TILE, n_frames - begin)
            x = samples[first_sample : first_sample + (n - 1) * stride + reach, None]
            for k, product in enumerate([first, *self._convolutions[1:]]):
                window_rows = windows(x, self._shape.kernels[k], self._shape.strides[k]).contiguous()
                if self._norms is None:
                    x = product(window_rows, gelu=True)
                else:
                    x = functional.gelu(self._norms[k](product(window_rows)))
            tiles.append(x)
        return torch.cat(tiles)

    def _folded(self, waveform: Tensor) -> Linear:
        """Return the first convolution with its group norm folded in: a scale and a shift per channel and utterance."""
        norm = self._group_norm
        rows = windows(waveform[:, None], self._shape.kernels[0], self._shape.strides[0]).contiguous().double()
        mean = rows.mean(dim=0)
        centred = rows - mean
        covariance = centred.T @ centred / len(rows)
        weight = self._first.weight.detach()[:, 0].double()
        variance = ((weight @ covariance) * weight).sum(dim=1)  # the convolution's bias cancels
        scale = norm.weight.detach().double() / torch.sqrt(variance + norm.eps)
        shift = norm.bias.detach().double() - (weight @ mean) * scale
        return Linear.from_weights((weight * scale[:, None]).float(), shift.float(), self._dtype)

    def _transform_positions(self, convolution: Any) -> None:
        """Compute the spectrum of the positional convolution, per group, for overlap-save."""
        weight = convolution.weight.detach().float()  # (dim, dim / groups, kernel)
        groups, self._kernel = convolution.groups, weight.shape[-1]
        shape = (groups, len(weight) // groups, weight.shape[1], self._kernel)
        spectrum = torch.fft.rfft(weight.flip(-1).reshape(shape), FOURIER)
        self._spectrum = spectrum.permute(3, 0, 2, 1).contiguous()  # (frequency, group, in, out)
        self._position_bias = convolution.bias.detach().float()

    def _positions(self, x: Tensor) -> Tensor:
        """Return GELU of the positional convolution of ``(n_frames, dim)``, same shape, float32."""
        n, dim = x.shape
        step, groups = FOURIER - self._kernel + 1, self._spectrum.shape[1]
        n_blocks = -(-n // step)
        left = self._kernel // 2
        padded = functional.pad(x.T, (left, n_blocks * step + self._kernel - 1 - left - n))
        blocks = padded.unfold(1, FOURIER, step).reshape(groups, dim // groups, n_blocks, FOURIER)
        spectra = torch.fft.rfft(blocks).permute(3, 0, 2, 1)  # (frequency, group, block, in)
        mixed = torch.matmul(spectra, self._spectrum).permute(1, 3, 2, 0)  # (group, out, block, frequency)
        y = torch.fft.irfft(mixed, FOURIER)[..., self._kernel - 1 :].reshape(dim, n_blocks * step)[:, :n].T
        return functional.gelu(y + self._position_bias)

    def _as_product(self, convolution: Any) -> Linear:
        """Reorder weights (out, in, kernel) as a channels-last window is: sample by sample, all channels of each."""
        weight = convolution.weight.permute(0, 2, 1).flatten(1)
        return Linear.from_weights(weight, convolution.bias, self._dtype)

    def _linear(self, module: Any) -> Linear:
        return Linear.from_weights(module.weight, module.bias, self._dtype)

    def _block(self, layer: Any) -> _Block:
        attention, feed_forward = layer.attention, layer.feed_forward
        return _Block(
            query=self._linear(attention.q_proj),
            key=self._linear(attention.k_proj),
            value=self._linear(attention.v_proj),
            out=self._linear(attention.out_proj),
            up=self._linear(feed_forward.intermediate_dense),
            down=self._linear(feed_forward.output_dense),
            attention_norm=Norm.from_module(layer.layer_norm),
            output_norm=Norm.from_module(layer.final_layer_norm),
        )
