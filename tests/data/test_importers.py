"""Importers on trees of the exact layouts, each trap by name."""

from __future__ import annotations

import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest
from helpers.corpus_trees import (
    MSP_RATERS,
    MSP_ROWS,
    audformat_database,
    crema_d,
    emo_db,
    emobox,
    iemocap,
    msp_improv,
    msp_podcast,
    ravdess,
)

from layerprobe.probe.data.importers.base import write_imported
from layerprobe.probe.data.importers.registry import ImportOptions, import_corpus
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own calls of pandas
VERSIONS = ("1.6", "1.7", "1.8", "1.9", "1.10", "1.11", "2.0")


def imported(corpus, folder, tmp_path, **options):
    """Return the manifest as it is read back, and what the importer returned."""
    found = import_corpus(corpus, folder, ImportOptions(**options))
    write_imported(found, tmp_path / "out.csv")
    return read_manifest(tmp_path / "out.csv"), found


# MSP-Podcast


@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_of_msp_podcast_gives_the_same_manifest(tmp_path, version):
    manifest, found = imported("msp-podcast", msp_podcast(tmp_path, version), tmp_path)
    table = manifest.table.set_index("utterance_id")
    assert list(table.index) == [row[0] for row in MSP_ROWS]
    assert found.header.version == version
    # arousal, valence, dominance by name; the file's order is no other corpus' order
    first = table.loc["MSP-PODCAST_0001_0008"]
    assert (first["arousal"], first["valence"], first["dominance"]) == (2.2, 4.0, 2.6)
    splits = ["train"] * 3 + ["development"] * 2 + ["test1", "test2", "test1"]
    assert table["split"].tolist() == splits
    assert table["speaker_id"].tolist() == ["30", "30", "Unknown", "Unknown", "39", "41", "41", "42"]
    raters = [first[f"{t}_r{k}"] for k in (1, 2, 3) for t in ("arousal", "valence", "dominance")]
    assert raters == [x for _, rating in sorted(MSP_RATERS.items()) for x in rating]
    assert first["transcript"] == "And, you know."
    assert table["emotion"].tolist() == ["neutral", "anger", "", "happiness", "sadness", "surprise", "contempt", "fear"]
    assert found.dropped == {"audio without labels": 1}
    assert any("2 utterances have no known speaker" in r for r in found.warnings)


def test_old_labels_inside_a_release_are_not_taken_for_its_own(tmp_path):
    """They are in Previous_releases_information, misspelt, and rate the first utterance 7, 7, 7."""
    manifest, _ = imported("msp-podcast", msp_podcast(tmp_path, "1.11"), tmp_path)
    assert manifest.table["arousal"].iloc[0] == 2.2


def test_counts_are_compared_with_those_published_for_the_version(tmp_path):
    _, found = imported("msp-podcast", msp_podcast(tmp_path, "1.10"), tmp_path)
    assert any(r.startswith("counts differ from those published for 1.10: train 3 of 63,076") for r in found.warnings)


def test_speakers_of_training_who_are_also_in_a_test_set_are_counted(tmp_path):
    folder = msp_podcast(tmp_path, "1.11")
    labels = folder / "Labels" / "labels_consensus.csv"
    labels.write_text(labels.read_text().replace(",41,Male,Test2", ",30.0,Male,Test2"))
    _, found = imported("msp-podcast", folder, tmp_path)
    assert "training has speakers in common: 1 with test2" in found.warnings


def test_an_incomplete_msp_podcast_and_another_corpus_are_refused(tmp_path):
    folder = msp_podcast(tmp_path, "1.11")
    shutil.rmtree(folder / "Audios")
    with pytest.raises(InputError, match="has labels, but no folder Audios"):
        import_corpus("msp-podcast", folder)
    (folder / "Audios").mkdir()
    with pytest.raises(InputError, match="has none of the 8 labelled files"):
        import_corpus("msp-podcast", folder)
    (folder / "Labels" / "labels_consensus.csv").unlink()
    with pytest.raises(InputError, match=r"has no labels_consensus\.csv"):
        import_corpus("msp-podcast", folder)
    with pytest.raises(InputError, match="is no MSP-Podcast: it has no folder Labels"):
        import_corpus("msp-podcast", iemocap(tmp_path))


