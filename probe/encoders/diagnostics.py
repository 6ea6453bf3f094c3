"""Checks of an encoder's layers, and measurements of its speed, precision and sensitivity to padding."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_waveform
from layerprobe.probe.encoders.pooling import DEFAULT_POOLINGS, pool_layers
from layerprobe.probe.encoders.speech import SpeechEncoder

SECONDS = 3.0
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2, "float16": 5e-2}  # of frames against transformers in float32


@dataclass(frozen=True)
class Check:
    """A property that an encoder must have, whether it has it, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Measurement:
    """A property of an encoder on this machine, as text with units."""

    name: str
    found: str


def run_checks(encoder: SpeechEncoder) -> list[Check]:
    """Check that the layers follow the convention of `probe.encoders.speech`: the conformance test of an adapter."""
    audio = example_waveform(SECONDS, sampling_rate=encoder.sampling_rate)
    states, again = encoder.reference_states(audio), encoder.reference_states(audio)
    shortest = encoder.hidden_states(audio[: encoder.minimum_samples])
    shapes = {tuple(s.shape) for s in states}
    inputs = _block_inputs(encoder, audio)
    chained = [_relative(entered, left) for entered, left in zip(inputs, states, strict=False)]
    differences = deviations(encoder, audio)
    changes = [_relative(b, a) for a, b in pairwise(states)]
    training = [type(m).__name__ for m in encoder.modules() if m.training]
    n_blocks = len(encoder.blocks)
    return [
        Check("one hidden state before the first block and one after each", len(states) - n_blocks in (1, 2),
              f"{n_blocks} blocks, layers {', '.join(encoder.layers)}"),
        Check("all layers have the same number of frames and width", shapes == {(len(states[0]), encoder.dim)},
              f"{sorted(shapes)} for {SECONDS:g} s"),
        Check("the input of block k is layer k - 1", len(inputs) == n_blocks and max(chained) < 1e-6,
              f"maximum relative difference {max(chained):.1e}"),
        Check("layers equal those of transformers", max(differences) < TOLERANCE[encoder.precision],
              f"forward pass {encoder.forward}, {encoder.precision}, relative difference {max(differences):.1e}"),
        Check("every block changes its input", min(changes) > 1e-6, f"minimum relative change {min(changes):.2g}"),
        Check("all values are finite", all(bool(torch.isfinite(s).all()) for s in (*states, *shortest)), "checked"),
        Check("a second forward pass gives the same bits",
              all(torch.equal(a, b) for a, b in zip(states, again, strict=True)),
              "dropout, layerdrop and masking are off"),
        Check("no module is in training mode", not training, ", ".join(sorted(set(training))) or "evaluation mode"),
        Check("the shortest audio has a frame", len(shortest[0]) >= 1, f"{encoder.minimum_samples} samples"),
    ]  # fmt: skip


def deviations(encoder: SpeechEncoder, waveform: np.ndarray) -> list[float]:
    """Return by how much each layer's frames differ from those of transformers' forward pass in float32.

    Args:
        encoder: in any precision
        waveform: ``(n_samples,)`` at the encoder's sampling rate

    Returns:
        for each layer the norm of the difference divided by the norm of transformers' frames; see `TOLERANCE`
    """
    ours, theirs = encoder.hidden_states(waveform), encoder.reference_states(waveform)
    return [_relative(a, b) for a, b in zip(ours, theirs, strict=True)]


