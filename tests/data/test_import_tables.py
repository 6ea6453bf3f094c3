"""Tables of labels with a folder of audio: corpora that have no importer of their own."""

from __future__ import annotations

import pytest
from helpers.command_line import refused, run
from helpers.corpus_trees import write
from helpers.dataset_trees import emotale, import_and_read, mosei, nemo

from layerprobe.cli.several_values import repeated


def table(folder, *lines):
    return write(folder / "labels.csv", "\n".join(lines) + "\n")


def test_emotale_means_of_raters_and_speakers_in_file_names(tmp_path):
    folder = emotale(tmp_path / "EmoTale")
    raters = [f"{name}_r{k}=a{k}_{letter}" for name, letter in (("arousal", "A"), ("valence", "V")) for k in (1, 2, 3)]
    manifest = import_and_read(
        "table", folder / "annotations.csv", tmp_path / "my.csv", "--audio", folder / "audio", "--map",
        "speaker_id={file[3:6]}", "emotion=gt_emotion", *raters, "--scale", "arousal=1:5", "valence=1:5", "--id",
        "{file}",
    )  # fmt: skip
    rows = manifest.table.set_index("utterance_id")
    assert list(rows.index) == ["DK_001_A_1", "DK_001_N_1", "EN_001_H_1", "DK_003_S_1"]
    assert rows["speaker_id"].tolist() == ["001", "001", "001", "003"]  # one speaker in two languages
    assert rows.loc["DK_001_A_1", ["arousal", "arousal_r1", "arousal_r2", "arousal_r3"]].tolist() == [
        4.0,
        4.0,
        4.5,
        3.5,
    ]
    assert manifest.header.nominal["emotion"].classes == ("A", "H", "N", "S")
    assert rows.loc["EN_001_H_1", "path"].endswith("audio/EN/EN_001_H_1.wav")


def test_nemo_needs_its_folder_alone(tmp_path):
    folder = nemo(tmp_path / "nEMO")
    manifest = import_and_read(
        "table", folder / "data.tsv", tmp_path / "my.csv", "--audio", folder / "samples", "--map", "transcript=raw_text"
    )
    row = manifest.table.iloc[0]
    assert (row["utterance_id"], row["speaker_id"], row["gender"]) == ("EB0_anger_1", "EB0", "female")
    assert row["transcript"] == "Zażółć gęślą jaźń."
    assert manifest.header.nominal["emotion"].classes == ("anger", "surprised")


def test_mosei_clips_of_equal_names_are_found_by_their_videos(tmp_path):
    folder = mosei(tmp_path / "MOSEI")
    arguments = ("--audio", folder / "wav", "--scale", "sentiment=-3:3", "--map", "sentiment=label", "split=mode")
    arguments += ("speaker_id=video_id", "transcript=text")
    message = refused(
        "manifest",
        "import",
        "table",
        folder / "label.csv",
        *arguments,
        "--map",
        "path=clip_id",
        "--out",
        tmp_path / "a.csv",
    )
    assert f"label.csv, row 2: 1 is {folder / 'wav'}/-3g5yACwYnA/1.wav and " in message
    manifest = import_and_read(
        "table", folder / "label.csv", tmp_path / "my.csv", *arguments, "path={video_id}/{clip_id}.wav", "--id",
        "{video_id}_{clip_id}",
    )  # fmt: skip
    rows = manifest.table
    assert rows["utterance_id"].tolist()[:2] == ["-3g5yACwYnA_1", "-3g5yACwYnA_13"]
    assert rows["split"].tolist() == ["train"] * 2 + ["development"] * 2 + ["test"] * 2
    assert rows["sentiment"].tolist() == [-1.3333334, 2.0] * 3
    assert (manifest.header.targets["sentiment"].minimum, manifest.header.targets["sentiment"].maximum) == (-3, 3)
    assert rows["transcript"].tolist()[0] == "I see, twice"


def test_a_semicolon_table_with_decimal_commas_and_spans(tmp_path):
    write(tmp_path / "wav" / "Rec1.WAV")
    labels = table(tmp_path, "Aufnahme;von;bis;Sprecher;Erregung", "rec1;0,5;1,5;A;3,5", "rec1;2;3;B;4")
    manifest = import_and_read(
        "table", labels, tmp_path / "my.csv", "--audio", tmp_path / "wav", "--map", "path=Aufnahme", "start=von",
        "end=bis", "speaker_id=Sprecher", "arousal=Erregung", "--scale", "arousal=1:7",
    )  # fmt: skip
    assert manifest.table["start"].tolist() == [0.5, 2.0]
    assert manifest.table["arousal"].tolist() == [3.5, 4.0]
    assert manifest.table["utterance_id"].tolist() == ["labels-2", "labels-3"]  # one file, two rows


