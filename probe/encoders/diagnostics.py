"""Checks of an encoder's layers, and measurements of its speed, its numerical errors and sensitivity to padding."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_waveform
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.encoders.text import TranscriptEncoder
from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.hooks import frames_of
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.pooling import pool_layers
from layerprobe.probe.forward.precision import multiplying_in

SECONDS = 3.0
# of frames against transformers in float32
TOLERANCE = {"float32": 1e-5, "tf32": 5e-2, "bfloat16": 5e-2, "float16": 5e-2}
NetworkEncoder = SpeechEncoder | TranscriptEncoder


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


def how_encoded(encoder: NetworkEncoder) -> str:
    """Return as text which utterances an encoder's forward pass takes together."""
    return {
        "packed": "encoding utterances together in one stream (no padding)",
        "equal lengths": "encoding utterances of equal length together (no padding)",
        "masked": "encoding utterances together, padded and masked",
    }.get(encoder.forward, "encoding one utterance at a time (no padding)")


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


def deviations(encoder: NetworkEncoder, data: np.ndarray | str) -> list[float]:
    """Return by how much each layer's frames differ from those of transformers' forward pass in float32.

    Where utterances run together, that is the larger difference of the utterance alone and between two others.

    Args:
        encoder: of audio or text, in any precision
        data: waveform ``(n_samples,)`` at the encoder's sampling rate, or a text

    Returns:
        for each layer the norm of the difference divided by the norm of transformers' frames; see `TOLERANCE`
    """
    passes = [_states(encoder, data)]
    if encoder.packed is not None:
        passes.append(_states_between_others(encoder, data))
    theirs = _states(encoder, data, reference=True)
    differences = [[_relative(a, b) for a, b in zip(ours, theirs, strict=True)] for ours in passes]
    return [float(worst) for worst in np.max(differences, axis=0)]  # NaN where one is


def _states(encoder: NetworkEncoder, data: Any, *, reference: bool = False) -> list[Tensor]:
    return (encoder.reference_states if reference else encoder.hidden_states)(data)


def _states_between_others(encoder: NetworkEncoder, data: np.ndarray | str) -> list[Tensor]:
    """Return each layer's frames of an utterance that is encoded together with one as long and a longer one."""
    if encoder.packed is None:
        raise RuntimeError("the encoder encodes utterances singly")
    before, after = _others(data)
    pack = Pack.of([_input_chunks(encoder, one) for one in (before, data, after)], encoder.packed.n_frames)
    parts = [
        (chunk.first, chunk.counted, begin, end)
        for chunk, k, (begin, end) in zip(pack.chunks, pack.utterances, pack.spans(), strict=True)
        if k == 1
    ]
    parts.sort(key=lambda part: part[0])
    with torch.inference_mode(), multiplying_in(encoder.precision):
        return [
            torch.cat([stream[begin:end][counted] for _, counted, begin, end in parts])
            for stream in encoder.packed.states(pack)
        ]


def _others(data: np.ndarray | str) -> tuple[Any, Any]:
    """Return two other utterances: the tokens or samples in reverse, and these together with the forward ones."""
    if isinstance(data, str):
        backwards = " ".join(reversed(data.split()))
        return backwards, f"{backwards} {data}"
    return data[::-1].copy(), np.concatenate([data[::-1], data])


def _input_chunks(encoder: NetworkEncoder, data: Any) -> list[InputChunk]:
    return encoder.input_chunks(data)


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
    if encoder.precision != "float32" or encoder.packed is not None:
        table = precision_error(encoder, waveforms)
        measurements.append(Measurement("precision", precision_summary(table, encoder, n_sampled=len(waveforms))))
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
        recorded.append(frames_of(args[0] if args else kwargs["hidden_states"])[0].float())

    handles = [block.register_forward_pre_hook(record, with_kwargs=True) for block in encoder.blocks]
    try:
        encoder.reference_states(audio)
    finally:
        for handle in handles:
            handle.remove()
    counted = encoder.input_chunks(audio)[0].counted
    return [states[counted] for states in recorded]


