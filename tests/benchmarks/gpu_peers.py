"""What users of transformers run to pool every layer on a GPU: a loop, and padded batches with an attention mask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGE: dict[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
}  # fmt: skip


@contextlib.contextmanager
def convolutions(precision: str) -> Iterator[None]:
    """Run cuDNN's convolutions in ``ieee`` float32, or in ``tf32``, as torch does by default."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = precision
    try:
        yield
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


def normalised(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as the feature extractor returns it."""
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


def n_frames(config: Any, n_samples: int) -> int:
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        n_samples = (n_samples - kernel) // stride + 1
    return n_samples


def flops(config: Any, n_samples: int) -> float:
    """Operations of an utterance's frames, two for each multiply-add of convolutions, linear layers and attention."""
    total, rows, width = 0.0, n_samples, 1
    for kernel, stride, channels in zip(config.conv_kernel, config.conv_stride, config.conv_dim, strict=True):
        rows = (rows - kernel) // stride + 1
        total += 2 * rows * kernel * width * channels
        width = channels
    dim, inner = config.hidden_size, config.intermediate_size
    total += 2 * rows * width * dim
    total += 2 * rows * dim * (dim // config.num_conv_pos_embedding_groups) * config.num_conv_pos_embeddings
    blocks = 2 * rows * (4 * dim * dim + 2 * dim * inner) + 4 * rows * rows * dim
    return total + config.num_hidden_layers * blocks


def all_states(model: Any, batch: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Every layer, and the state after the final norm where there is one."""
    output = model(batch, attention_mask=mask, output_hidden_states=True)
    return [*output.hidden_states, *([output.last_hidden_state] if model.config.do_stable_layer_norm else [])]


def pooled(states: list[Tensor], counted: Tensor) -> Tensor:
    """Mean and standard deviation over each utterance's frames, ``(n, n_layers, 2, dim)`` float32."""
    frames = torch.stack(states, dim=1).float()  # (n, n_layers, n_frames, dim)
    valid = torch.arange(frames.shape[2], device=frames.device) < counted[:, None]
    weights = (valid / counted[:, None])[:, None, :, None]
    mean = (frames * weights).sum(dim=2)
    std = ((frames - mean[:, :, None]).square() * weights).sum(dim=2).sqrt()
    return torch.stack([mean, std], dim=2)


@torch.inference_mode()
def one_by_one(model: Any, waveforms: Sequence[np.ndarray]) -> Tensor:
    """The usual loop: an utterance at a time, its vectors on the host before the next begins."""
    parameter, rows = next(model.parameters()), []
    for waveform in waveforms:
        states = all_states(model, torch.from_numpy(waveform)[None].to(parameter.device, parameter.dtype))
        frames = torch.stack([state[0] for state in states]).float()
        rows.append(torch.stack([frames.mean(dim=1), frames.std(dim=1, correction=0)], dim=1).cpu())
    return torch.stack(rows)


@torch.inference_mode()
def reference(model: Any, waveforms: Sequence[np.ndarray]) -> Tensor:
    """One utterance at a time in float32, without TF32, pooled in float64: what errors are measured against."""
    device, rows = next(model.parameters()).device, []
    with convolutions("ieee"):
        for waveform in waveforms:
            states = all_states(model, torch.from_numpy(waveform)[None].to(device))
            frames = [state[0].double() for state in states]
            rows.append(torch.stack([torch.stack([f.mean(dim=0), f.std(dim=0, correction=0)]) for f in frames]).cpu())
    return torch.stack(rows)


@torch.inference_mode()
def padded(model: Any, waveforms: Sequence[np.ndarray], groups: list[np.ndarray]) -> Tensor:
    """Batches padded with zeros, with a mask; the host waits once for each batch."""
    parameter, found = next(model.parameters()), [torch.empty(0)] * len(waveforms)
    for group in groups:
        lengths = [len(waveforms[k]) for k in group]
        batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(waveforms[k]) for k in group], batch_first=True)
        mask = (torch.arange(batch.shape[1]) < torch.tensor(lengths)[:, None]).long()
        counted = torch.tensor([n_frames(model.config, n) for n in lengths], device=parameter.device)
        states = all_states(model, batch.to(parameter.device, parameter.dtype), mask.to(parameter.device))
        for k, row in zip(group, pooled(states, counted).cpu(), strict=True):
            found[k] = row
    return torch.stack(found)


def random_groups(n: int, *, size: int) -> list[np.ndarray]:
    order = np.random.default_rng(0).permutation(n)
    return [order[begin : begin + size] for begin in range(0, n, size)]


def sorted_groups(config: Any, lengths: Sequence[int], *, budget: int) -> list[np.ndarray]:
    """Utterances of similar lengths, the longest first, as many as pad to at most ``budget`` frames."""
    groups: list[list[int]] = []
    for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if groups and n_frames(config, lengths[groups[-1][0]]) * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(k)
        else:
            groups.append([k])
    return [np.array(group) for group in groups]


def errors(found: Tensor, exact: Tensor) -> Tensor:
    """Norm of the difference over the norm, ``(n_layers, 2)`` of mean and std, of the worst utterance."""
    exact = exact[: len(found)]
    difference = (found[: len(exact)].double() - exact).norm(dim=3)
    return (difference / exact.norm(dim=3).clamp_min(1e-12)).amax(dim=0)
