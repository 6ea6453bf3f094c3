"""A predictor computes what its whole encoder and its heads do, and a damaged one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soxr
from helpers.predictors import LAYERS, write_small_predictor
from helpers.speech_models import KINDS, load_exact

from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.exceptions import InputError, InvalidAudioError
from layerprobe.probe.forward.pooling import pool_layers
from layerprobe.probe.predictors.folder import HEADS, PREDICTOR, read_predictor
from layerprobe.probe.predictors.predictor import load_predictor


@pytest.mark.parametrize("n_blocks", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ratings_are_those_of_the_whole_encoder(tmp_path: Path, kind: str, n_blocks: int) -> None:
    predictor = load_predictor(write_small_predictor(tmp_path, kind=kind, n_blocks=n_blocks))
    whole = load_exact(tmp_path / "whole")
    waveform = example_waveform(0.7, sampling_rate=16_000)
    embeddings = pool_layers(whole.hidden_states(waveform), poolings=("mean", "std")).numpy().reshape(-1, 64)
    saved = read_predictor(tmp_path / "predictor")
    for head in saved.heads:
        expected = sum(
            embeddings[whole.layers.index(k)] @ c for k, c in zip(head.layers, head.coefficients, strict=True)
        )
        found = predictor(waveform, 16_000)[head.target]
        assert found.value == pytest.approx(float(expected) + 4.0, abs=2e-6)
        assert (found.low, found.high) == (pytest.approx(found.value - 1.5), pytest.approx(found.value + 1.5))
    assert len(predictor.encoder.blocks) == n_blocks


def test_a_dropped_block_is_not_in_the_folder(tmp_path: Path) -> None:
    sizes = [
        (write_small_predictor(tmp_path / str(n), n_blocks=n) / "encoder" / "model.safetensors").stat().st_size
        for n in (2, 3)
    ]
    assert sizes[1] - sizes[0] > 4 * (4 * 32 * 32 + 2 * 32 * 64)  # bytes of the matrices of a block


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_predictor(tmp_path_factory.mktemp("small"))


def test_channels_and_sampling_rates_are_read_as_extraction_does(folder: Path) -> None:
    predictor = load_predictor(folder)
    one = example_waveform(1.0, sampling_rate=44_100)
    stereo = np.stack([one + 0.01, one - 0.01], axis=1)
    mean = soxr.resample(stereo.mean(axis=1), 44_100, 16_000, quality="HQ")
    found, expected = predictor(stereo, 44_100), predictor(mean.astype(np.float32), 16_000)
    assert [r.value for r in found.values()] == pytest.approx([r.value for r in expected.values()], abs=1e-5)
    assert tuple(found) == predictor.targets == tuple(LAYERS)


@pytest.mark.parametrize("precision", ["float16", "tf32"])
def test_a_precision_of_gpus_is_float32_on_the_cpu(folder: Path, tmp_path: Path, precision: str) -> None:
    shutil.copytree(folder, tmp_path / "p")
    text = (folder / PREDICTOR).read_text()
    (tmp_path / "p" / PREDICTOR).write_text(text.replace('precision = "float32"', f'precision = "{precision}"'))
    assert load_predictor(tmp_path / "p", device="cpu").encoder.precision == "float32"


@pytest.mark.parametrize(
    ("waveform", "code"),
    [
        (np.zeros(16_000), "LP232"),
        (np.full(16_000, np.nan), "LP230"),
        (example_waveform(0.02, sampling_rate=16_000), "LP909"),
    ],
    ids=["silent", "not finite", "too short"],
)
def test_what_is_no_speech_is_refused(folder: Path, waveform: np.ndarray, code: str) -> None:
    with pytest.raises(InvalidAudioError) as caught:
        load_predictor(folder)(waveform, 16_000)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        (PREDICTOR, None, "LP906"),
        (PREDICTOR, b"format_version = ", "LP907"),
        (PREDICTOR, b"format_version = 9", "LP908"),
        (PREDICTOR, b"format_version = 1", "LP907"),
        (HEADS, None, "LP907"),
        (HEADS, b"cut", "LP907"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path, file: str, content: bytes | None, code: str) -> None:
    for name in (PREDICTOR, HEADS):
        if name != file:
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_predictor(tmp_path)
    assert caught.value.code == code
