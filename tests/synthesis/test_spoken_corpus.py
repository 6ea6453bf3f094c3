"""Speech for pre-training: its sentences and voices, none of them the demo's."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from helpers.command_line import run as command

from layerprobe.probe.data.manifest.read import read_utterances
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.synthesis.demo_corpus import VARIANTS, plan_corpus
from layerprobe.probe.synthesis.spoken_corpus import RATES, plan_speech, voices, write_speech_corpus

SENTENCES = [f"Sentence number {k} describes something else." for k in range(60)]


def test_the_demos_voices_are_not_used():
    demo = {voice.partition("+")[2] for voice in plan_corpus().table["speaker_id"]}
    assert demo == set(VARIANTS)
    assert len(voices()) > 200
    assert not demo & {voice.partition("+")[2] for voice in voices()}


def test_each_sentence_is_spoken_once_and_the_seed_decides_how():
    table, utterances = plan_speech([*SENTENCES, SENTENCES[0], " ", "12345 67890 12345", "too short"], seed=3)
    assert sorted(table["transcript"]) == sorted(SENTENCES)
    assert [u.text for u in utterances] == table["transcript"].tolist()
    assert table["speaker_id"].nunique() > 40
    assert all(RATES[0] <= u.rate <= RATES[1] for u in utterances)
    assert plan_speech(SENTENCES, seed=3)[1] == utterances
    assert plan_speech(SENTENCES, seed=4)[1] != utterances
    twice = plan_speech(SENTENCES, times=2, seed=3)[0]
    assert sorted(twice["transcript"]) == sorted([*SENTENCES, *SENTENCES])
    assert twice["utterance_id"].is_unique
    voices_of = twice.groupby("transcript")["speaker_id"].nunique()
    assert (voices_of == 2).mean() > 0.9  # a new voice each time
    with pytest.raises(InputError, match="needs 15 to 160 characters"):
        plan_speech(["no"])


def test_speech_is_written_with_a_manifest_that_can_be_read(tmp_path):
    manifest = write_speech_corpus(SENTENCES[:6], tmp_path / "speech")
    table = read_utterances(manifest)
    assert len(table) == 6
    for path in table["path"]:
        waveform, rate = soundfile.read(path)
        assert len(waveform) > rate
        assert np.abs(waveform).max() > 0.01
    again = write_speech_corpus(SENTENCES[:6], tmp_path / "again")
    assert again.read_bytes() == manifest.read_bytes()


def test_the_command_synthesises_a_text_file_and_refuses_other_files(tmp_path):
    (tmp_path / "my.txt").write_text("\n".join(SENTENCES[:3]))
    result = command("synthesise", tmp_path / "my.txt", "--out", tmp_path / "speech")
    assert result.exit_code == 0, result.output
    assert "pretrain" in result.stdout
    (tmp_path / "no.txt").write_bytes(b"\xff\xfe\x00")
    result = command("synthesise", tmp_path / "no.txt", "--out", tmp_path / "x")
    assert result.exit_code != 0
    assert "can't be read as text" in result.output
