"""Choice of what an encoder reads of each row of a manifest: its audio, or its transcript."""

from __future__ import annotations

import pandas as pd

from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import AudioReader, InputReader, TextReader
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.settings import ExtractionSettings


def make_input_reader(
    encoder: AnyEncoder, table: pd.DataFrame, hashes: AudioHashes, settings: ExtractionSettings
) -> InputReader:
    """Return the reader of an encoder's inputs.

    Args:
        encoder: of audio or text
        table: of the manifest
        hashes: of the audio files
        settings: what is read of a recording, how long it may be, and the column that a text encoder reads

    Raises:
        InputError: if a text encoder's column is missing, or empty in every row
    """
    if encoder.reads == "audio":
        return AudioReader(
            hashes,
            sampling_rate=encoder.sampling_rate,
            max_duration=settings.max_duration,
            reading=settings.reading,
        )
    text_column = settings.text_column
    if text_column not in table or not (table[text_column].fillna("").astype(str).str.strip() != "").any():
        raise InputError(
            "LP434",
            f"{encoder.upstream} reads text, and the manifest has none in a column {text_column!r}. Add transcripts "
            "(layerprobe transcribe makes them), or name their column with --text-column.",
        )
    return TextReader(text_column)