def test_labels_that_are_wrong_are_refused_with_their_row(tmp_path):
    folder = msp_podcast(tmp_path, "1.11")
    labels = folder / "Labels" / "labels_consensus.csv"
    good = labels.read_text()
    for old, new, message in (
        (",N,2.2", ",Q,2.2", "EmoClass 'Q' is unknown"),
        (",N,2.2", ",N,much", "row 2: EmoAct is not a number"),
        ("Test2", "Test7", "the split 'Test7' is unknown"),
        ("EmoAct", "Act", "has no column EmoAct"),
    ):
        labels.write_text(good.replace(old, new))
        with pytest.raises(InputError, match=message):
            import_corpus("msp-podcast", folder)


# IEMOCAP


def test_the_speaker_of_iemocap_is_who_speaks_and_ratings_come_in_their_own_order(tmp_path):
    manifest, found = imported("iemocap", iemocap(tmp_path), tmp_path)
    table = manifest.table.set_index("utterance_id")
    assert len(table) == 5 * 3
    assert table["speaker_id"].nunique() == 10
    # Ses01F: who wears the markers; M003: the man speaks
    assert table.loc["Ses01F_impro01_M003", "speaker_id"] == "Ses01_M"
    assert table.loc["Ses01F_impro01_M003", "gender"] == "male"
    first = table.loc["Ses01F_impro01_F000"]
    assert (first["valence"], first["arousal"], first["dominance"]) == (2.5, 3.5, 4.5)
    assert first["transcript"] == "Café, please."
    assert first["emotion"] == "neutral"
    assert table.loc["Ses01F_impro01_M000", "emotion"] == ""  # xxx: no agreement
    assert found.dropped == {"rated, but audio is missing": 5, "audio without ratings": 5, "hidden file": 5}
    assert any(
        "counts differ from those published for the full release: utterances 15 of 10,039" in r for r in found.warnings
    )


def test_iemocaps_raters_are_listeners_and_a_missing_dominance_shifts_nothing(tmp_path):
    """E1 gave no dominance; F1 is the actress herself."""
    manifest, _ = imported("iemocap", iemocap(tmp_path), tmp_path)
    first = manifest.table.set_index("utterance_id").loc["Ses01F_impro01_F000"]
    assert (first["valence_r1"], first["valence_r2"]) == (2, 3)
    assert (first["arousal_r1"], first["arousal_r2"]) == (4, 2)
    assert first["dominance_r1"] == 2
    assert "dominance_r2" not in manifest.table
    assert "valence_r3" not in manifest.table


def test_missing_sessions_of_iemocap_are_a_warning(tmp_path):
    _, found = imported("iemocap", iemocap(tmp_path, sessions=2), tmp_path)
    assert "2 of 5 sessions are present" in found.warnings
    shutil.rmtree(tmp_path / "IEMOCAP_full_release" / "Session2" / "dialog" / "EmoEvaluation")
    with pytest.raises(InputError, match="Session2 has no evaluations"):
        import_corpus("iemocap", tmp_path / "IEMOCAP_full_release")
    with pytest.raises(InputError, match="is no IEMOCAP: it has no folders Session1 to Session5"):
        import_corpus("iemocap", emo_db(tmp_path))


# MSP-IMPROV


