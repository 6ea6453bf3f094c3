"""Fixtures of all tests: small encoders of the real architectures on disk, and audio files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Read when numpy and torch are imported, here and in each process that a test starts: one thread, unless code asks for
# more, and threads that wait sleep. Those of another process wait for the core, which a spinning one would hold.
os.environ.update(
    {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    | {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}
)
# An encoder takes a GPU where there is one; the tests are of the CPU, on every machine, unless a GPU is requested.
if "LAYERPROBE_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import pytest
import soundfile
from helpers.voices import voice, write_table

if TYPE_CHECKING:
    from helpers.fork_server import ForkServer
    from transformers import PreTrainedModel  # whose import takes seconds that most tests can do without

# What takes longest begins first, so that at the end no process waits for another's last file.
LONG_FILES = (
    "end_to_end/test_gallery.py",
    "end_to_end/test_demo.py",
    "end_to_end/test_object_store.py",
    "sweep/test_probes.py",
    "end_to_end/test_pages.py",
    "regressor/test_train.py",
    "end_to_end/test_faults.py",
    "end_to_end/test_killed.py",
    "end_to_end/test_dask.py",
    "regressor/test_onnx.py",
    "cli/test_commands.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONG_FILES)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: ranks.get(os.path.relpath(item.path, tests), len(ranks)))


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
    """A run folder with everything that a report can show, and its report; one for all of xdist's processes."""
    from filelock import FileLock
    from helpers.reported_run import reported_run

    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(root / "reported.lock"):
        if not (root / "reported" / "run" / "report.html").exists():
            (root / "reported").mkdir()
            reported_run(root / "reported")
    return root / "reported" / "run"


@pytest.fixture(scope="session")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with bins of time."""
    from helpers.timed_run import timed_run

    return timed_run(tmp_path_factory.mktemp("timed"))


@pytest.fixture(scope="session")
def without_concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with scores of layers without concepts."""
    from helpers.erased_run import erased_run

    return erased_run(tmp_path_factory.mktemp("erased"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_audio(tmp_path: Path) -> Callable[..., Path]:
    """Write a voice to a file of that name: ``write_audio("a.flac", 1.5, rate=8000, channels=2)``."""

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
    from layerprobe.probe.data.manifest.read import read_manifest

    folder, table = tmp_path_factory.mktemp("ten-voices"), []
    for i in range(10):
        soundfile.write(folder / f"s{i}.wav", voice(0.3, pitch=80 + 9 * i, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i / 4})
    return read_manifest(write_table(folder, table))


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Starts processes that have imported torch, transformers and layerprobe already."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    from helpers.fork_server import ForkServer

    with ForkServer() as server:
        yield server


@pytest.fixture
def heeds_interrupts():
    """Processes that a test starts heed SIGINT, also where a shell in the background made this one ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
