"""On real speech and a trained encoder, where these are available: from the command line to the figure."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.command_line import run
from helpers.measured_targets import LIBRISPEECH, WHISPER, write_measured_manifest
from safetensors.torch import load_file

from layerprobe.probe.encoders.loading import load_audio_encoder

pytestmark = pytest.mark.skipif(
    not (LIBRISPEECH.exists() and WHISPER.exists()),
    reason=f"no real speech at {LIBRISPEECH}; name its folder in LAYERPROBE_REAL_DATA",
)


def test_every_tensor_of_the_real_encoder_is_loaded_and_the_decoder_is_not_missed():
    encoder = load_audio_encoder(str(WHISPER))
    saved = {n: t for n, t in load_file(WHISPER / "model.safetensors").items() if "encoder." in n}
    loaded = encoder._encoder.state_dict()
    assert len(saved) == len(loaded)
    for name, tensor in saved.items():
        assert (loaded[name.split("encoder.", 1)[1]] == tensor.float()).all(), name


@pytest.mark.long
def test_real_speech_through_the_real_encoder_to_a_heatmap(tmp_path):
    """The first layers of Whisper carry information about loudness and pitch, the last less about loudness."""
    manifest = write_measured_manifest(tmp_path / "libri.csv", n_utterances=80)
    cache, folder = tmp_path / "whisper.zarr", tmp_path / "runs" / "first"
    for arguments in (
        ("manifest", "validate", manifest),
        ("extract", manifest, "--encoder", WHISPER, "--out", cache),
        ("sweep", cache, manifest, "--out", folder),
        ("heatmap", folder),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    scores = pd.read_parquet(folder / "scores.parquet")
    scores = scores[(scores["fold"] == "pooled") & (scores["metric"] == "ccc_matched") & (scores["probe"] == "ridge")]
    real = scores[scores["control"] == "none"].set_index(["target", "layer"])["value"]
    permuted = scores[scores["control"] == "permuted"].groupby("target")["value"].mean()
    for target in ("pitch", "loudness", "rate"):
        assert real[target].max() > 0.4
        assert permuted[target] < 0.2
    assert real["loudness", "0"] > real["loudness", "4"] + 0.2


@pytest.mark.long
def test_16_bits_move_no_score_of_the_real_encoder_by_half_a_hundredth(tmp_path):
    manifest = write_measured_manifest(tmp_path / "libri.csv", n_utterances=120)
    scores = {}
    for precision in ("float32", "bfloat16"):
        cache, folder = tmp_path / f"{precision}.zarr", tmp_path / precision
        arguments = ("extract", manifest, "--encoder", WHISPER, "--precision", precision, "--out", cache)
        for command in (arguments, ("sweep", cache, manifest, "--out", folder, "--weighted-sum-seeds", 0)):
            result = run(*command)
            assert result.exit_code == 0, result.output
        table = pd.read_parquet(folder / "scores.parquet")
        table = table[(table["fold"] == "pooled") & (table["control"] == "none") & (table["baseline"] == "")]
        scores[precision] = table.set_index(["metric", "target", "layer"])["value"]
    moved = (scores["bfloat16"] - scores["float32"]).abs()
    assert len(moved["ccc_matched"]) == 18  # three targets at six layers
    assert 0 < moved["ccc_matched"].max() < 0.005
    assert 0 < moved["ccc"].max() < 0.005
