"""What extraction will do with an encoder, whether the encoder keeps its promises, and what padding would cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.pooling import DEFAULT_POOLINGS, pool_layers
from layerprobe.probe.encoders.speech import SpeechEncoder

SECONDS = 3.0
SHORT_SECONDS = 1.0
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2, "float16": 5e-2}  # of frames against transformers in float32


@dataclass(frozen=True)
class Check:
    """One promise, whether it is kept, and what was found."""

    name: str
    kept: bool
    found: str


@dataclass(frozen=True)
class Measure:
    """One figure of this encoder on this machine."""

    name: str
    found: str


def example_waveform(seconds: float, *, sampling_rate: int) -> np.ndarray:
    """A voice-like buzz with noise, ``(n_samples,)`` float32, the same each time."""
    moments = np.arange(round(seconds * sampling_rate)) / sampling_rate
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * moments)
    phase = 2 * np.pi * np.cumsum(pitch) / sampling_rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(0).normal(size=len(moments))
    return np.asarray(0.1 * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * moments)) * buzz + 0.01 * noise, dtype=np.float32)


def examine(encoder: SpeechEncoder) -> list[Check]:
    """Whether the layers are what `probe.encoders.speech` says they are; the conformance test of an adapter."""
    sound = example_waveform(SECONDS, sampling_rate=encoder.sampling_rate)
    states, again, ours = encoder.reference_states(sound), encoder.reference_states(sound), encoder.hidden_states(sound)
    shortest = encoder.hidden_states(sound[: encoder.minimum_samples])
    shapes = {tuple(s.shape) for s in states}
    inputs = _block_inputs(encoder, sound)
    chained = [_relative(entered, left) for entered, left in zip(inputs, states, strict=False)]
    apart = [_relative(a, b) for a, b in zip(ours, states, strict=True)]
    moved = [_relative(b, a) for a, b in pairwise(states)]
    training = [type(m).__name__ for m in encoder.modules() if m.training]
    n_blocks = len(encoder.blocks)
    return [
        Check("one state before the first block and one after each", len(states) - n_blocks in (1, 2),
              f"{n_blocks} blocks, layers {', '.join(encoder.layers)}"),
        Check("every layer has the same frames and width", shapes == {(len(states[0]), encoder.dim)},
              f"{sorted(shapes)} for {SECONDS:g} s"),
        Check("block k hears what layer k is", len(inputs) == n_blocks and max(chained) < 1e-6,
              f"greatest relative difference {max(chained):.1e}"),
        Check("our layers are those of transformers", max(apart) < TOLERANCE[encoder.precision],
              f"forward pass {encoder.forward}, {encoder.precision}, relative difference {max(apart):.1e}"),
        Check("every block changes its input", min(moved) > 1e-6, f"least relative change {min(moved):.2g}"),
        Check("all values are finite", all(bool(torch.isfinite(s).all()) for s in (*states, *shortest)), "checked"),
        Check("hearing twice gives the same bits", all(torch.equal(a, b) for a, b in zip(states, again, strict=True)),
              "dropout, layerdrop and masking are off"),
        Check("nothing is in training mode", not training, ", ".join(sorted(set(training))) or "evaluation mode"),
        Check("the shortest sound has a frame", len(shortest[0]) >= 1, f"{encoder.minimum_samples} samples"),
    ]  # fmt: skip


def measure(encoder: SpeechEncoder, sounds: list[np.ndarray] | None = None) -> list[Measure]:
    """How fast it hears, how exactly, and what padding in a batch would do to its pooled layers.

    Args:
        encoder: what is measured
        sounds: some of the user's own, ``(n_samples,)`` at the encoder's rate, on which precision is measured
    """
    sound = example_waveform(SECONDS, sampling_rate=encoder.sampling_rate)
    encoder.hidden_states(sound)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        n_frames = len(encoder.hidden_states(sound)[0])
        times.append(time.perf_counter() - began)
    seconds, rate = sorted(times)[1], encoder.sampling_rate
    spacing = 1000 * SECONDS / n_frames
    origin = "the checkpoint" if encoder.random_init is None else f"seed {encoder.random_init}, untrained"
    n_tensors = sum(1 for m in encoder.modules() for _ in m.parameters(recurse=False))
    measures = [
        Measure("weights", f"{n_tensors} tensors from {origin}; a checkpoint that lacks one is refused"),
        Measure("speed", f"{SECONDS / seconds:.1f} s of sound per s, {n_frames / seconds:.0f} frames per s"),
        Measure("frames", f"one every {spacing:.0f} ms, sound at {rate} Hz, long sound: {encoder.chunking}"),
    ]
    sounds = sounds or [sound]
    if encoder.precision != "float32":
        words = precision_words(precision_loss(encoder, sounds), precision=encoder.precision, n_audio_files=len(sounds))
        measures.append(Measure("precision", words))
    if encoder.reads_waveforms:
        short = sound[: round(SHORT_SECONDS * rate)]
        for masked, words in ((True, "with the attention mask"), (False, "without a mask")):
            errors = _padding_errors(encoder, short, sound, masked=masked)
            measures.append(
                Measure(
                    f"padded {words}",
                    f"pooled layers would move by {min(errors):.1e} to {max(errors):.1e} beside a sound "
                    f"{SECONDS / SHORT_SECONDS:g} times as long; extraction does not pad",
                )
            )
    return measures


def _block_inputs(encoder: SpeechEncoder, sound: np.ndarray) -> list[Tensor]:
    """What each block is given, ``(n_frames, dim)``, in the order in which blocks run."""
    seen: list[Tensor] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"])[0].float())

    handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in encoder.blocks]
    try:
        n_frames = len(encoder.reference_states(sound)[0])
    finally:
        for handle in handles:
            handle.remove()
    return [states[:n_frames] for states in seen]


def _padding_errors(encoder: SpeechEncoder, short: np.ndarray, long: np.ndarray, *, masked: bool) -> list[float]:
    """Relative error of each layer's mean over valid frames when ``short`` is batched with ``long``."""
    alone = encoder.reference_states(short)
    padded = encoder.padded_hidden_states([short, long], masked=masked)
    n = len(alone[0])
    return [_relative(p[0, :n].mean(dim=0), a.mean(dim=0)) for p, a in zip(padded, alone, strict=True)]


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def precision_loss(encoder: SpeechEncoder, waveforms: list[np.ndarray]) -> pd.DataFrame:
    """How far pooled layers (mean and standard deviation, side by side) lie from transformers' own in float32.

    Args:
        encoder: in any precision
        waveforms: ``(n_samples,)`` each, at its rate

    Returns:
        one row a layer: ``layer``, ``cosine`` (the least over sounds), ``relative_error`` (the greatest, of norms)
    """
    cosines, errors = [], []
    for waveform in waveforms:
        ours, exact = (
            pool_layers(states, poolings=DEFAULT_POOLINGS).flatten(1).double()
            for states in (encoder.hidden_states(waveform), encoder.reference_states(waveform))
        )
        cosines.append(torch.cosine_similarity(ours, exact))
        errors.append((ours - exact).norm(dim=1) / exact.norm(dim=1))
    return pd.DataFrame(
        {
            "layer": encoder.layers,
            "cosine": torch.stack(cosines).amin(dim=0).cpu(),
            "relative_error": torch.stack(errors).amax(dim=0).cpu(),
        }
    )


def precision_words(table: pd.DataFrame, *, precision: str, n_audio_files: int) -> str:
    """The table in one sentence."""
    least, greatest = table["relative_error"].min(), table["relative_error"].max()
    return (
        f"{precision} moves pooled layers by {least:.2%} to {greatest:.2%} against float32 (cosine at least "
        f"{table['cosine'].min():.5f}), on {n_audio_files} sounds"
    )
