"""Comparison of an encoder's forward pass with that of transformers, on the first utterance of an extraction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.diagnostics import TOLERANCE, deviations
from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_waveform
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.estimate import sample_waveforms

SECONDS = 10.0  # at most, of the utterance that is compared
N_TRIED = 4  # utterances, of which the first that can be read is compared


def check_first_utterance(encoder: AnyEncoder, table: pd.DataFrame) -> None:
    """Compare every layer of one utterance with transformers' own forward pass in float32, where another one runs.

    Args:
        encoder: of audio or text
        table: rows of a manifest; the first that can be read is encoded twice

    Raises:
        InputError: if a layer differs by more than the tolerance of its precision, or the encoder fails
    """
    if not isinstance(encoder, SpeechEncoder) or encoder.is_reference:
        return
    check_forward_pass(encoder, *_first_waveform(encoder, table))


def check_forward_pass(encoder: SpeechEncoder, name: str, waveform: np.ndarray) -> None:
    """Compare every layer of one waveform with transformers' own forward pass in float32.

    Args:
        encoder: of audio
        name: of the utterance, for the message
        waveform: ``(n_samples,)`` at the encoder's sampling rate

    Raises:
        InputError: if a layer differs by more than the tolerance of the encoder's precision, or the encoder fails
    """
    differences = deviations(encoder, waveform)
    tolerance = TOLERANCE[encoder.precision]
    if all(difference < tolerance for difference in differences):  # False for NaN
        return
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    raise InputError(
        f"{encoder.upstream}: on {name}, layer {encoder.layers[worst]} of the {encoder.forward} forward pass in "
        f"{encoder.precision} differs from transformers' by {differences[worst]:.1e} (relative), more than "
        f"{tolerance:.0e}. Nothing was written. Try --precision float32, and report the encoder with what "
        "layerprobe check-encoder prints."
    )


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
