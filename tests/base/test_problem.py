from __future__ import annotations

import numpy as np
import pytest
from helpers.coded_messages import sites

from layerprobe.probe.data.audio_reader import decode_waveform
from layerprobe.probe.data.containers.inspection import inspect_length
from layerprobe.probe.data.importers.base import not_the_corpus
from layerprobe.probe.data.inputs import ModelInput
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.problem import Problem


def test_codes_of_manifests_and_importers_begin_with_1_and_those_of_audio_and_transcripts_with_2():
    families: dict[str, set[str]] = {"1": set(), "2": set()}
    for site in sites():
        if site.where.startswith("probe/data/"):
            families[str(site.code)[2]].add(site.where.split(":")[0].removeprefix("probe/data/").split("/")[0])
    assert families["1"] == {"manifest", "importers", "span_files", "stored", "traces"}
    assert families["2"] == {
        "asr.py",
        "audio.py",
        "channels.py",
        "containers",
        "levels.py",
        "manifest",  # of audio that is no file of its own
        "media_decoder.py",
        "media_program.py",
        "media_pyav.py",
        "media_stream.py",
        "reading.py",
        "spans.py",
        "stored",
        "transcripts.py",
    }


def test_a_waveform_that_can_not_be_used_keeps_the_one_code_of_its_cause():
    refused = ModelInput("", np.empty(0, dtype=np.float32), problem=Problem("LP202", "empty: it holds no bytes"))
    assert refused.reason == "empty: it holds no bytes [LP202]"
    with pytest.raises(InvalidAudioError) as caught:
        decode_waveform(refused)
    assert str(caught.value) == refused.reason


def test_a_file_that_is_read_twice_has_the_same_problem_with_its_code(tmp_path, write_audio):
    whole = write_audio("a.wav", 1.0).read_bytes()
    path = tmp_path / "cut.wav"
    path.write_bytes(whole[: len(whole) // 2])
    problems = [inspect_length(path).fault for _ in range(2)]
    assert problems[0] == problems[1]
    assert problems[0] is not None
    assert problems[0].code == "LP210"


def test_a_folder_of_another_corpus_is_refused_with_what_it_lacks_and_what_to_do(tmp_path):
    error = not_the_corpus(tmp_path, "CREMA-D", "it has no folder AudioWAV")
    assert str(error) == (
        f"{tmp_path} is no CREMA-D: it has no folder AudioWAV. Give the folder of the corpus as it was unpacked. "
        "[LP160]"
    )
