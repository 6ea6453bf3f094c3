"""A predictor's file of ONNX gives its ratings, in another runtime and for recordings of any length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.measured_targets import LIBRISPEECH
from helpers.predictors import LAYERS, write_small_predictor
from helpers.speech_models import KINDS
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor

from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward import pooling
from layerprobe.probe.predictors import graph, onnx as export
from layerprobe.probe.predictors.folder import read_predictor, write_predictor
from layerprobe.probe.predictors.front_ends import FilterBanks, LogMelWindows, front_end
from layerprobe.probe.predictors.heads import Head
from layerprobe.probe.predictors.predictor import load_predictor

RATE = 16_000
SPEECH = sorted(LIBRISPEECH.rglob("*.flac"))[::100]
needs_speech = pytest.mark.skipif(not SPEECH, reason="LAYERPROBE_REAL_DATA names no folder with librispeech_mini")


def run(path: Path, waveform: np.ndarray) -> list[np.ndarray]:
    """The outputs of a file, as anyone runs it."""
    return onnxruntime.InferenceSession(str(path)).run(None, {"waveform": waveform[None]})


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_gives_the_ratings_of_every_architecture(tmp_path: Path, kind: str) -> None:
    folder = write_small_predictor(tmp_path, kind=kind)
    exported = export.export_predictor(folder, tmp_path / "avd.onnx")
    assert exported.float32.largest_difference < export.TOLERANCE
    predictor = load_predictor(folder, device="cpu", precision="float32")
    assert predictor.encoder.is_reference or predictor.encoder.forward == "native"
    seconds = [0.05, 0.37, 4.4, *([31.0] if kind == "whisper" else [])]  # none of which was traced or is checked there
    recordings = [example_waveform(s, sampling_rate=RATE) for s in seconds]
    recordings += [read_audio_file(path, sampling_rate=RATE) for path in SPEECH[:2]]
    for waveform in recordings:
        ratings, intervals, embeddings = run(exported.float32.path, waveform)
        embedded = predictor.embed(waveform)
        expected = predictor.rate(embedded)
        assert embeddings[0] == pytest.approx(np.stack(list(embedded.values())), abs=2e-4)
        assert ratings[0] == pytest.approx([r.value for r in expected.values()], abs=1e-4 * 6 / 10)
        assert intervals[0] == pytest.approx(np.array([r[1:] for r in expected.values()]), abs=1e-4)


def test_every_pooling_is_that_of_a_cache(tmp_path: Path) -> None:
    assert graph.POOLINGS.keys() == pooling.POOLINGS.keys()
    frames = torch.from_numpy(np.random.default_rng(3).normal(2.0, 1.0, size=(11, 5)).astype(np.float32))
    for name, pool in graph.POOLINGS.items():
        for n in (1, 2, 3, 11):
            expected = pooling.POOLINGS[name](frames[:n])
            torch.testing.assert_close(pool(frames[:n]), expected, atol=2e-6, rtol=0)


@pytest.mark.long
def test_every_pooling_is_exported(tmp_path: Path) -> None:
    folder, rng = write_small_predictor(tmp_path), np.random.default_rng(1)
    saved = read_predictor(folder)
    names = tuple(pooling.POOLINGS)
    heads = tuple(Head(t, ls, rng.normal(size=(len(ls), 32 * len(names))) / 8, 1.0) for t, ls in LAYERS.items())
    plan = {**vars(saved.plan), "poolings": names}
    write_predictor(folder, type(saved.plan)(**plan), heads, scales=saved.scales)
    exported = export.export_predictor(folder, tmp_path / "avd.onnx")
    for seconds in (0.025, 0.045, 1.37):
        waveform = example_waveform(seconds, sampling_rate=RATE)
        ratings, intervals, _ = run(exported.float32.path, waveform)
        expected = [r.value for r in load_predictor(folder)(waveform, RATE).values()]
        assert ratings[0] == pytest.approx(expected, abs=1e-4)
        assert np.isinf(intervals).all()  # none was calibrated


@needs_speech
def test_features_are_those_of_the_extractors() -> None:
    for path in SPEECH:
        waveform = read_audio_file(path, sampling_rate=RATE)
        batch = torch.from_numpy(waveform)[None]
        whisper, filter_banks = WhisperFeatureExtractor(), SeamlessM4TFeatureExtractor()
        expected = whisper(waveform, sampling_rate=RATE, return_tensors="pt").input_features
        torch.testing.assert_close(LogMelWindows(whisper)(batch)["input_features"], expected, atol=1e-4, rtol=0)
        given = filter_banks(waveform, sampling_rate=RATE, return_tensors="pt")
        whole = given.input_features[:, : int(given.attention_mask.sum())]
        torch.testing.assert_close(FilterBanks(filter_banks)(batch)["input_features"], whole, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> export.ExportedPredictor:
    folder = tmp_path_factory.mktemp("exported")
    return export.export_predictor(write_small_predictor(folder, kind="wavlm"), folder / "avd.onnx", int8=True)


@pytest.mark.long
def test_a_file_states_what_it_takes_and_gives(exported: export.ExportedPredictor) -> None:
    described = json.loads(exported.description.read_text(encoding="utf-8"))
    for one in exported.files:
        model = onnx.load(one.path)
        properties = {p.key: p.value for p in model.metadata_props}
        assert json.loads(properties["targets"]) == described["targets"] == list(LAYERS)
        assert json.loads(properties["scales"]) == described["scales"] == {name: [1.0, 7.0] for name in LAYERS}
        assert (float(properties["level"]), int(properties["sampling_rate"])) == (0.9, RATE)
        assert properties["fingerprint"] == described["fingerprint"] == exported.saved.plan.fingerprint
        assert json.loads(properties["layers"]) == described["layers"] == ["0", "1", "2"]
        assert "beyond 60 s" in properties["limits"]
        assert "(1, 3, 64) of the layers" in properties["outputs"]
        assert run(one.path, example_waveform(1.0, sampling_rate=RATE))[2].shape == (1, 3, 64)
        assert [v.name for v in model.graph.input] == ["waveform"]
        (file,) = [f for f in described["files"].values() if f["name"] == one.path.name]
        assert file["bytes"] == one.path.stat().st_size == one.n_bytes


@pytest.mark.long
def test_matrix_products_alone_are_in_8_bits(exported: export.ExportedPredictor) -> None:
    before, after = (onnx.load(one.path).graph for one in exported.files)
    weights = {one.name for one in before.initializer}
    products = [n for n in before.node if n.op_type == "MatMul" and weights & set(n.input)]
    integers = [n for n in after.node if n.op_type == "MatMulInteger"]
    assert len(integers) == len(products) + sum(n.op_type == "Gemm" for n in before.node) == 1 + 2 * 6 + 2
    kept = {one.name: one for one in after.initializer}
    for node in after.node:
        if node.op_type == "Conv":
            assert kept[node.input[1]].data_type == onnx.TensorProto.FLOAT
    for node in integers:
        values = onnx.numpy_helper.to_array(kept[node.input[1]])
        assert values.dtype == np.int8
        assert np.abs(values).max() <= 64  # two products of 7 and 8 bits fit into 16
    assert exported.int8 is not None
    assert 1e-6 < exported.int8.largest_difference < 0.02


@pytest.mark.long
def test_a_file_that_gives_other_ratings_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_write", spoilt(export._write))
    with pytest.raises(InputError, match=r"differ by 0\.1\d* of the width of their scale") as caught:
        export.export_predictor(write_small_predictor(tmp_path), tmp_path / "avd.onnx")
    assert caught.value.code == "LP743"
    assert list(tmp_path.glob("*.onnx*")) == []


def test_a_rating_that_is_no_number_is_a_difference() -> None:
    assert export.largest_difference(np.array([1.0, 2.5]), [1.0, 2.0], [6.0, 10.0]) == pytest.approx(0.05)
    assert export.largest_difference(np.array([1.0, np.nan]), [1.0, 2.0], [6.0, 10.0]) == np.inf


def test_times_are_of_seconds_at_the_encoders_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, taken = [], iter([90.0, 4.0, 1.0, 2.0, 30.0, 3.0])  # of the first, which does not count, and five more
    clock = iter([at for k, seconds in enumerate(taken) for at in (100 * k, 100 * k + seconds)])
    monkeypatch.setattr(export.time, "perf_counter", lambda: next(clock))
    assert export.real_time_factor(lambda w: lengths.append(len(w)), sampling_rate=24_000) == 3 / 5
    assert set(lengths) == {5 * 24_000}


def spoilt(write):
    """The function that writes a file, of another head than the predictor's."""

    def with_another_intercept(saved, out):
        heads = [Head(h.target, h.layers, h.coefficients, h.intercept + 0.6) for h in saved.heads]
        return write(type(saved)(saved.folder, saved.plan, tuple(heads), saved.scales, []), out)

    return with_another_intercept