def _padding_errors(encoder: SpeechEncoder, short: np.ndarray, long: np.ndarray, *, masked: bool) -> list[float]:
    """Return each layer's relative error of the mean over valid frames when ``short`` is batched with ``long``."""
    alone = encoder.reference_states(short)
    padded = encoder.padded_hidden_states([short, long], masked=masked)
    n = len(alone[0])
    return [_relative(p[0, :n].mean(dim=0), a.mean(dim=0)) for p, a in zip(padded, alone, strict=True)]


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def precision_error(encoder: NetworkEncoder, sample: Sequence[np.ndarray | str]) -> pd.DataFrame:
    """Compare pooled layers (the encoder's default poolings, concatenated) with transformers' own in float32.

    Args:
        encoder: in any precision
        sample: waveforms ``(n_samples,)`` at the encoder's sampling rate, or texts

    Returns:
        one row per layer: ``layer``, ``cosine`` (similarity in [-1, 1], minimum over the sample), ``relative_error``
        (norm of the difference over norm of the float32 vector, maximum over the sample), and ``composition_error``
        of `composition_errors`
    """
    cosines, errors = [], []
    for data in sample:
        exact = _pooled_states(encoder, data, reference=True)
        packed = encoder.packed is not None
        ours = _embed_pack(encoder, [_input_chunks(encoder, data)])[0] if packed else _pooled_states(encoder, data)
        cosines.append(torch.cosine_similarity(ours, exact))
        errors.append((ours - exact).norm(dim=1) / exact.norm(dim=1))
    return pd.DataFrame(
        {
            "layer": encoder.layers,
            "cosine": torch.stack(cosines).amin(dim=0).cpu(),
            "relative_error": torch.stack(errors).amax(dim=0).cpu(),
            "composition_error": composition_errors(encoder, sample),
        }
    )


def composition_errors(encoder: NetworkEncoder, sample: Sequence[np.ndarray | str]) -> list[float]:
    """Return by how much the utterances of a pack move each other's pooled layers.

    The sample runs together in its order and in reverse, and each of it by itself through the same pass. A sample of
    fewer than three is encoded together with two others made of its first: reversed, and that followed by the first.

    Args:
        encoder: in any precision
        sample: waveforms ``(n_samples,)`` at the encoder's sampling rate, or texts

    Returns:
        for each layer the norm of the difference over the norm of the vector of the utterance by itself, maximum over
        the sample and both orders; zeros where utterances are encoded singly
    """
    if encoder.packed is None:
        return [0.0] * len(encoder.layers)
    whole = list(sample) if len(sample) > 2 else [*sample, *_others(sample[0])]
    utterances = [_input_chunks(encoder, data) for data in whole]
    orders = (list(range(len(whole))), list(range(len(whole)))[::-1])  # either is its own inverse
    alone = torch.cat([_embed_pack(encoder, [one]) for one in utterances])
    together = torch.stack([_embed_pack(encoder, [utterances[k] for k in order])[order] for order in orders])
    errors: list[float] = ((together - alone).norm(dim=3) / alone.norm(dim=2)).amax(dim=(0, 1)).tolist()
    return errors


def _pooled_states(encoder: NetworkEncoder, data: Any, *, reference: bool = False) -> Tensor:
    """Return the layers of one utterance, ``(n_layers, n_poolings * dim)`` float64."""
    states = _states(encoder, data, reference=reference)
    with multiplying_in("float32"):
        return pool_layers(states, poolings=encoder.default_poolings).flatten(1).double()


def _embed_pack(encoder: NetworkEncoder, utterances: list[list[InputChunk]]) -> Tensor:
    """Return the layers of utterances encoded together, ``(n_utterances, n_layers, n_poolings * dim)`` float64."""
    return encoder.embed_pack(utterances, poolings=encoder.default_poolings).flatten(2).double()


def precision_summary(table: pd.DataFrame, encoder: NetworkEncoder, *, n_sampled: int) -> str:
    """Summarise the table of `precision_error` in one sentence."""
    lowest, highest = table["relative_error"].min(), table["relative_error"].max()
    moved = f"at most {highest:.1e}" if encoder.precision == "float32" else f"{lowest:.2%} to {highest:.2%}"
    subject, exact = f"{encoder.precision} moves", "float32"
    if encoder.precision == "float32":
        subject, exact = f"float32 in the {encoder.forward} forward pass moves", "transformers' own"
    unit = "recording" if encoder.reads == "audio" else "text"
    summary = (
        f"{subject} pooled layers by {moved} against {exact} (cosine at least "
        f"{table['cosine'].min():.5f}), on {n_sampled} {unit}{'' if n_sampled == 1 else 's'}"
    )
    if encoder.packed is None:
        return summary
    moved = table["composition_error"].max()
    together = "do not change each other" if moved == 0 else f"move each other by at most {moved:.1e}"
    return f"{summary}; encoded together ({encoder.forward}), they {together}"
