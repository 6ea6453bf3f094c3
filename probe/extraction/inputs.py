"""What an encoder is given of each row of a manifest: its audio, or its text."""

from __future__ import annotations

import pandas as pd

from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import AudioReader, InputReader, TextReader
from layerprobe.probe.encoders.base import Upstream
from layerprobe.probe.exceptions import InputError


def make_input_reader(
    encoder: Upstream, table: pd.DataFrame, hashes: AudioHashes, *, text_column: str, max_duration: float
) -> InputReader:
    """Where ``encoder`` has its material from.

    Args:
        encoder: which hears or reads
        table: of the manifest
        hashes: what the sounds hold
        text_column: the column that a text encoder reads
        max_duration: a longer sound is refused

    Raises:
        InputError: if the manifest has no such column, or no word in it
    """
    if encoder.reads == "audio":
        return AudioReader(hashes, sampling_rate=encoder.sampling_rate, max_duration=max_duration)
    if text_column not in table or not (table[text_column].fillna("").astype(str).str.strip() != "").any():
        raise InputError(
            f"{encoder.upstream} reads words, and the manifest has none in a column {text_column!r}. Add the transcripts "
            "(layerprobe transcribe makes them), or name their column with --text-column."
        )
    return TextReader(text_column)
