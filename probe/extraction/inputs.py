"""What an encoder is given of each row of a manifest: its audio, or its text."""

from __future__ import annotations

import pandas as pd

from layerprobe.probe.data.audio_hashes import SoundHashes
from layerprobe.probe.data.inputs import SoundSource, Source, WordSource
from layerprobe.probe.encoders.base import Upstream
from layerprobe.probe.exceptions import InputError


def source_for(
    encoder: Upstream, table: pd.DataFrame, hashes: SoundHashes, *, words: str, longest_seconds: float
) -> Source:
    """Where ``encoder`` has its material from.

    Args:
        encoder: which hears or reads
        table: of the manifest
        hashes: what the sounds hold
        words: the column that a text encoder reads
        longest_seconds: a longer sound is refused

    Raises:
        InputError: if the manifest has no such column, or no word in it
    """
    if encoder.reads == "sound":
        return SoundSource(hashes, sampling_rate=encoder.sampling_rate, longest_seconds=longest_seconds)
    if words not in table or not (table[words].fillna("").astype(str).str.strip() != "").any():
        raise InputError(
            f"{encoder.upstream} reads words, and the manifest has none in a column {words!r}. Add the transcripts "
            "(layerprobe transcribe makes them), or name their column with --words."
        )
    return WordSource(words)
