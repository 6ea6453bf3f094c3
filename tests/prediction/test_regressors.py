"""Trained regressors rate recordings through the same commands, with transcripts where they read text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.asr_models import save_ctc, save_whisper
from helpers.command_line import run as command
from helpers.regressors import write_trained
from helpers.text_models import save_text_model
from helpers.voices import voice

from layerprobe.probe.data.asr import load_recogniser
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.prediction.predict import predict, run_prediction
from layerprobe.probe.prediction.settings import PredictionOptions
from layerprobe.probe.regressor.model import Utterance
from layerprobe.probe.regressor.saving import load_regressors, read_regressor

RATE = 16_000
RATED = ["arousal", "arousal_low", "arousal_high", "valence", "valence_low", "valence_high"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regressors")
    for k, rate in enumerate((16_000, 44_100, 22_050)):
        soundfile.write(folder / f"{k}.wav", voice(0.6 + 0.2 * k, rate=rate, pitch=100 + 30 * k), rate)
    save_ctc(folder / "ctc")
    save_text_model("bert", folder / "text")
    return folder


@pytest.fixture(scope="module")
def both(folder: Path, folders: dict[str, Path]) -> Path:
    return write_trained(folder / "both", audio=folders["hubert"], text=folder / "text")


def expected(run: Path, waveform: np.ndarray | None, text: str) -> list[float]:
    """Mean over the seeds of what each regressor predicts for one utterance, with the intervals."""
    found = []
    for regressor in load_regressors(read_regressor(run)):
        audio = None if regressor.audio is None or waveform is None else regressor.audio.prepare(waveform)
        with torch.inference_mode():
            one = Utterance(audio, None if regressor.text is None else regressor.text.prepare(text))
            found.append(regressor.scale(regressor([one]))[0].numpy())
    a, v = np.mean(found, axis=0).tolist()
    return [a, a - 1.0, a + 1.0, v, v - 0.5, v + 0.5]


def test_a_regressor_of_audio_rates_files_whole_and_in_windows(folder: Path, folders: dict[str, Path]) -> None:
    run = write_trained(folder / "audio", audio=folders["hubert"])
    files = [folder / f"{k}.wav" for k in range(3)]
    found = predict(run, files)
    assert list(found.columns) == ["utterance_id", "path", "duration", *RATED, "reason"]
    waveforms = [read_audio_file(file, sampling_rate=RATE) for file in files]
    np.testing.assert_allclose(found[RATED], [expected(run, w, "") for w in waveforms], atol=1e-5)
    pd.testing.assert_frame_equal(
        found.iloc[[1]].reset_index(drop=True), predict(run, files[1]), check_exact=True, check_dtype=False
    )
    windows = predict(run, files[2], window=0.5, hop=0.25)
    parts = [expected(run, waveforms[2][k : k + 8000], "") for k in (0, 4000, 8000)]
    np.testing.assert_allclose(windows[RATED], parts, atol=1e-5)


def test_transcripts_are_those_of_the_table_or_of_the_recogniser(folder: Path, both: Path, tmp_path: Path) -> None:
    waveform = read_audio_file(folder / "0.wav", sampling_rate=RATE)
    spoken_text = load_recogniser(str(folder / "ctc"))(waveform)
    assert spoken_text
    table = pd.DataFrame({"utterance_id": ["a", "b"], "path": [str(folder / "0.wav")] * 2})
    stated = predict(both, table.assign(transcript=["the letter", " "]))
    np.testing.assert_allclose(
        stated[RATED], [expected(both, waveform, "the letter"), expected(both, waveform, "")], atol=1e-5
    )
    result = command(
        "predict", both, folder / "0.wav", tmp_path / "x.wav", "--asr", folder / "ctc", "--out", tmp_path / "r.csv"
    )
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "r.csv", keep_default_na=False, na_values={name: "" for name in RATED})
    np.testing.assert_allclose(found[RATED].iloc[0], expected(both, waveform, spoken_text), atol=1e-5)
    assert found["reason"].tolist() == ["", "no such file [LP200]"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_windows_are_transcribed_each(folder: Path, both: Path) -> None:
    recogniser = load_recogniser(str(folder / "ctc"))
    parts = [read_audio_file(folder / "0.wav", sampling_rate=RATE)[k : k + 6400] for k in (0, 3200)]
    found = predict(both, folder / "0.wav", window=0.4, hop=0.2, asr=str(folder / "ctc"))
    np.testing.assert_allclose(found[RATED], [expected(both, p, recogniser(p)) for p in parts], atol=1e-5)


def test_windows_that_were_transcribed_in_another_language_are_not_resumed(
    folder: Path, both: Path, tmp_path: Path
) -> None:
    several = str(save_whisper(tmp_path / "several", languages=("en", "de")))

    def n_resumed(language: str) -> int:
        options = PredictionOptions(window=0.4, asr=several, language=language)
        saved = tmp_path / "saved.jsonl"
        return run_prediction(both, folder / "0.wav", options, device="cpu", resume_file=saved).n_resumed

    assert [n_resumed(language) for language in ("de", "de", "en")] == [0, 2, 0]


def test_a_regressor_of_text_alone_reads_no_audio_but_the_recognisers(folder: Path) -> None:
    run = write_trained(folder / "only-text", text=folder / "text", seeds=1)
    table = pd.DataFrame({"utterance_id": ["a"], "path": ["nowhere.wav"], "transcript": ["the letter"]})
    found = predict(run, table)
    np.testing.assert_allclose(found[RATED].iloc[0], expected(run, None, "the letter"), atol=1e-5)
    assert np.isnan(found["duration"][0])
    spoken = predict(run, folder / "1.wav", asr=str(folder / "ctc"))
    text = load_recogniser(str(folder / "ctc"))(read_audio_file(folder / "1.wav", sampling_rate=RATE))
    np.testing.assert_allclose(spoken[RATED].iloc[0], expected(run, None, text), atol=1e-5)


def test_a_model_that_reads_text_asks_for_it(folder: Path, both: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 1 recordings have no column 'transcript'\. Give --asr RECOGNISER"):
        predict(both, folder / "0.wav")
    table = pd.DataFrame({"utterance_id": ["a"], "path": [str(folder / "0.wav")], "transcript": ["the letter"]})
    with pytest.raises(InputError, match="does not state what is in a window"):
        predict(both, table, window=0.5)
