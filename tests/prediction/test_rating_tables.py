"""What the command prints of the ratings in its table, and which tables it does not replace."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomli_w
from helpers.command_line import refused, run as command
from helpers.predictors import write_small_predictor
from helpers.voices import voice

from layerprobe.probe.prediction.predict import predict
from layerprobe.probe.predictors.folder import PREDICTOR

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_predictor(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    for pitch in (100, 130, 160, 190):
        soundfile.write(folder / f"{pitch}.wav", voice(1.2, pitch=pitch), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    return folder


def test_ratings_outside_the_scale_are_counted(model: Path, audio: Path, tmp_path: Path) -> None:
    ratings = np.sort(predict(model, audio)["arousal"].dropna())
    shutil.copytree(model, tmp_path / "m")
    plan = tomllib.loads((model / PREDICTOR).read_text())
    for target in plan["targets"]:
        target["lowest"], target["highest"] = -1e6, 1e6
    plan["targets"][0]["highest"] = float(ratings[:2].mean())
    (tmp_path / "m" / PREDICTOR).write_text(tomli_w.dumps(plan))
    result = command("predict", tmp_path / "m", audio, "--out", tmp_path / "r.csv")
    assert len(ratings) == 4
    assert "arousal: 3 of 4 recordings outside the scale, -1e+06 to " in result.stdout
    assert result.stdout.count("outside the scale") == 1


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_ratings_of_windows_and_of_recordings_do_not_replace_each_other(
    model: Path, audio: Path, tmp_path: Path, ending: str
) -> None:
    trace, whole = (tmp_path / f"{name}.{ending}" for name in ("trace", "whole"))
    commands = {trace: ("--window", 0.5, "--out", trace), whole: ("--out", whole)}
    for options in (*commands.values(), *commands.values()):  # each replaces its own
        assert command("predict", model, audio / "100.wav", *options).exit_code == 0
    before = {path: path.read_bytes() for path in commands}
    assert "holds ratings of windows, which ratings of whole recordings would overwrite" in " ".join(
        refused("predict", model, audio / "100.wav", "--out", trace).split()
    )
    assert "holds ratings of whole recordings, which ratings of windows would overwrite" in " ".join(
        refused("predict", model, audio / "100.wav", "--window", 0.5, "--out", whole).split()
    )
    assert {path: path.read_bytes() for path in commands} == before
    trace.write_bytes(b"no table")
    assert command("predict", model, audio / "100.wav", "--out", trace).exit_code == 0
