"""Recordings are rated as the model rates them: whole or in windows, alone or with others, at once or resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.command_line import refused, run as command
from helpers.documented_formats import differences, wrong_values
from helpers.media_files import write_media
from helpers.messages import Messages
from helpers.predictors import LAYERS, write_small_predictor
from helpers.voices import voice

from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.prediction.predict import predict, run_prediction
from layerprobe.probe.prediction.saved_ratings import SavedRatings
from layerprobe.probe.prediction.settings import PredictionOptions
from layerprobe.probe.predictors.predictor import Predictor, load_predictor

RATE = 16_000
TARGETS = list(LAYERS)
RATED = [name for target in TARGETS for name in (target, f"{target}_low", f"{target}_high")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_predictor(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return load_predictor(model)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings in several formats, two of which can't be used."""
    folder = tmp_path_factory.mktemp("audio")
    (folder / "more" / "deep").mkdir(parents=True)
    soundfile.write(folder / "talk.wav", voice(2.0, pitch=100), RATE)
    stereo = np.stack([voice(1.5, rate=44_100), 0.5 * voice(1.5, rate=44_100)], axis=1)
    soundfile.write(folder / "more" / "b.flac", stereo, 44_100)
    soundfile.write(folder / "more" / "c.mp3", voice(1.2, rate=22_050, pitch=150), 22_050)
    soundfile.write(folder / "more" / "deep" / "d.ogg", voice(1.1, pitch=180), RATE)
    write_media(folder / "more", "aac.m4a", voice(1.3).astype(np.float32))
    soundfile.write(folder / "more" / "silent.wav", np.zeros(RATE), RATE)
    (folder / "more" / "broken.wav").write_bytes(b"")
    (folder / "more" / "notes.txt").write_text("no audio")
    (folder / "more" / "._b.flac").write_bytes(b"left by a copy")
    return folder


def expected(predictor: Predictor, path: Path, *, start: float = 0.0, end: float | None = None) -> list[float]:
    """Ratings of a part of the waveform that is read whole, with their intervals."""
    waveform = read_audio_file(path, sampling_rate=RATE)
    part = waveform[round(start * RATE) : None if end is None else round(end * RATE)]
    return [value for rating in predictor(part, RATE).values() for value in rating]


def test_files_folders_and_tables_are_rated_and_named(model: Path, predictor: Predictor, audio: Path) -> None:
    table = audio / "table.csv"
    rows = [("u1", "talk.wav", 0.5, 1.5), ("u2", "nowhere.wav", "", "")]
    pd.DataFrame(rows, columns=["utterance_id", "path", "start", "end"]).to_csv(table, index=False)
    found = predict(model, [audio / "talk.wav", audio / "more", table, audio / "typo.wav"])
    table.unlink()
    assert list(found.columns) == ["utterance_id", "path", "duration", *RATED, "reason"]
    names = ["talk.wav", "aac.m4a", "b.flac", "broken.wav", "c.mp3", "deep/d.ogg", "silent.wav", "u1", "u2", "typo.wav"]
    assert found["utterance_id"].tolist() == names
    by_name = found.set_index("utterance_id")
    for name in ("talk.wav", "aac.m4a", "b.flac", "c.mp3", "deep/d.ogg"):
        path = Path(by_name.loc[name, "path"])
        assert path == (audio if name == "talk.wav" else audio / "more") / name
        np.testing.assert_allclose(by_name.loc[name, RATED].astype(float), expected(predictor, path), atol=1e-6)
        assert by_name.loc[name, "duration"] == pytest.approx(len(read_audio_file(path, sampling_rate=RATE)) / RATE)
        assert by_name.loc[name, "reason"] == ""
    span = expected(predictor, audio / "talk.wav", start=0.5, end=1.5)
    np.testing.assert_allclose(by_name.loc["u1", RATED].astype(float), span, atol=1e-6)
    reasons = by_name["reason"][by_name["reason"] != ""]
    assert reasons.str[-8:].to_dict() == {
        "broken.wav": " [LP202]", "silent.wav": " [LP232]", "u2": " [LP200]", "typo.wav": " [LP200]",
    }  # fmt: skip
    assert by_name.loc[reasons.index, RATED].isna().all(axis=None)