@pytest.mark.parametrize("calm_is_high", [False, True])
def test_high_arousal_of_msp_improv_is_active_and_the_header_states_how(tmp_path, calm_is_high):
    folder = msp_improv(tmp_path, calm_is_high=calm_is_high)
    manifest, found = imported("msp-improv", folder, tmp_path)
    table = manifest.table.set_index("utterance_id")
    assert table.loc["MSP-IMPROV-S01A-F01-P-FM01", "arousal"] == pytest.approx(4.5)
    assert table.loc["MSP-IMPROV-S03S-F02-S-MF01", "arousal"] == pytest.approx(2.0)
    notes = tomllib.loads((tmp_path / "out.toml").read_text())["notes"]
    assert ("Arousal was reversed, 6 - x" in notes) == calm_is_high
    assert ("Arousal is left as it is" in notes) != calm_is_high
    # ratings of raters are reversed with the mean, and a rater who rated twice counts once
    first = table.loc["MSP-IMPROV-S01A-F01-P-FM01"]
    if not calm_is_high:
        assert (first["arousal_r1"], first["arousal_r2"]) == (5.0, 4.25)
    else:
        assert (first["arousal_r1"], first["arousal_r2"]) == pytest.approx((6 - 2.0, 6 - 1.25))
    assert first["valence_r1"] == 3.0
    assert pd.isna(first.get("dominance_r2", np.nan))
    assert found.dropped == {"audio without ratings": 1}


def test_names_of_msp_improv_give_speaker_and_recording(tmp_path):
    manifest, _ = imported("msp-improv", msp_improv(tmp_path, name="Evaluation.txt", audio="Audio"), tmp_path)
    table = manifest.table.set_index("utterance_id")
    assert table["speaker_id"].tolist() == ["F01", "M01", "F02", "M02"]
    assert table["gender"].tolist() == ["female", "male", "female", "male"]
    assert table["recording"].tolist()[:2] == ["natural", "read"]
    assert table["emotion"].tolist() == ["anger", "happiness", "sadness", "neutral"]


def test_another_corpus_than_msp_improv_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no MSP-IMPROV: it has no Evalution\.txt"):
        import_corpus("msp-improv", iemocap(tmp_path))
    folder = msp_improv(tmp_path)
    for session in folder.glob("session*"):
        shutil.rmtree(session)
    with pytest.raises(InputError, match="none of the 5 rated clips has audio"):
        import_corpus("msp-improv", folder)


# Acted corpora


def test_crema_d_has_classes_and_no_invented_ratings_and_leaves_the_silent_one_out(tmp_path):
    manifest, found = imported("crema-d", crema_d(tmp_path), tmp_path)
    assert manifest.targets == ()
    table = manifest.table.set_index("utterance_id")
    assert list(table.index) == ["1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1002_IEO_NEU_XX", "1076_MTI_FEA_LO"]
    assert table["emotion"].tolist() == ["anger", "happiness", "neutral", "fear"]
    assert table["gender"].tolist() == ["male", "male", "female", ""]
    assert table["intensity"].tolist() == ["", "high", "", "low"]
    assert found.dropped == {"1076_MTI_SAD_XX is silent": 1, "name is not one of CREMA-D": 1}


def test_pointers_of_git_lfs_are_no_audio(tmp_path):
    folder = crema_d(tmp_path)
    for path in (folder / "AudioWAV").iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(InputError, match="is a git-lfs pointer, not audio of CREMA-D"):
        import_corpus("crema-d", folder)


def test_ravdess_actors_with_odd_numbers_are_men_and_songs_and_videos_are_left_out(tmp_path):
    manifest, found = imported("ravdess", ravdess(tmp_path), tmp_path)
    table = manifest.table
    assert table["speaker_id"].tolist() == ["Actor_02", "Actor_01", "Actor_12"]
    assert table["gender"].tolist() == ["female", "male", "female"]
    assert table["emotion"].tolist() == ["anger", "fear", "surprise"]
    assert table["intensity"].tolist() == ["strong", "normal", "normal"]
    assert found.dropped == {"sung": 1, "video, not audio only": 1}