def test_missing_and_unlisted_files_are_counted(tmp_path):
    for name in ("a", "c", "d"):
        write(tmp_path / "wav" / f"{name}.wav")
    write(tmp_path / "wav" / "._a.wav")
    labels = table(tmp_path, "file,speaker,emotion", "a.wav,s1,joy", "b.wav,s1,joy", "c.wav,s2,fear")
    result = run("manifest", "import", "table", labels, "--audio", tmp_path / "wav", "--out", tmp_path / "my.csv")
    assert result.exit_code == 0, result.output
    summary = (
        "2 utterances of 2 speakers written; 3 skipped: listed, but audio is missing (1), audio that the table does "
    )
    assert summary + "not list (1), hidden file (1)." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--map", "path=datei"), "labels.csv has no column 'datei' for path (there are file, speaker, act)."),
        (("--audio", "nowhere"), "nowhere is not a folder. Name the folder of the audio files by --audio."),
        (("--scale", "arousal=1:7", "--map", "arousal=act"), "labels.csv, row 3: arousal is 'high', not a number."),
        (("--map", "x={missing}-1"), "labels.csv has no column 'missing' for x (there are file, speaker, act)."),
        ((), "labels.csv has no target: no column is arousal, valence, dominance, emotion (there are "),
        (("--split", "train"), "manifest import table has no option --split. Leave it out."),
        (("--fold", "1"), "manifest import table has no option --fold. Leave it out."),
        (("--classes", "act", "--id", "speaker"), "labels.csv, row 3: utterance id 's1' is also that of "),
    ],
)
def test_wrong_choices_are_refused_in_a_sentence(tmp_path, arguments, expected):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav")
    labels = table(tmp_path, "file,speaker,act", "a.wav,s1,3", "b.wav,s1,high")
    assert expected in refused("manifest", "import", "table", labels, *arguments, "--out", tmp_path / "my.csv")


def test_tables_without_files_or_with_two_such_columns_are_refused(tmp_path):
    labels = table(tmp_path, "name,speaker,emotion", "a,s1,joy", "b,s2,fear")
    message = refused("manifest", "import", "table", labels, "--out", tmp_path / "my.csv")
    assert "labels.csv: no column names the audio files (there are name, speaker, emotion)." in message
    labels = table(tmp_path, "file,wav,emotion", "a,b,joy", "b,a,fear")
    message = refused("manifest", "import", "table", labels, "--out", tmp_path / "my.csv")
    assert "labels.csv: columns file, wav may each name the audio files" in message
    labels = table(tmp_path, "file,speaker,emotion", "a,s1,joy", "b,s2,fear")
    message = refused("manifest", "import", "table", labels, "--out", tmp_path / "my.csv")
    assert "none of the 2 listed audio files exists in" in message


def test_classes_are_stated_or_found(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.wav")
    labels = table(tmp_path, "file,speaker,style", "a.wav,s1,loud", "b.wav,s1,soft", "c.wav,s2,")
    manifest = import_and_read("table", labels, tmp_path / "my.csv", "--classes", "style=soft,loud,whispered")
    assert manifest.header.nominal["style"].classes == ("soft", "loud", "whispered")
    manifest = import_and_read("table", labels, tmp_path / "b.csv", "--classes", "style")
    assert manifest.header.nominal["style"].classes == ("loud", "soft")


def test_several_values_of_an_option_and_paths_after_them():
    given = [
        "table",
        "--map",
        "a=b",
        "c={d}-{e}",
        "--scale=a=1:7",
        "f=0:1",
        "x/y=1.csv",
        "--out",
        "o=1.csv",
        "--map",
        "g=h",
    ]
    assert repeated(given) == [
        "table", "--map", "a=b", "--map", "c={d}-{e}", "--scale=a=1:7", "--scale", "f=0:1", "x/y=1.csv", "--out",
        "o=1.csv", "--map", "g=h",
    ]  # fmt: skip
