"""Real-time factors of an encoder up to each layer, measured on this machine.

All layers of an encoder are timed in the same passes, by the clock where each layer is complete, and encoders take
turns, so that what else the machine does meanwhile meets all of them. The factor is the median over passes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from layerprobe.probe.cost.parameter_count import interleaved
from layerprobe.probe.cost.stamps import at_each_layer
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.encoders.packing import PackableEncoder
from layerprobe.probe.encoders.text import TranscriptEncoder
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.system import torch_threads

NEEDS = {"mfcc": "log_mel"}  # an acoustic feature: the one that it is made from
WORD = "the"  # of which texts are made, a single token in published vocabularies of English
ROUNDS = 7


def real_time_factors_of_layers(
    encoders: Sequence[AnyEncoder],
    *,
    seconds: int,
    n_tokens: int,
    threads: int = 1,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[np.ndarray]:
    """Return the real-time factor of each layer of each encoder, ``(n_layers,)`` each.

    A factor is the time from the waveform, or the text, to the layer over the duration of the audio. Reading the file
    and pooling are not part of it.

    Args:
        encoders: on the CPU
        seconds: duration of the audio
        n_tokens: of its transcript with special tokens, for text encoders
        threads: of torch, in this one process
        rounds: number of passes of each encoder that are timed, after one that is not
        clock: returns the time in seconds
    """
    passes = [_timed_pass(encoder, seconds, n_tokens, clock) for encoder in encoders]
    with torch_threads(threads):
        found = interleaved(passes, rounds=rounds)
    return [_alone(times / seconds, encoder.layers) for times, encoder in zip(found, encoders, strict=True)]


def processor_name() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def text_of(encoder: AnyEncoder, n_tokens: int) -> str:
    """Return a text of that many tokens, special ones included, or a few less where a word takes several."""
    if not isinstance(encoder, TranscriptEncoder):
        raise TypeError(f"{encoder!r} does not read text")
    special = len(encoder.tokens(""))
    each = len(encoder.tokens(WORD)) - special
    return " ".join([WORD] * max(1, (n_tokens - special) // each))


def _timed_pass(
    encoder: AnyEncoder, seconds: int, n_tokens: int, clock: Callable[[], float]
) -> Callable[[], np.ndarray]:
    """Return a function that encodes an example and returns the seconds from its begin to each layer."""
    example = (
        example_waveform(seconds, sampling_rate=encoder.sampling_rate)
        if encoder.reads == "audio"
        else text_of(encoder, n_tokens)
    )
    hooked = encoder.hooked if isinstance(encoder, PackableEncoder) else None

    def passed() -> np.ndarray:
        total = np.zeros(len(encoder.layers))
        began = clock()
        for chunk in encoder.frame_chunks(example):  # type: ignore[arg-type]
            yielded = np.array([clock() for _ in chunk.layers])
            stamps = np.array(readings) if len(readings) == len(yielded) else yielded
            total += stamps - began
            readings.clear()
            began = clock()
        return total

    readings: list[float] = []
    if hooked is None:
        return passed

    def passed_with_hooks() -> np.ndarray:
        nonlocal readings
        with at_each_layer(hooked.blocks, hooked.final_norm, clock) as readings:
            return passed()

    return passed_with_hooks


def _alone(times: np.ndarray, layers: tuple[str, ...]) -> np.ndarray:
    """Return the time of each layer: of a stack from the begin, of features, which are independent, their own."""
    if is_stack(layers):
        return times
    own = dict(zip(layers, np.diff(times, prepend=0.0), strict=True))
    return np.array([own[name] + own.get(NEEDS.get(name, ""), 0.0) for name in layers])
