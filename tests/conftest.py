"""What tests share: small encoders of the real architectures on disk, and sounds that a decoder decodes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from helpers.voices import voice, write_table

# An encoder takes a GPU where there is one; the tests are of the CPU, on every machine, unless a GPU is asked for.
if "LAYERPROBE_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # whose import takes seconds that most tests can do without


@pytest.fixture(scope="session")
def models() -> dict[str, PreTrainedModel]:
    import torch
    from helpers.speech_models import KINDS, small_model

    with torch.random.fork_rng():
        return {kind: small_model(kind) for kind in KINDS}


@pytest.fixture(scope="session")
def folders(models: dict[str, PreTrainedModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from helpers.speech_models import save_model

    root = tmp_path_factory.mktemp("encoders")
    return {kind: save_model(model, root / kind) for kind, model in models.items()}


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything that a report can show, and its report."""
    from helpers.reported_run import reported_run

    return reported_run(tmp_path_factory.mktemp("reported"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write a voice to a file of that name: ``write_sound("a.flac", 1.5, rate=8000, channels=2)``."""

    def write(
        name: str, seconds: float = 1.0, *, rate: int = 16_000, channels: int = 1, subtype: str | None = None,
        pitch: float = 120.0,
    ) -> Path:  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mono = voice(seconds, rate=rate, pitch=pitch)
        soundfile.write(path, np.stack([mono] * channels, axis=1), rate, subtype=subtype)
        return path

    return write


@pytest.fixture(scope="session")
def ten_voices(tmp_path_factory):
    """A manifest of ten short utterances of ten speakers."""
    from layerprobe.probe.data.read import read_manifest

    folder, table = tmp_path_factory.mktemp("ten-voices"), []
    for i in range(10):
        soundfile.write(folder / f"s{i}.wav", voice(0.3, pitch=80 + 9 * i, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i / 4})
    return read_manifest(write_table(folder, table))


@pytest.fixture
def heeds_interrupts():
    """Processes that a test starts heed SIGINT, also where a shell in the background made this one ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
