"""Comparison of an encoder's forward pass with that of transformers, on the first utterance of an extraction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.manifest.schema import TRANSCRIPT
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.diagnostics import TOLERANCE, NetworkEncoder, deviations
from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_waveform
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.encoders.text import EXAMPLE, TranscriptEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.estimate import sample_waveforms
from layerprobe.probe.extraction.numerics import sample_texts, within_memory, worst_layer

SECONDS = 10.0  # at most, of the utterance that is compared
N_TRIED = 4  # utterances, of which the first that can be read is compared


def check_first_utterance(encoder: AnyEncoder, table: pd.DataFrame, *, text_column: str = TRANSCRIPT) -> None:
    """Compare every layer of one utterance with transformers' own forward pass in float32, where another one runs.

    Args:
        encoder: of audio or text
        table: rows of a manifest; the first that can be read is encoded twice
        text_column: of the table, which a text encoder reads

    Raises:
        InputError: if a layer differs by more than the tolerance of its precision, or the encoder fails
    """
    if not isinstance(encoder, NetworkEncoder) or encoder.is_reference:
        return
    if isinstance(encoder, TranscriptEncoder):
        check_forward_pass(encoder, *_first_text(table, text_column))
    else:
        check_forward_pass(encoder, *_first_waveform(encoder, table))


def check_forward_pass(encoder: NetworkEncoder, name: str, data: np.ndarray | str) -> None:
    """Compare every layer of one utterance with transformers' own forward pass in float32.

    Where utterances run together, both the utterance alone and the utterance between two others are compared; where
    memory runs out, its first half.

    Args:
        encoder: of audio or text
        name: of the utterance, for the message
        data: waveform ``(n_samples,)`` at the encoder's sampling rate, or a text

    Raises:
        InputError: if a layer differs by more than the tolerance of the encoder's precision, or the encoder fails
    """
    differences, _ = within_memory(lambda sample: deviations(encoder, sample[0]), encoder, [data])
    tolerance = TOLERANCE[encoder.precision]
    worst = worst_layer(differences, tolerance)
    if worst is None:
        return
    raise InputError(
        "LP352",
        f"{encoder.upstream}: on {name}, layer {encoder.layers[worst]} of the {encoder.forward} forward pass in "
        f"{encoder.precision} differs from transformers' by {differences[worst]:.1e} (relative), more than "
        f"{tolerance:.0e}. Nothing was written. Try {_exact(encoder)}, and report the encoder with what "
        "layerprobe check-encoder prints.",
    )


def _exact(encoder: NetworkEncoder) -> str:
    """Return the options that remain to be tried; text encoders run in float32 always."""
    single = "--forward single" if encoder.packed is not None else ""
    return " ".join([single, "--precision float32"] if encoder.reads == "audio" else [single]).strip()


def _first_text(table: pd.DataFrame, column: str) -> tuple[str, str]:
    """Return the name of the first utterance with a transcript, and that; an example's where none has one."""
    for k in range(min(N_TRIED, len(table))):
        if texts := sample_texts(table[k : k + 1], column):
            return f"utterance {table['utterance_id'].iloc[k]}", texts[0]
    return "an example", EXAMPLE


def _first_waveform(encoder: SpeechEncoder, table: pd.DataFrame) -> tuple[str, np.ndarray]:
    """Return the name of the first utterance that can be read and its beginning; an example's where none can."""
    for k in range(min(N_TRIED, len(table))):
        try:
            waveforms = sample_waveforms(table[k : k + 1], encoder, seconds=SECONDS)
        except (InvalidAudioError, OSError):
            continue  # the extraction will name it
        if waveforms:
            return f"utterance {table['utterance_id'].iloc[k]}", waveforms[0]
    return "an example", example_waveform(SHORT_SECONDS, sampling_rate=encoder.sampling_rate)