def measure(encoder: SpeechEncoder, waveforms: list[np.ndarray] | None = None) -> list[Measurement]:
    """Measure speed, precision, and how far padding in a batch would move the pooled layers.

    Args:
        encoder: to measure
        waveforms: recordings of the user, ``(n_samples,)`` at the encoder's rate, on which precision is measured; a
            synthetic one if None or empty
    """
    audio = example_waveform(SECONDS, sampling_rate=encoder.sampling_rate)
    encoder.hidden_states(audio)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        n_frames = len(encoder.hidden_states(audio)[0])
        times.append(time.perf_counter() - began)
    seconds, rate = sorted(times)[1], encoder.sampling_rate
    spacing = 1000 * SECONDS / n_frames
    origin = "the checkpoint" if encoder.random_init is None else f"seed {encoder.random_init}, untrained"
    n_tensors = sum(1 for m in encoder.modules() for _ in m.parameters(recurse=False))
    measurements = [
        Measurement("weights", f"{n_tensors} tensors from {origin}; a checkpoint that lacks one is refused"),
        Measurement("speed", f"{SECONDS / seconds:.1f} s of audio per s, {n_frames / seconds:.0f} frames per s"),
        Measurement("frames", f"one every {spacing:.0f} ms, audio at {rate} Hz, long audio: {encoder.chunking}"),
    ]
    measurements.append(Measurement("forward pass on a GPU, or with --forward packed", str(encoder.packed_choice())))
    if encoder.preprocessing_note:
        measurements.append(Measurement("preprocessing", encoder.preprocessing_note))
    waveforms = waveforms or [audio]
    if encoder.precision != "float32":
        table = precision_error(encoder, waveforms)
        summary = precision_summary(table, precision=encoder.precision, n_recordings=len(waveforms))
        measurements.append(Measurement("precision", summary))
    if encoder.reads_waveforms:
        short = audio[: round(SHORT_SECONDS * rate)]
        for masked, mask in ((True, "with the attention mask"), (False, "without a mask")):
            errors = _padding_errors(encoder, short, audio, masked=masked)
            measurements.append(
                Measurement(
                    f"padded {mask}",
                    f"pooled layers would move by {min(errors):.1e} to {max(errors):.1e} in a batch with audio "
                    f"{SECONDS / SHORT_SECONDS:g} times as long; extraction pads only where that is exact",
                )
            )
    return measurements


def _block_inputs(encoder: SpeechEncoder, audio: np.ndarray) -> list[Tensor]:
    """Return the input of each block, ``(n_frames, dim)``, in the order in which blocks run."""
    recorded: list[Tensor] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorded.append((args[0] if args else kwargs["hidden_states"])[0].float())

    handles = [block.register_forward_pre_hook(record, with_kwargs=True) for block in encoder.blocks]
    try:
        n_frames = len(encoder.reference_states(audio)[0])
    finally:
        for handle in handles:
            handle.remove()
    return [states[:n_frames] for states in recorded]


def _padding_errors(encoder: SpeechEncoder, short: np.ndarray, long: np.ndarray, *, masked: bool) -> list[float]:
    """Return each layer's relative error of the mean over valid frames when ``short`` is batched with ``long``."""
    alone = encoder.reference_states(short)
    padded = encoder.padded_hidden_states([short, long], masked=masked)
    n = len(alone[0])
    return [_relative(p[0, :n].mean(dim=0), a.mean(dim=0)) for p, a in zip(padded, alone, strict=True)]


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def precision_error(encoder: SpeechEncoder, waveforms: list[np.ndarray]) -> pd.DataFrame:
    """Compare pooled layers (mean and standard deviation, concatenated) with transformers' own in float32.

    Args:
        encoder: in any precision
        waveforms: ``(n_samples,)`` each, at the encoder's sampling rate

    Returns:
        one row per layer: ``layer``, ``cosine`` (similarity in [-1, 1], minimum over waveforms), ``relative_error``
        (norm of the difference over norm of the float32 vector, maximum over waveforms)
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


def precision_summary(table: pd.DataFrame, *, precision: str, n_recordings: int) -> str:
    """Summarise the table of `precision_error` in one sentence."""
    lowest, highest = table["relative_error"].min(), table["relative_error"].max()
    return (
        f"{precision} moves pooled layers by {lowest:.2%} to {highest:.2%} against float32 (cosine at least "
        f"{table['cosine'].min():.5f}), on {n_recordings} recording{'' if n_recordings == 1 else 's'}"
    )