@pytest.mark.parametrize("folder", ["wav", "wav_corpus"])
def test_names_of_emo_db_give_speaker_gender_and_emotion(tmp_path, folder):
    manifest, found = imported("emo-db", emo_db(tmp_path, folder), tmp_path)
    assert manifest.table["speaker_id"].tolist() == ["03", "08", "16"]
    assert manifest.table["gender"].tolist() == ["male", "female", "female"]
    assert manifest.table["emotion"].tolist() == ["happiness", "anger", "sadness"]
    assert found.dropped == {"name is not one of EMO-DB": 1}


@pytest.mark.parametrize(("corpus", "name"), [("crema-d", "CREMA-D"), ("ravdess", "RAVDESS"), ("emo-db", "EMO-DB")])
def test_a_folder_of_another_corpus_is_refused(tmp_path, corpus, name):
    with pytest.raises(InputError, match=f"is no {name}"):
        import_corpus(corpus, msp_podcast(tmp_path))


# EmoBox, audformat


def test_a_fold_of_emobox_is_the_split_and_speakers_come_from_the_names(tmp_path):
    folder = emobox(tmp_path)
    manifest, _ = imported("emobox", folder, tmp_path)
    assert manifest.table["split"].tolist() == ["train", "train", "train", "test"]
    assert manifest.table["speaker_id"].tolist() == ["03", "08", "09", "10"]
    second, _ = imported("emobox", folder, tmp_path, fold=2)
    assert second.table["split"].tolist() == ["test", "train", "train", "train"]
    with pytest.raises(InputError, match="has no fold 7; it has fold_1, fold_2"):
        import_corpus("emobox", folder, ImportOptions(fold=7))


def test_emobox_speakers_of_iemocap_are_those_who_speak_and_unknown_ones_are_a_warning(tmp_path):
    manifest, _ = imported("emobox", emobox(tmp_path, "iemocap"), tmp_path)
    assert manifest.table["speaker_id"].tolist() == ["Ses01_F", "Ses01_M", "Ses02_F", "Ses03_M"]
    manifest, found = imported("emobox", emobox(tmp_path, "aesdd"), tmp_path)
    assert set(manifest.table["speaker_id"]) == {"Unknown"}
    assert any("speakers are unknown" in r for r in found.warnings)


def test_another_folder_than_emobox_or_a_broken_line_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no corpus of EmoBox"):
        import_corpus("emobox", emo_db(tmp_path))
    folder = emobox(tmp_path)
    path = next(folder.glob("fold_1/*train*.jsonl"))
    path.write_text(path.read_text() + '{"key": "x"}\n')
    with pytest.raises(InputError, match="line 4 is not in the format of EmoBox"):
        import_corpus("emobox", folder)


def test_an_audformat_database_gives_its_scales_classes_splits_and_spans(tmp_path):
    manifest, found = imported("audformat", audformat_database(tmp_path / "db"), tmp_path)
    table = manifest.table.set_index("utterance_id")
    assert (manifest.header.targets["arousal"].minimum, manifest.header.targets["arousal"].maximum) == (1, 7)
    assert manifest.header.nominal["emotion"].classes == ("glad", "cross")
    assert (found.header.version, found.header.licence) == ("2.1.0", "CC0-1.0")
    assert table.loc["audio_dev1", "speaker_id"] == "devb"
    assert table.loc["audio_dev1", "arousal"] == 5.5
    assert table.loc["audio_dev1", "emotion"] == ""
    assert "split" not in table
    assert any(
        r.startswith("the database's split is left out, because 2 utterances are in no part") for r in found.warnings
    )
    assert table.loc[["audio_long_0", "audio_long_1"], ["start", "end"]].to_numpy().tolist() == [[0, 1.5], [1.5, 3]]
    with pytest.raises(InputError, match=r"is no audformat database: it has no db\.yaml"):
        import_corpus("audformat", emo_db(tmp_path))
