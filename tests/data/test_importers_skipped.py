"""What importers skip is counted; folders, names and labels that disagree are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.command_line import run as command
from helpers.corpus_trees import (
    crema_d,
    emo_db,
    emobox,
    iemocap,
    msp_improv,
    msp_podcast,
    ravdess,
    write,
)

from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.exceptions import InputError

FEAR = "03-01-06-01-02-01-01.wav"


# Acted corpora


def test_ravdess_counts_the_copy_of_a_tree_inside_itself(tmp_path):
    folder = ravdess(tmp_path)
    write(folder / "audio_speech_actors_01-24" / "Actor_01" / FEAR)
    found = import_corpus("ravdess", folder)
    assert found.dropped["copy of the same name"] == 1
    assert found.summary() == (
        "3 utterances of 3 speakers written; 3 skipped: copy of the same name (1), video, not audio only (1), sung (1)."
    )


@pytest.mark.parametrize("folder", ["Actor_02", "actor-2", "Actor_02/more"])
def test_ravdess_refuses_a_file_in_the_folder_of_another_actor(tmp_path, folder):
    root = ravdess(tmp_path)
    write(root / folder / "03-01-03-01-01-01-01.wav")
    with pytest.raises(InputError, match=r"is in (Actor_02|actor-2), and its name states actor 1, so its speaker is"):
        import_corpus("ravdess", root)


@pytest.mark.parametrize(
    "code", ["03-01-09-01-01-01-01", "03-01-06-03-01-01-01", "03-01-06-01-03-01-01", "03-01-06-01-01-01-25"]
)
def test_ravdess_counts_names_whose_codes_are_none_of_its(tmp_path, code):
    root = ravdess(tmp_path)
    write(root / "Actor_01" / f"{code}.wav")
    assert import_corpus("ravdess", root).dropped["name is not one of RAVDESS"] == 1


def test_names_of_crema_d_and_emo_db_are_read_in_any_case(tmp_path):
    folder = crema_d(tmp_path)
    write(folder / "AudioWAV" / "1003_dfa_ang_xx.WAV")
    write(folder / "AudioWAV" / "1040_ITH_SAD_X.wav")  # as the release names it
    write(folder / "AudioWAV" / "1040_ABC_SAD_XX.wav")
    found = import_corpus("crema-d", folder)
    assert {"1003_DFA_ANG_XX", "1040_ITH_SAD_X"} <= set(found.table["utterance_id"])
    assert found.dropped["name is not one of CREMA-D"] == 2
    assert "VideoDemographics.csv lacks 3 actors (1003 first): gender unknown" in found.warnings
    folder = emo_db(tmp_path)
    write(folder / "wav" / "09B02tB.WAV")
    found = import_corpus("emo-db", folder)
    assert "09b02Tb" in set(found.table["utterance_id"])


def test_demographics_in_another_encoding_or_format_are_read_or_refused(tmp_path):
    folder = crema_d(tmp_path)
    path = folder / "VideoDemographics.csv"
    path.write_bytes("ActorID,Sex,Race\n1001,Male,Café\n".encode("latin-1"))
    assert import_corpus("crema-d", folder).table["gender"].tolist()[0] == "male"
    path.write_text("Actor;Sex\n1001;Male\n")
    with pytest.raises(InputError, match="has no column ActorID"):
        import_corpus("crema-d", folder)


# IEMOCAP


def evaluation(folder, old, new):
    path = folder / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return folder


def test_iemocap_counts_turns_that_it_cannot_read_and_gives_their_raters_to_no_other_turn(tmp_path):
    folder = evaluation(iemocap(tmp_path), "\tang\t[1.0000, 5.0000, 5.0000]", "\tang\t[]")
    found = import_corpus("iemocap", folder)
    assert found.dropped["turn without an emotion and three ratings"] == 1
    assert found.dropped["audio without ratings"] == 6
    table = found.table.set_index("utterance_id")
    assert "valence_r2" not in table or np.isnan(table.loc["Ses01F_impro01_M000", "valence_r2"])


def test_iemocap_leaves_impossible_ratings_empty_and_counts_them(tmp_path):
    folder = evaluation(iemocap(tmp_path), "[2.5000, 3.5000, 4.5000]", "[5.5000, 3.5000, 4.5000]")
    folder = evaluation(folder, "val 3; act 2; dom  2", "val 3; act 2; dom  9")
    found = import_corpus("iemocap", folder)
    first = found.table.set_index("utterance_id").loc["Ses01F_impro01_F000"]
    assert np.isnan(first["valence"])
    assert (first["arousal"], first["dominance"]) == (3.5, 4.5)
    assert "2 ratings outside the scale left empty (Ses01F_impro01_F000: valence 5.5, first)" in found.warnings


def test_iemocap_refuses_a_turn_or_audio_of_another_session_and_a_turn_that_is_twice(tmp_path):
    folder = iemocap(tmp_path)
    wav = folder / "Session1" / "sentences" / "wav"
    (wav / "Ses01F_impro01" / "Ses01F_impro01_F000.wav").rename(
        folder / "Session2" / "sentences" / "Ses01F_impro01_F000.wav"
    )
    with pytest.raises(InputError, match="is in Session2, and its name states session 1, so its speaker is uncertain"):
        import_corpus("iemocap", folder)
    folder = evaluation(iemocap(tmp_path / "b"), "Ses01F_impro01_M003", "Ses02F_impro01_M003")
    with pytest.raises(InputError, match="Ses02F_impro01_M003 is no turn of a dialogue of Ses01"):
        import_corpus("iemocap", folder)
    folder = evaluation(iemocap(tmp_path / "c"), "Ses01F_impro01_M003", "Ses01F_impro01_M000")
    with pytest.raises(InputError, match="labels 1 utterance more than once, Ses01F_impro01_M000 first"):
        import_corpus("iemocap", folder)
    folder = evaluation(iemocap(tmp_path / "d"), "Ses01F_impro01_M003", "Ses01F_impro01_X003")
    with pytest.raises(InputError, match="Ses01F_impro01_X003 is no turn"):
        import_corpus("iemocap", folder)


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_iemocap_is_found_with_names_in_any_case(tmp_path, change):
    expected = import_corpus("iemocap", iemocap(tmp_path / "a")).table.drop(columns="path")
    folder = iemocap(tmp_path / "b")
    for path in sorted(folder.rglob("*"), key=lambda p: -len(p.parts)):
        if change is str.lower or path.suffix != ".txt" or path.parent.name != "transcriptions":
            path.rename(path.with_name(change(path.name)))
    assert import_corpus("iemocap", folder).table.drop(columns="path").equals(expected)


def test_iemocap_finds_audio_in_capitals_and_counts_missing_transcripts(tmp_path):
    folder = iemocap(tmp_path)
    wav = folder / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav"
    wav.rename(wav.with_name("SES01F_IMPRO01_F000.WAV"))
    found = import_corpus("iemocap", folder)
    assert "Ses01F_impro01_F000" in set(found.table["utterance_id"])
    assert "10 utterances have no transcript" in found.warnings


# MSP-IMPROV


def improv(tmp_path, old, new):
    folder = msp_improv(tmp_path)
    path = folder / "Evalution.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return folder


def test_msp_improv_counts_clips_and_lines_of_raters_that_it_cannot_read(tmp_path):
    whole = import_corpus("msp-improv", msp_improv(tmp_path / "whole")).table
    found = import_corpus("msp-improv", improv(tmp_path / "a", "FM02.avi; H; A:4.0", "FM02.avi; H; A:none"))
    assert found.dropped["clip without an emotion and three ratings"] == 1
    assert found.table.iloc[0].drop("path").equals(whole.iloc[0].drop("path"))  # the raters below are not its own
    assert found.dropped["audio without ratings"] == 2
    found = import_corpus("msp-improv", improv(tmp_path / "b", "P02; Neutral; ; A:4.250000; ", "P02; Neutral; ; "))
    assert "1 lines of raters in Evalution.txt are not in its format and left out" in found.warnings
    found = import_corpus("msp-improv", improv(tmp_path / "c", "D:3.000000 ; N:4.000000;", "D:3.000000;"))
    assert len(found.table) == 5  # naturalness is not read


def test_msp_improv_refuses_a_clip_that_is_twice_or_in_another_session(tmp_path):
    folder = improv(tmp_path / "a", "S02H-M01-R-FM02", "S01A-F01-P-FM01")
    with pytest.raises(InputError, match="labels 1 utterance more than once, MSP-IMPROV-S01A-F01-P-FM01 first"):
        import_corpus("msp-improv", folder)
    folder = msp_improv(tmp_path / "b")
    clip = next(folder.rglob("MSP-IMPROV-S03S-F02-S-MF01.wav"))
    (folder / "session5").mkdir()
    clip.rename(folder / "session5" / clip.name)
    with pytest.raises(InputError, match="is in session5, and its name states pair 2, so its speaker is uncertain"):
        import_corpus("msp-improv", folder)


# MSP-Podcast


def podcast(tmp_path, old, new, version="1.11"):
    folder = msp_podcast(tmp_path, version)
    path = folder / "Labels" / "labels_consensus.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return folder


def test_msp_podcast_counts_equal_label_rows_and_refuses_different_ones(tmp_path):
    row = "MSP-PODCAST_0003_0001.wav,S,1.5,2.0,3.0,39,Female,Development\n"
    found = import_corpus("msp-podcast", podcast(tmp_path / "a", row, row + row))
    assert found.dropped["labelled twice"] == 1
    assert len(found.table) == 8
    with pytest.raises(InputError, match="labels 1 utterance more than once, MSP-PODCAST_0003_0001 first"):
        import_corpus("msp-podcast", podcast(tmp_path / "b", row, row + row.replace("1.5", "6.5")))


def test_msp_podcast_finds_audio_in_other_case_and_counts_what_has_no_label(tmp_path):
    folder = msp_podcast(tmp_path, "1.11")
    first = folder / "Audios" / "MSP-PODCAST_0001_0008.wav"
    first.rename(first.with_name("msp-podcast_0001_0008.WAV"))
    write(folder / "Audios" / "._MSP-PODCAST_0001_0008.wav")
    (folder / "Audios" / "MSP-PODCAST_0005_0001.wav").unlink()
    found = import_corpus("msp-podcast", folder)
    assert found.dropped == {"labelled, but audio is missing": 1, "audio without labels": 1, "hidden file": 1}
    assert "MSP-PODCAST_0001_0008" in set(found.table["utterance_id"])
    assert "Test3 is released without labels" in found.warnings


@pytest.mark.parametrize("spelling", ["unknown", "UNKNOWN", "nan", "", " Unknown "])
def test_unknown_speakers_of_msp_podcast_are_one_each_however_they_are_spelt(tmp_path, spelling):
    found = import_corpus("msp-podcast", podcast(tmp_path, ",6.0,Unknown", f",6.0,{spelling}"))
    assert found.table["speaker_id"].tolist().count("Unknown") == 2


def test_msp_podcast_reads_a_byte_order_mark_and_refuses_what_it_cannot_read(tmp_path):
    folder = msp_podcast(tmp_path, "1.11")
    path = folder / "Labels" / "labels_consensus.csv"
    good = path.read_text()
    path.write_text(good, encoding="utf-8-sig")
    assert len(import_corpus("msp-podcast", folder).table) == 8
    path.write_bytes(good.replace("Male", "Mâle", 1).encode("latin-1"))
    with pytest.raises(InputError, match=r"labels_consensus\.csv can't be read as a table"):
        import_corpus("msp-podcast", folder)
    path.write_text(good)
    detailed = folder / "Labels" / "labels_detailed.json"
    for broken in ("{", json.dumps({"a.wav": {"w": {"EmoVal": "high"}}}), json.dumps(["a"])):
        detailed.write_text(broken)
        with pytest.raises(InputError, match=r"labels_detailed\.json is not in its format"):
            import_corpus("msp-podcast", folder)


def test_msp_podcast_refuses_labelled_files_without_a_split(tmp_path):
    with pytest.raises(InputError, match="1 labelled files are in no split, MSP-PODCAST_0004_0002 first"):
        import_corpus("msp-podcast", podcast(tmp_path, "Male,Test2", "Male,"))


def test_msp_podcast_counts_lines_of_raters_that_it_cannot_read(tmp_path):
    folder = msp_podcast(tmp_path, "1.10")
    path = folder / "Labels" / "labels.txt"
    path.write_text(path.read_text() + "WORKER7; Neutral; Neutral; A:; V:; D:;\n")
    found = import_corpus("msp-podcast", folder)
    assert "1 lines of raters in labels.txt are not in its format and left out" in found.warnings


# EmoBox


def test_emobox_counts_what_is_listed_twice_and_refuses_audio_in_two_parts(tmp_path):
    folder = emobox(tmp_path)
    train = next(folder.glob("fold_1/*train*.jsonl"))
    lines = train.read_text().splitlines()
    train.write_text("\n".join([*lines, lines[0]]))
    assert import_corpus("emobox", folder).dropped == {"listed twice": 1}
    other = json.loads(lines[0]) | {"emo": "sad"}
    train.write_text("\n".join([*lines, json.dumps(other)]))
    with pytest.raises(InputError, match="emodb-03a02Wb is listed as train sad, and before as train anger"):
        import_corpus("emobox", folder)
    train.write_text("\n".join(lines))
    test = next(folder.glob("fold_1/*test*.jsonl"))
    test.write_text(test.read_text() + json.dumps(json.loads(lines[0]) | {"key": "copy"}))
    with pytest.raises(InputError, match=r"03a02Wb\.wav is in test and in train of fold 1"):
        import_corpus("emobox", folder)


def test_emobox_counts_file_names_without_a_speaker(tmp_path):
    folder = emobox(tmp_path)
    train = next(folder.glob("fold_1/*train*.jsonl"))
    train.write_text(train.read_text().replace("03a02Wb", "unnamed"))
    write(tmp_path / "EmoBox" / "downloads" / "emodb" / "wav" / "unnamed.wav")
    assert (
        "1 file names do not contain the speaker; each of them counts as one"
        in import_corpus("emobox", folder).warnings
    )
    train.write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not UTF-8"):
        import_corpus("emobox", folder)


def test_emobox_counts_recordings_without_an_emotion(tmp_path):
    folder = emobox(tmp_path)
    train = next(folder.glob("fold_1/*train*.jsonl"))
    first, *rest = train.read_text().splitlines()
    for empty in (None, " "):
        train.write_text("\n".join([json.dumps(json.loads(first) | {"emo": empty}), *rest]))
        found = import_corpus("emobox", folder)
        assert found.dropped == {"listed without an emotion": 1}
        assert found.header.nominal["emotion"].classes == tuple(sorted(set(found.table["emotion"])))
        assert "None" not in set(found.table["emotion"])


# All


def test_folders_above_the_corpus_state_no_session(tmp_path):
    folder = msp_improv(tmp_path / "session6")
    clip = next(folder.rglob("MSP-IMPROV-S03S-F02-S-MF01.wav"))
    clip.rename(folder / clip.name)
    assert len(import_corpus("msp-improv", folder).table) == 5


# The command line


def test_the_last_sentence_counts_what_was_written_and_what_was_skipped(tmp_path):
    result = command("manifest", "import", "iemocap", iemocap(tmp_path), "--out", tmp_path / "my.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-2] == (
        "15 utterances of 10 speakers written; 15 skipped: rated, but audio is missing (5), audio without ratings (5), "
        "hidden file (5)."
    )


def test_a_manifest_is_written_as_csv_alone(tmp_path):
    result = command("manifest", "import", "emo-db", emo_db(tmp_path), "--out", tmp_path / "my.parquet")
    assert result.exit_code == 2
    assert "my.parquet is not a .csv file" in " ".join(result.output.split())
