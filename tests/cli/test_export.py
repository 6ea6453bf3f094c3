"""``export`` of predictors: the options that apply, and what is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.command_line import refused, run
from helpers.predictors import write_small_predictor


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    folder, out = write_small_predictor(tmp_path), tmp_path / "avd.onnx"
    message = refused("export", folder, "--out", out, "--seed", 1)
    assert "is a predictor, and --seed is of trained regressors alone. Leave it out." in message
    message = refused("export", tmp_path, "--out", out, "--int8", "--run", tmp_path)
    assert "holds no predictor, and only a predictor takes --int8 and --run." in message
    message = refused("export", folder, "--out", out, "--run", tmp_path)
    assert "without --int8 it does not apply. Add --int8." in message
    assert not out.exists()


@pytest.mark.long
def test_both_files_and_what_was_not_measured_are_printed(tmp_path: Path) -> None:
    out = tmp_path / "onnx" / "avd.onnx"
    printed = run("export", write_small_predictor(tmp_path), "--out", out, "--int8").stdout.splitlines()
    figures = r"\d\.\d MB, real-time factor \d\.\d{3} on one thread; ratings within \S+ of the width of their scale"
    for name, line in zip(("avd.onnx", "avd.int8.onnx"), printed, strict=False):
        assert re.match(rf"{out.parent / name}: {figures} of the predictor's$", line)
        assert (out.parent / name).stat().st_size > 1e5
    assert printed[2:] == [
        f"{out}.json",
        "  The loss of CCC by 8 bits was not measured: no run was named, on whose recordings it is measured.",
    ]