@pytest.mark.long
def test_weights_beyond_the_largest_file_are_next_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST_FILE", 1000)
    exported = export.export_predictor(write_small_predictor(tmp_path), tmp_path / "avd.onnx", int8=True)
    described = json.loads(exported.description.read_text(encoding="utf-8"))
    assert described["weights"] == "avd.onnx.data"
    assert sorted(p.name for p in tmp_path.glob("avd*")) == [
        "avd.int8.onnx", "avd.int8.onnx.data", "avd.onnx", "avd.onnx.data", "avd.onnx.json",
    ]  # fmt: skip
    assert exported.float32.n_bytes == sum((tmp_path / name).stat().st_size for name in ("avd.onnx", "avd.onnx.data"))


def test_what_has_no_onnx_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"does not end in \.onnx\. Name a file such as .*models\.onnx\. \[LP931\]$"):
        export.export_predictor(write_small_predictor(tmp_path), tmp_path / "models")
    with pytest.raises(InputError, match="has the feature extractor WhisperFeatureExtractor with dither, which can't"):
        front_end(WhisperFeatureExtractor(dither=0.1), upstream="a")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"ONNX files need onnxscript\. Install it") as caught:
        export.export_predictor(tmp_path / "predictor", tmp_path / "avd.onnx")
    assert caught.value.code == "LP820"
