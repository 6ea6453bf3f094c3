"""Transcripts as corpora distribute them, and those of real recognisers with random weights."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
import soundfile
from helpers.asr_models import save_ctc, save_whisper
from helpers.command_line import run as command
from helpers.text_models import save_text_model
from helpers.voices import voice, write_table

from layerprobe.probe.data.asr import load_recogniser, transcribe
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.data.transcripts import FoundTranscripts, add_transcripts, read_transcripts
from layerprobe.probe.exceptions import InputError


@pytest.fixture(scope="module")
def recognisers(tmp_path_factory):
    root = tmp_path_factory.mktemp("asr")
    return {"ctc": save_ctc(root / "ctc"), "whisper": save_whisper(root / "whisper")}


@pytest.fixture
def corpus(tmp_path):
    """Twelve speakers; human transcripts of all but the last."""
    rows = []
    for k in range(12):
        soundfile.write(tmp_path / f"u{k:02d}.wav", voice(0.4 + 0.05 * k, pitch=100 + 10 * k), 16_000)
        text = "the letter was kind" if k % 2 else "it was a terrible day"
        row = {"utterance_id": f"u{k:02d}", "path": f"u{k:02d}.wav", "speaker_id": f"s{k}", "arousal": 1 + k % 6}
        rows.append({**row, "transcript": text if k < 11 else ""})
    return write_table(tmp_path, rows)


@pytest.mark.parametrize("kind", ["ctc", "whisper"])
def test_a_recogniser_transcribes_every_utterance_and_its_name_is_the_source(corpus, recognisers, tmp_path, kind):
    recogniser = load_recogniser(str(recognisers[kind]))
    table = read_manifest(corpus).table.drop(columns="transcript")
    done = transcribe(table, recogniser, column="transcript", progress_file=tmp_path / "progress.jsonl")
    assert done.n_encoded == 12
    assert set(done.table["transcript_source"]) == {kind}
    waveform, _ = soundfile.read(table["path"].iloc[3], dtype="float32")
    assert done.table["transcript"].iloc[3] == recogniser(waveform) != ""


def test_long_audio_is_transcribed_to_its_end(recognisers):
    """In chunks of 30 s, each of which adds to the transcript."""
    recogniser = load_recogniser(str(recognisers["ctc"]))
    waveform = voice(75.0)
    whole, first = recogniser(waveform), recogniser(waveform[: 20 * 16_000])
    assert len(whole) > 3 * len(first)
    last = recogniser(waveform[-20 * 16_000 :])
    assert whole.startswith(first[:200])
    assert whole.endswith(last[-200:])


def test_an_interrupted_run_is_resumed_and_a_torn_line_is_transcribed_again(corpus, recognisers, tmp_path):
    table = read_manifest(corpus).table.drop(columns="transcript")
    file, recogniser = tmp_path / "progress.jsonl", load_recogniser(str(recognisers["ctc"]))
    whole = transcribe(table, recogniser, column="transcript", progress_file=file)
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 13
    file.write_text("".join(lines[:6]) + lines[6][:20])
    rest = transcribe(table, recogniser, column="transcript", progress_file=file)
    assert rest.n_encoded == 12 - 5
    pd.testing.assert_frame_equal(rest.table, whole.table)
    assert all(json.loads(line) for line in file.read_text().splitlines())
    intact = tmp_path / "intact.jsonl"
    intact.write_text(file.read_text())
    file.write_text("".join([lines[0], "rubbish\n", *lines[1:]]))
    with pytest.raises(InputError, match="line 2 can't be read"):
        transcribe(table, recogniser, column="transcript", progress_file=file)
    reading = {"audio_channels": "mean", "end_silence": "kept"}
    assert json.loads(lines[0]) == {"format_version": 1, "recogniser": "ctc"} | reading
    with pytest.raises(InputError, match="audio that was read with another --channel or --trim-silence"):
        transcribe(table, recogniser, column="transcript", progress_file=intact, reading=ReadingOptions("first"))
    for foreign in ("[1]\n", "null\n", intact.read_text(encoding="utf-8").splitlines()[0] + '\n{"text": "a"}\n'):
        (tmp_path / "foreign.jsonl").write_text(foreign)
        with pytest.raises(InputError, match=r"foreign\.jsonl holds no transcripts of an interrupted command\."):
            transcribe(table, recogniser, column="transcript", progress_file=tmp_path / "foreign.jsonl")
    file.write_text(json.dumps({"format_version": 2, "recogniser": "ctc"}) + "\n")
    with pytest.raises(InputError, match=r"has format_version 2, not 1\. Delete the file to start anew"):
        transcribe(table, recogniser, column="transcript", progress_file=file)
    file.write_text(json.dumps({"format_version": 1, "recogniser": "another"}) + "\n")
    with pytest.raises(InputError, match="has transcripts of another, not of ctc"):
        transcribe(table, recogniser, column="transcript", progress_file=file)


def test_transcripts_of_another_language_are_not_resumed(corpus, tmp_path):
    several = str(save_whisper(tmp_path / "several", languages=("en", "de")))
    table = read_manifest(corpus).table.drop(columns="transcript").head(2)
    german, file = load_recogniser(several, language="de"), tmp_path / "progress.jsonl"
    assert transcribe(table, german, column="transcript", progress_file=file).n_encoded == 2
    assert transcribe(table, german, column="transcript", progress_file=file).n_encoded == 0
    for language, name in (("en", "several in en"), (None, "several")):
        with pytest.raises(InputError, match=rf"has transcripts of several in de, not of {name}\. Delete it"):
            transcribe(table, load_recogniser(several, language=language), column="transcript", progress_file=file)


def test_human_transcripts_are_kept_and_unusable_audio_is_named(corpus, recognisers, tmp_path):
    table = read_manifest(corpus).table
    (tmp_path / "u11.wav").write_bytes(b"no audio")
    recogniser = load_recogniser(str(recognisers["ctc"]))
    done = transcribe(table, recogniser, column="transcript", progress_file=tmp_path / "n.jsonl")
    assert done.n_encoded == 0
    assert done.quarantine["utterance_id"].tolist() == ["u11"]
    assert done.table["transcript"].tolist() == table["transcript"].tolist()
    assert done.table["transcript_source"].tolist() == ["manifest"] * 11 + [""]


def test_iemocaps_lines_are_found_by_the_utterances_name(tmp_path):
    folder = tmp_path / "Session1" / "dialog" / "transcriptions"
    folder.mkdir(parents=True)
    lines = (
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nSes01F_impro01_MXX1 [009.0-010.0]: Hm.\nM: [LAUGHTER]\n"
    )
    (folder / "Ses01F_impro01.txt").write_bytes(lines.replace("Hm", "Caf\xe9").encode("latin-1"))
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07Ses01F_impro01_F000 [0-1]: wrong")
    found = read_transcripts(tmp_path)
    assert found == FoundTranscripts(
        {"Ses01F_impro01_F000": "Excuse me.", "Ses01F_impro01_MXX1": "Café."}, "IEMOCAP transcriptions"
    )
    table = pd.DataFrame({"utterance_id": ["Ses01F_impro01_F000", "b"], "path": ["x.wav", "y.wav"]})
    filled = add_transcripts(table, found)
    assert filled["transcript"].tolist() == ["Excuse me.", ""]
    assert filled["transcript_source"].tolist() == ["IEMOCAP transcriptions", ""]


def test_files_of_msp_podcast_are_found_by_the_audio_files_name(tmp_path):
    folder = tmp_path / "Transcripts"
    folder.mkdir()
    (folder / "MSP-PODCAST_0001_0008.txt").write_text("And, you\nknow.\n")
    table = pd.DataFrame({"utterance_id": ["1"], "path": ["Audios/MSP-PODCAST_0001_0008.wav"], "transcript": [""]})
    assert add_transcripts(table, read_transcripts(folder))["transcript"].tolist() == ["And, you know."]
    with pytest.raises(InputError, match=r"None of the 1 transcripts \('MSP-PODCAST_0001_0008', …\) has the name"):
        add_transcripts(table.assign(path="other.wav"), read_transcripts(folder))


def test_two_files_with_different_transcripts_for_one_name_are_refused(tmp_path):
    for folder, text in (("a", "yes"), ("b", "no")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "u1.txt").write_text(text)
    with pytest.raises(InputError, match="has 'no' for u1, and another file 'yes'"):
        read_transcripts(tmp_path)
    with pytest.raises(InputError, match=r"has no .txt files"):
        read_transcripts(tmp_path / "c")


def test_another_model_than_a_recogniser_is_refused(folders, recognisers):
    with pytest.raises(InputError, match="can't be loaded"):
        load_recogniser(str(folders["hubert"]))
    with pytest.raises(InputError, match="recognises one language only"):
        load_recogniser(str(recognisers["ctc"]), language="de")


def test_the_commands_add_a_recognisers_transcripts_and_compare_scores(corpus, recognisers, tmp_path):
    result = command("transcribe", corpus, "--asr", recognisers["ctc"])
    assert result.exit_code == 0, result.output
    out = corpus.with_name("my-transcribed.csv")
    assert "12 utterances transcribed" in result.stdout
    assert re.search(
        r"Word error rate \d\.\d{3} \(\d\.\d{3} to \d\.\d{3}\) over 50 reference words: substitutions", result.stdout
    )
    table = read_manifest(out).table
    assert (table["asr_transcript"] != "").all()
    assert set(table["asr_transcript_source"]) == {"ctc"}
    assert pd.read_csv(out)["path"].tolist() == pd.read_csv(corpus)["path"].tolist()
    assert not list(tmp_path.glob("*.asr-progress.jsonl"))
    text = save_text_model("bert", tmp_path / "bert")
    result = command("asr-impact", out, "--text-encoder", text, "--out", tmp_path / "cost", "--folds", 3)
    assert result.exit_code == 0, result.output
    assert "human, cross-validated layer" in result.stdout
    assert "recogniser, cross-validated layer" in result.stdout
    result = command("report", tmp_path / "cost")
    assert result.exit_code == 0, result.output
    assert "word error rate" in (tmp_path / "cost" / "report.html").read_text()


def test_the_command_reads_transcripts_from_a_folder_and_needs_one_source(corpus, tmp_path):
    folder = tmp_path / "Transcripts"
    folder.mkdir()
    (folder / "u11.txt").write_text("so it was")
    result = command("transcribe", corpus, "--from", folder, "--out", tmp_path / "with.csv")
    assert result.exit_code == 0, result.output
    assert "12 of 12 utterances have a transcript" in result.stdout
    assert read_manifest(tmp_path / "with.csv").table["transcript"].iloc[11] == "so it was"
    result = command("transcribe", corpus)
    assert result.exit_code == 2
    assert "--asr RECOGNISER, or --from FOLDER" in result.output
    result = command("transcribe", corpus, "--from", folder, "--out", corpus)
    assert "would overwrite the old one" in result.output