@pytest.mark.parametrize("window", [None, 0.5])
def test_no_rating_depends_on_what_else_is_rated(model: Path, audio: Path, window: float | None) -> None:
    files = [audio / "talk.wav", *sorted((audio / "more").glob("[abc]*.[fm]*"))]
    assert len(files) == 4
    options = {"window": window, "hop": None if window is None else 0.2}
    together = predict(model, files, **options, jobs=4)
    again = predict(model, files[::-1], **options, jobs=1)
    alone = pd.concat([predict(model, file, **options) for file in files], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
    by = ["utterance_id"] if window is None else ["utterance_id", "start"]
    pd.testing.assert_frame_equal(
        together.sort_values(by, ignore_index=True), again.sort_values(by, ignore_index=True), check_exact=True
    )


@pytest.mark.parametrize("name", ["talk.wav", "more/b.flac", "more/c.mp3", "more/aac.m4a"])
def test_windows_are_rated_as_parts_of_the_whole_waveform(
    model: Path, predictor: Predictor, audio: Path, name: str
) -> None:
    found = predict(model, audio / name, window=0.5, hop=0.3)
    assert list(found.columns) == ["utterance_id", "start", "end", *RATED, "reason"]
    duration = len(read_audio_file(audio / name, sampling_rate=RATE)) / RATE
    starts = np.arange(np.ceil((duration - 0.5) / 0.3 - 1e-6) + 1) * 0.3
    np.testing.assert_allclose(found["start"], starts)
    np.testing.assert_allclose(found["end"], np.minimum(starts + 0.5, duration), atol=1e-4)
    assert duration - 0.5 <= found["start"].iloc[-1] < duration
    for row in found.to_dict("records"):
        part = expected(predictor, audio / name, start=row["start"], end=row["end"])
        np.testing.assert_allclose([row[name] for name in RATED], part, atol=1e-6)


def test_windows_that_can_not_be_rated_have_a_reason(model: Path, predictor: Predictor, tmp_path: Path) -> None:
    speech, rate = voice(1.0, rate=44_100), 44_100
    soundfile.write(tmp_path / "a.wav", np.concatenate([speech, np.zeros(2 * rate), speech[: rate // 100]]), rate)
    soundfile.write(tmp_path / "short.wav", voice(0.3), RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    found = predict(model, [tmp_path / f"{name}.wav" for name in ("a", "short", "empty")], window=1.0)
    assert found["utterance_id"].tolist() == ["a.wav"] * 4 + ["short.wav", "empty.wav"]
    assert found["reason"].str[-8:].tolist() == ["", " [LP232]", " [LP232]", " [LP909]", "", " [LP202]"]
    assert found["end"].tolist()[:5] == [1.0, 2.0, 3.0, 3.01, 0.3]
    assert found[["start", "end"]].iloc[5].isna().all()
    np.testing.assert_allclose(
        found.loc[4, RATED].astype(float), expected(predictor, tmp_path / "short.wav"), atol=1e-6
    )


def test_times_of_windows_of_a_span_are_those_of_the_file(model: Path, predictor: Predictor, audio: Path) -> None:
    path = audio / "talk.wav"
    table = pd.DataFrame({"utterance_id": ["u"], "path": [str(path)], "start": [0.7], "end": [1.6]})
    found = predict(model, table, window=0.5, hop=0.25)
    assert found["start"].tolist() == [0.7, 0.95, 1.2]
    assert found["end"].tolist() == [1.2, 1.45, 1.6]
    last = expected(predictor, path, start=1.2, end=1.6)
    np.testing.assert_allclose(found.loc[2, RATED].astype(float), last, atol=1e-6)


SCRIPT = """
import os, signal, sys
from layerprobe.cli.app import main
from layerprobe.probe.prediction.saved_ratings import SavedRatings

left = [5]

def add(self, *values, before=SavedRatings.add):
    before(self, *values)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

SavedRatings.add = add
main()
"""


def stopped_prediction(model: Path, audio: Path, folder: Path) -> list[Any]:
    """Arguments of a command that is stopped after five of sixteen windows."""
    return ["predict", model, audio / "talk.wav", "--window", "0.5", "--hop", "0.1", "--out", folder / "r.csv"]


def check_resumed(arguments: list[Any], folder: Path) -> None:
    """Run a stopped command again, and compare its table with that of one that was not stopped."""
    assert not (folder / "r.csv").exists()
    saved = folder / "r.predict-progress.jsonl"
    assert len(saved.read_text().splitlines()) == 6  # a header, and what was rated
    with saved.open("a") as file:
        file.write('{"key": "torn')
    resumed = command(*arguments)
    assert resumed.exit_code == 0, resumed.output
    assert "16 windows of 1 recording rated, 0 without a rating; 5 had been rated before." in resumed.stdout
    assert sorted(p.name for p in folder.iterdir()) == ["r.csv"]
    whole = command(*arguments[:-1], folder / "whole.csv")
    assert whole.exit_code == 0, whole.output
    assert (folder / "r.csv").read_bytes() == (folder / "whole.csv").read_bytes()


@pytest.mark.long
def test_a_killed_prediction_is_resumed(model: Path, audio: Path, tmp_path: Path, forks) -> None:
    arguments = stopped_prediction(model, audio, tmp_path)
    stopped = forks.run(*arguments, code=SCRIPT)
    assert stopped.returncode == -signal.SIGKILL, stopped.stderr
    check_resumed(arguments, tmp_path)


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupted_prediction_is_resumed(
    model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, left = stopped_prediction(model, audio, tmp_path), [5]

    def add(self: SavedRatings, *values: Any, before: Callable[..., None] = SavedRatings.add) -> None:
        before(self, *values)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(SavedRatings, "add", add)
        assert command(*arguments).exit_code == 130
    check_resumed(arguments, tmp_path)


def test_saved_ratings_are_those_of_the_model_the_options_and_the_content(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    path, saved = tmp_path / "a.wav", tmp_path / "saved.jsonl"
    path.write_bytes((audio / "talk.wav").read_bytes())
    soundfile.write(tmp_path / "b.wav", voice(0.5), RATE)
    files, messages = [path, tmp_path / "b.wav"], Messages()

    def resumed(options: PredictionOptions = PredictionOptions()) -> tuple[pd.DataFrame, int]:  # noqa: B008
        found = run_prediction(model, files, options, device="cpu", resume_file=saved, progress=messages)
        return found.table, found.n_resumed

    first, n = resumed()
    assert n == 0
    marked = saved.read_text().replace(f"[[{float(first['arousal'][0])!r},", "[[99.0,")  # so that a reuse is seen
    saved.write_text(marked)
    again, n = resumed()
    assert (n, again["arousal"][0]) == (2, 99.0)
    assert again["duration"].tolist() == first["duration"].tolist()
    path.rename(tmp_path / "moved.wav")
    files[0] = tmp_path / "moved.wav"
    assert resumed()[0]["arousal"][0] == 99.0
    soundfile.write(files[0], voice(2.0, pitch=101), RATE)
    assert resumed()[0]["arousal"][0] not in (99.0, first["arousal"][0])
    assert messages.logged == []
    assert resumed(PredictionOptions(window=1.0))[1] == 0
    assert messages.logged == [f"{saved}: of another model or other options, so nothing of it is used."]
    (model / "predictor.toml").write_text((model / "predictor.toml").read_text() + "\n")
    assert resumed(PredictionOptions(window=1.0))[1] == 0


def test_the_command_writes_tables_and_figures(model: Path, audio: Path, tmp_path: Path) -> None:
    arguments = ("predict", model, audio / "more", "--device", "cpu")
    result = command(*arguments, "--out", tmp_path / "new" / "r.parquet")
    assert result.exit_code == 0, result.output
    assert "4 recordings rated, 2 without a rating." in result.stdout
    assert "  broken.wav: empty: it holds no bytes [LP202]" in result.stdout
    table = pd.read_parquet(tmp_path / "new" / "r.parquet")
    pd.testing.assert_frame_equal(table, predict(model, audio / "more"))
    assert command(*arguments, "--out", tmp_path / "r.json").exit_code == 0
    listed = json.loads((tmp_path / "r.json").read_text())
    assert [row["utterance_id"] for row in listed] == table["utterance_id"].tolist()
    assert listed[0]["arousal"] == pytest.approx(table["arousal"][0], abs=1e-12)
    traced = ("--window", 0.5, "--out", tmp_path / "t.csv", "--figure", tmp_path / "t.png")
    deep = audio / "more" / "deep"
    assert command("predict", model, deep, audio / "talk.wav", "--device", "cpu", *traced).exit_code == 0
    assert {p.name for p in tmp_path.glob("*.png")} == {"t-d.ogg.png", "t-talk.wav.png"}
    one = command("predict", model, audio / "talk.wav", "--device", "cpu", *traced)
    assert one.stdout.splitlines()[-1] == str(tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "options"), [("RATINGS.csv", ()), ("TRACE.csv", ("--window", 0.5))])
def test_the_page_on_formats_describes_the_table(
    model: Path, audio: Path, tmp_path: Path, name: str, options: tuple[object, ...]
) -> None:
    assert command("predict", model, audio / "more", *options, "--out", tmp_path / name).exit_code == 0
    table = pd.read_csv(tmp_path / name, dtype=str, keep_default_na=False)
    table = table.drop(columns=[c for c in table if c.startswith(("valence", "dominance"))])
    table.columns = [c.replace("arousal", "TARGET") for c in table]
    assert differences(name, list(table)) == {"undocumented": [], "missing": []}
    assert wrong_values(name, table) == []


def test_a_command_that_can_rate_nothing_ends_with_an_error(model: Path, audio: Path, tmp_path: Path) -> None:
    error = refused("predict", model, audio / "more" / "silent.wav", tmp_path / "x.wav", "--out", tmp_path / "r.csv")
    assert "none of the 2 utterances could be used" in error
    reasons = pd.read_csv(tmp_path / "r.csv")["reason"]
    assert reasons.str.contains("silent|no such file").all()


def test_what_can_not_be_meant_is_refused_before_anything_is_rated(model: Path, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "scores.csv").touch()
    (tmp_path / "empty").mkdir()
    talk, out = audio / "talk.wav", ("--out", tmp_path / "r.csv")
    copy = tmp_path / "talk.wav"
    copy.write_bytes(talk.read_bytes())
    for arguments, message in (
        ((tmp_path / "sweep", talk, *out), "make a predictor of it first: layerprobe deploy"),
        ((tmp_path / "empty", talk, *out), "has neither predictor.toml nor regressor.json"),
        ((model, talk, copy, *out), "are both named 'talk.wav'"),
        ((model, tmp_path / "empty", *out), "holds no audio file"),
        ((model, talk, "--hop", 1, *out), "Give the length of a window, too"),
        ((model, talk, "--window", 0, *out), "The window is 0 s"),
        ((model, talk, "--window", 1, "--hop", 1e-6, *out), "The hop is 1e-06 s"),
        ((model, talk, "--figure", "a.png", *out), "Give the length of a window, too"),
        ((model, talk, "--window", 1, "--figure", "a.gif", *out), "ends in none of .png, .pdf, .svg"),
        ((model, talk, "--out", "r.xlsx"), "ends in none of .csv, .json, .parquet"),
    ):
        assert message.lower() in " ".join(refused("predict", *arguments).split()).lower()
    assert not (tmp_path / "r.csv").exists()
    table = tmp_path / "my.csv"
    table.write_text("utterance_id,path\nu,talk.wav\n", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to(table)
    for out in (table, tmp_path / "link.csv"):
        assert "which the ratings would overwrite" in " ".join(refused("predict", model, table, "--out", out).split())
    assert table.read_text(encoding="utf-8") == "utterance_id,path\nu,talk.wav\n"
    same = predict(model, [talk, talk])
    assert len(same) == 1
    with pytest.raises(InputError, match="is unknown"):
        predict(model, talk, device="abacus")
