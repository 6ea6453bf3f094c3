"""Warnings of doubtful entries: each is found with its name and rows; a manifest without any has no warnings."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
from helpers.command_line import run as command
from helpers.voices import voice, write_table

from layerprobe.probe.data.manifest.read import read_numbered_manifest
from layerprobe.probe.data.manifest_warnings import manifest_warnings


@pytest.fixture
def rows(write_audio):
    """Six utterances of three speakers with nothing doubtful; the first is row 2."""
    return [
        {"utterance_id": f"u{k}", "path": write_audio(f"{k}.wav", 0.2, pitch=100 + 20 * k).name,
         "speaker_id": f"s{k % 3}", "arousal": 3, "arousal_r1": 2, "arousal_r2": 4, "gender": "f" if k % 3 else "m",
         "split": "test" if k % 3 == 2 else "train"}
        for k in range(6)
    ]  # fmt: skip


def warnings(tmp_path, rows, **options):
    found = manifest_warnings(read_numbered_manifest(write_table(tmp_path, rows)), **options)
    return [(w.name, w.message, w.rows) for w in found]


def test_a_manifest_in_order_has_none(tmp_path, rows):
    assert warnings(tmp_path, rows, audio=True) == []


def test_a_rating_outside_what_its_raters_gave(tmp_path, rows):
    rows[1] |= {"arousal": 5, "arousal_r1": 1, "arousal_r2": 2}
    rows[2] |= {"arousal": 1.34, "arousal_r1": 1.3333, "arousal_r2": 1.3333}  # rounded
    rows[3] |= {"arousal": 2, "arousal_r1": "", "arousal_r2": 3}
    rows[4] |= {"arousal": 6, "arousal_r1": "", "arousal_r2": ""}
    rows[5] |= {"arousal": ""}
    assert warnings(tmp_path, rows) == [
        ("rating-outside-raters", "arousal is 5, its raters gave 1, 2", (3,)),
        ("rating-outside-raters", "arousal is 2, its raters gave 3", (5,)),
    ]


def test_utterance_ids_that_look_alike(tmp_path, rows):
    rows[0]["utterance_id"], rows[4]["utterance_id"] = "U1", "u 3"
    assert warnings(tmp_path, rows) == [
        ("similar-utterance-ids", "utterance_id 'U1' and 'u1' differ only in case", (2, 3)),
        ("similar-utterance-ids", "utterance_id 'u 3' and 'u3' differ only in blanks", (5, 6)),
    ]


def test_a_speaker_with_several_genders(tmp_path, rows):
    rows[0]["gender"], rows[1]["gender"] = "f", ""
    rows.append(rows[3] | {"utterance_id": "u6", "path": "0.wav", "start": 0.1})
    for row in rows[2:6:3]:
        row["speaker_id"] = "Unknown"
    rows[2]["gender"] = "m"
    assert warnings(tmp_path, rows) == [("speaker-gender", "speaker 's0' has the genders 'm' and 'f'", (2,))]


def test_two_utterances_from_one_audio_file_or_span(tmp_path, rows):
    rows[3]["path"] = f"../{tmp_path.name}/0.wav"
    spans = [("1.wav", 0, 0.1), ("1.wav", "", 0.1), ("1.wav", 0.1, 0.2), ("1.wav", "", "")]
    rows += [rows[1] | {"utterance_id": f"v{k}", "path": p, "start": s, "end": e} for k, (p, s, e) in enumerate(spans)]
    assert warnings(tmp_path, rows) == [
        ("duplicate-audio", "utterances 'u0', 'u3' are the same audio, 0.wav", (2, 5)),
        ("duplicate-audio", "utterances 'u1', 'v3' are the same audio, 1.wav", (3, 11)),
        ("duplicate-audio", "utterances 'v0', 'v1' are the same audio, 1.wav", (8, 9)),
    ]


def test_a_speaker_in_training_and_test_and_not_one_in_two_test_sets(tmp_path, rows):
    rows[0]["split"] = "test"
    rows[2]["split"], rows[5]["split"] = "test1", "test2"
    assert warnings(tmp_path, rows) == [("speaker-in-splits", "speaker 's0' is in test and train", (2, 5))]
    for row in rows:
        row["speaker_id"] = "Unknown"
    assert warnings(tmp_path, rows) == []


def test_files_outside_the_corpus_folder(tmp_path, rows):
    outside = tmp_path.parent / f"{tmp_path.name}-other"
    outside.mkdir()
    for k in (1, 4):
        (tmp_path / f"{k}.wav").rename(outside / f"{k}.wav")
    rows[1]["path"], rows[4]["path"] = f"../{outside.name}/1.wav", str(outside / "4.wav")
    message = f"files in {outside} are outside the corpus folder {tmp_path}"
    assert warnings(tmp_path, rows) == [("path-outside-corpus", message, (3, 6))]


def test_a_manifest_of_a_corpus_that_is_elsewhere_has_no_file_outside(tmp_path, rows):
    folder = tmp_path / "manifests"
    folder.mkdir()
    assert warnings(folder, [row | {"path": str(tmp_path / str(row["path"]))} for row in rows]) == []


def test_audio_that_cannot_be_decoded_is_found_with_the_option_for_it(tmp_path, rows):
    (tmp_path / "2.wav").write_bytes(b"RIFF and nothing else")
    rows[4] |= {"start": 0.1, "end": 9}
    assert warnings(tmp_path, rows) == []
    (name, message, row), late = warnings(tmp_path, rows, audio=True)
    assert (name, row) == ("undecodable-audio", (4,))
    assert message.startswith("2.wav: could not be decoded")
    assert late == ("undecodable-audio", "4.wav: span 0.1 to 9 s lies outside the recording of 0.2 s [LP220]", (6,))


def test_audio_that_is_not_what_was_meant_is_found_with_the_option_for_it(tmp_path, rows):
    waveform, zeros = voice(0.4), np.zeros(20_000, dtype=np.float32)
    recordings = [
        np.stack([waveform, -waveform], axis=1),
        20_000 * waveform / np.abs(waveform).max(),
        np.concatenate([waveform, zeros]),
        np.stack([waveform, 0 * waveform], axis=1),
        np.stack([waveform, -0.4 * waveform], axis=1),
    ]
    for k, samples in enumerate(recordings):
        soundfile.write(tmp_path / str(rows[k]["path"]), samples, 16_000, subtype="FLOAT")
    assert warnings(tmp_path, rows) == []
    cancels, beyond, in_part, silence, silent = warnings(tmp_path, rows, audio=True)
    assert cancels[0] == beyond[0] == "undecodable-audio"
    assert "0.wav: its 2 channels cancel in their mean (opposite phase), in 100 % of the recording; read" in cancels[1]
    assert "1.wav: values reach 20,000 times full scale (1.0); divide the samples by 32768" in beyond[1]
    assert in_part == (
        "channels-cancel-in-part", "4.wav: the channels cancel in part: their mean keeps 31 % of their energy", (6,)
    )  # fmt: skip
    assert silence == ("silence-at-ends", "2.wav: 1.2 s of digital silence at an end", (4,))
    assert silent == ("silent-channel", "3.wav: 1 of the channels is silent", (5,))


def test_the_same_samples_in_several_files_are_found_with_what_differs(tmp_path, rows, write_audio):
    for k, name in enumerate(("copy.wav", "copy.flac", "stereo.wav")):
        write_audio(name, 0.2, pitch=100, channels=1 + (k == 2))
        rows.append(rows[0] | {"utterance_id": f"v{k}", "path": name})
    rows[6] |= {"speaker_id": "s2", "split": "test", "gender": "f"}
    rows[8]["arousal"] = 4
    rows.append(rows[1] | {"utterance_id": "w0", "start": 0, "end": 0.1})  # spans of one file are others
    rows.append(rows[1] | {"utterance_id": "w1", "start": 0.1, "end": 0.2})
    rows[2]["gender"] = rows[5]["gender"] = "f"
    rows = [row | {"arousal_r1": "", "arousal_r2": ""} for row in rows]
    assert warnings(tmp_path, rows) == []
    message = "utterances 'u0', 'v0', 'v1', 'v2' have the same samples, but speaker_id s0 and s2, split train and test"
    assert warnings(tmp_path, rows, audio=True) == [
        ("same-audio", f"{message}, arousal 3.0 and 4.0", (2, 8, 9, 10)),
    ]


def test_the_command_prints_each_warning_counts_them_and_succeeds(tmp_path, rows):
    rows[1] |= {"arousal": 5, "arousal_r1": 1, "arousal_r2": 2}
    rows[3]["utterance_id"] = "U4"
    (tmp_path / "2.wav").write_bytes(b"")
    result = command("manifest", "validate", write_table(tmp_path, rows), "--audio")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("warning ")] == [
        "warning [rating-outside-raters] row 3: arousal is 5, its raters gave 1, 2.",
        "warning [similar-utterance-ids] rows 5, 6: utterance_id 'U4' and 'u4' differ only in case.",
        "warning [undecodable-audio] row 4: 2.wav: empty: it holds no bytes [LP202].",
    ]
    assert "Rows are counted as a spreadsheet shows them: the header is row 1." in lines
    assert lines[-2] == "6 utterances, 3 speakers, 3 warnings."
    assert lines[-1].startswith(f"Next: layerprobe extract {tmp_path / 'my.csv'} --encoder ")


def test_the_command_calls_a_manifest_without_warnings_valid(tmp_path, rows):
    lines = command("manifest", "validate", write_table(tmp_path, rows)).stdout.splitlines()
    assert lines[-2] == "6 utterances, 3 speakers: valid."
    assert not any("Rows are counted" in line for line in lines)


def test_the_command_counts_utterances_of_unknown_speakers(tmp_path, rows):
    rows[0]["speaker_id"] = "Unknown"
    lines = command("manifest", "validate", write_table(tmp_path, rows)).stdout.splitlines()
    assert "  unknown speakers: 1 utterances, each counts as a speaker of its own" in lines
    assert lines[-2] == "6 utterances, 3 speakers: valid."


def test_many_warnings_of_one_name_are_cut_with_their_count(tmp_path, rows):
    many = [rows[0] | {"utterance_id": f"v{k}", "arousal": 7, "start": 0.01 * k} for k in range(15)]
    output = command("manifest", "validate", write_table(tmp_path, many)).stdout
    assert len(re.findall(r"^warning \[rating-outside-raters\]", output, re.MULTILINE)) == 10
    assert "… and 5 more warnings [rating-outside-raters]" in output
    assert output.splitlines()[-2] == "15 utterances, 1 speakers, 15 warnings."
