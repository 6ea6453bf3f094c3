"""Fixtures of extraction: an encoder in float32 and the rows of a small manifest."""

from __future__ import annotations

import pytest
from helpers.speech_models import load_exact


@pytest.fixture
def encoder(folders):
    return load_exact(folders["hubert"])


@pytest.fixture
def corpus(write_audio):
    """Eight valid recordings of different durations and pitches."""
    rows = []
    for i in range(8):
        write_audio(f"s{i}.wav", 0.5 + 0.17 * i, pitch=90 + 10 * i)
        rows.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 4}", "arousal": 1 + i % 5})
    return rows
