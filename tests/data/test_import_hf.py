"""Hugging Face datasets imported: paths are addresses of rows, and their audio is that of the dataset."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.command_line import refused, run
from helpers.corpus_trees import write
from helpers.dataset_trees import (
    RATINGS,
    SPEAKERS,
    N,
    assert_audio_is_that_of_the_rows,
    audio_bytes,
    hf_dataset,
    hf_parquet,
    import_and_read,
)
from helpers.stored_corpora import AUDIO

from layerprobe.probe.data.importers.hf_files import dataset_tables
from layerprobe.probe.data.importers.hf_metadata import metadata_parts
from layerprobe.probe.data.manifest.read import read_manifest

pytest.importorskip("datasets")
MAPPED = ("--column", "arousal=EmoAct", "--scale", "arousal=1:7")


def imported(source, out, *arguments):
    return import_and_read("hf", source, out, *(arguments or MAPPED))


def test_parquet_files_of_the_hub(tmp_path):
    """Row groups of two rows; ids are file names, classes those of the ClassLabel, the licence that of the card."""
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    hf_dataset(range(4)).to_parquet(folder / "data" / "train-00000-of-00002.parquet", batch_size=2)
    hf_dataset(range(4, N)).to_parquet(folder / "data" / "train-00001-of-00002.parquet")
    write(folder / "README.md", "---\nlicense: cc-by-4.0\n---\n")
    manifest = imported(folder, tmp_path / "my.csv")
    table = manifest.table
    assert table["utterance_id"].tolist() == [f"a{k}" for k in range(N)]
    assert table["arousal"].tolist() == RATINGS
    assert table["speaker_id"].tolist() == SPEAKERS
    assert table["emotion"].tolist() == ["joy", "anger"] * 3
    assert manifest.header.nominal["emotion"].classes == ("joy", "anger")
    assert manifest.header.licence == "cc-by-4.0"
    assert "split" not in table
    assert (tmp_path / "my.csv").read_text().splitlines()[6].split(",")[1] == (
        "parquet://hub/data/train-00001-of-00002.parquet#1"
    )
    assert_audio_is_that_of_the_rows(manifest, range(N))


def test_a_folder_by_save_to_disk_has_its_splits(tmp_path):
    from datasets import DatasetDict

    DatasetDict(train=hf_dataset(range(4)), validation=hf_dataset(range(4, N))).save_to_disk(tmp_path / "saved")
    manifest = imported(tmp_path / "saved", tmp_path / "my.csv")
    assert manifest.table["split"].tolist() == ["train"] * 4 + ["development"] * 2
    assert manifest.table["path"].str.startswith("arrow://").all()
    assert_audio_is_that_of_the_rows(manifest, range(N))
    only = imported(tmp_path / "saved", tmp_path / "one.csv", *MAPPED, "--split", "dev")
    assert only.table["utterance_id"].tolist() == ["a4", "a5"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("state.json", {"_data_files": [{}]}, "_data_files names no files"),
        ("state.json", {}, "it has no list _data_files"),
        ("dataset_dict.json", {"splits": None}, "it has no list splits"),
    ],
)
def test_a_damaged_list_of_tables_is_named(tmp_path, name, content, reason):
    write(tmp_path / name, json.dumps(content))
    message = refused("manifest", "import", "hf", tmp_path, *MAPPED, "--out", tmp_path / "my.csv")
    assert f"{tmp_path / name} can't be read ({reason}). Save the dataset again" in message


def test_a_split_without_a_dict_and_a_single_table(tmp_path):
    hf_dataset().save_to_disk(tmp_path / "saved")
    assert_audio_is_that_of_the_rows(imported(tmp_path / "saved", tmp_path / "a.csv"), range(N))
    file = hf_parquet(tmp_path / "hub") / "data" / "train-00000-of-00001.parquet"
    assert_audio_is_that_of_the_rows(imported(file, tmp_path / "b.csv"), range(N))
    file = file.rename(tmp_path / "plain.parquet")
    message = refused("manifest", "import", "hf", file, *MAPPED, "--split", "dev", "--out", tmp_path / "c.csv")
    assert "has no split 'dev', because it names none. Leave out --split. [LP197]" in message


def test_only_columns_without_audio_are_read(tmp_path, monkeypatch):
    """No row group's bytes are decoded: statistics state that none is null."""
    folder = hf_parquet(tmp_path / "hub")
    read = []
    whole = pq.ParquetFile.read

    def recorded(self, *arguments, columns=None, **options):
        read.append(columns)
        return whole(self, *arguments, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", recorded)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    imported(folder, tmp_path / "my.csv")
    assert read == [["EmoAct", "spk", "emotion", "audio.path"]]


def test_rows_without_bytes_are_files_or_counted(tmp_path):
    """A null cell, a path that exists, a path that does not."""
    write(tmp_path / "wav" / "b.wav", audio_bytes(1))
    cells = [{"bytes": audio_bytes(0), "path": None}, {"bytes": None, "path": "wav/b.wav"}, None,
             {"bytes": None, "path": "wav/nowhere.wav"}]  # fmt: skip
    table = pa.table({"audio": pa.array(cells, AUDIO), "spk": SPEAKERS[:4], "EmoAct": RATINGS[:4]})
    pq.write_table(table, tmp_path / "mixed.parquet")
    result = run("manifest", "import", "hf", tmp_path / "mixed.parquet", *MAPPED, "--out", tmp_path / "my.csv")
    assert result.exit_code == 0, result.output
    assert "row without audio (1)" in result.stdout
    assert "listed, but audio is missing (1)" in result.stdout
    manifest = read_manifest(tmp_path / "my.csv")
    assert manifest.table["utterance_id"].tolist() == ["mixed-0", "mixed-1"]
    assert_audio_is_that_of_the_rows(manifest, range(2))


def test_a_table_of_paths_alone(tmp_path, monkeypatch):
    """As push_to_hub(embed_external_files=False) writes it: every cell of bytes is null."""
    write(tmp_path / "elsewhere" / "wav" / "a0.wav", audio_bytes(1))
    monkeypatch.chdir(tmp_path / "elsewhere")  # whose files of the same names are not the dataset's
    cells = [{"bytes": None, "path": f"wav/a{k}.wav"} for k in range(N)]
    for k in range(N):
        write(tmp_path / "hub" / "wav" / f"a{k}.wav", audio_bytes(k))
    (tmp_path / "hub" / "data").mkdir()
    table = pa.table({"audio": pa.array(cells, AUDIO), "spk": SPEAKERS, "EmoAct": RATINGS})
    pq.write_table(table, tmp_path / "hub" / "data" / "train.parquet")
    manifest = imported(tmp_path / "hub", tmp_path / "my.csv")
    assert manifest.table["path"].tolist() == [str(tmp_path / "hub" / "wav" / f"a{k}.wav") for k in range(N)]
    assert_audio_is_that_of_the_rows(manifest, range(N))


def test_rows_of_a_split_are_numbered_through_its_tables(tmp_path):
    """As load_dataset numbers them, where names of audio files are repeated."""
    for number in range(2):
        hf_parquet(tmp_path / "hub", hf_dataset(range(3)), name=f"data/train-0000{number}-of-00002")
    manifest = imported(tmp_path / "hub", tmp_path / "my.csv")
    assert manifest.table["utterance_id"].tolist() == [f"train-{k}" for k in range(6)]


def test_the_column_of_audio_is_chosen_where_there_are_two(tmp_path):
    from datasets import Audio

    second = [{"bytes": audio_bytes(10 + k), "path": f"b{k}.wav"} for k in range(N)]
    dataset = hf_dataset(noisy=second).cast_column("noisy", Audio())
    folder = hf_parquet(tmp_path / "hub", dataset)
    message = refused("manifest", "import", "hf", folder, *MAPPED, "--out", tmp_path / "my.csv")
    assert "has several columns of audio, audio, noisy. Choose one: --map path=audio." in message
    manifest = imported(folder, tmp_path / "my.csv", *MAPPED, "--map", "path=noisy")
    assert_audio_is_that_of_the_rows(manifest, range(10, 10 + N))


def test_ids_by_template_and_repeated_names(tmp_path):
    from datasets import DatasetDict

    DatasetDict(train=hf_dataset(range(3)), test=hf_dataset(range(3))).save_to_disk(tmp_path / "saved")
    manifest = imported(tmp_path / "saved", tmp_path / "my.csv")
    assert manifest.table["utterance_id"].tolist()[::3] == ["train-0", "test-0"]
    manifest = imported(tmp_path / "saved", tmp_path / "b.csv", *MAPPED, "--id", "{split}/{file[1:]}-{spk}")
    assert manifest.table["utterance_id"].tolist()[3] == "test/0-ann"
    message = refused(
        "manifest", "import", "hf", tmp_path / "saved", *MAPPED, "--id", "{file}", "--out", tmp_path / "c.csv"
    )
    assert "utterance id 'a0' is also that of data-00000-of-00001.arrow, row 0. Choose ids that differ" in message


def test_structures_are_columns_and_lists_are_named(tmp_path):
    nested = hf_dataset(labels=[{"act": r, "note": "x"} for r in RATINGS], votes=[[1, 2]] * N)
    folder = hf_parquet(tmp_path / "hub", nested)
    result = run(
        "manifest", "import", "hf", folder, "--map", "arousal=labels.act", "--scale", "arousal=1:7", "--out",
        tmp_path / "my.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "columns votes left out, because they hold no texts or numbers" in result.stdout
    assert read_manifest(tmp_path / "my.csv").table["arousal"].tolist() == RATINGS


def test_start_and_end_are_no_spans_unless_they_are_named(tmp_path):
    """Cut audio with the times of the recording that it was cut from."""
    dataset = hf_dataset(start=[float(k) for k in range(N)], end=[k + 0.5 for k in range(N)])
    folder = hf_parquet(tmp_path / "hub", dataset)
    result = run("manifest", "import", "hf", folder, *MAPPED, "--out", tmp_path / "my.csv")
    assert "columns start and end left out: each audio file is one utterance" in result.stdout
    assert not {"start", "end"} & set(read_manifest(tmp_path / "my.csv").table)
    spans = imported(folder, tmp_path / "b.csv", *MAPPED, "--map", "start=start", "end=end").table
    assert spans["start"].tolist() == [float(k) for k in range(N)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--map", "arousal=Emo"), "hub has no column 'Emo' for arousal (there are EmoAct, spk, emotion). Name one"),
        (("--map", "arousal=EmoAct"), "hub: arousal has ratings from 1.5 to 6.5, and their scale is not stated."),
        (("--map", "arousal=emotion", "--scale", "arousal=1:7"), "row 0: arousal is 'joy', not a number. Correct"),
        (("--scale", "valence=1:7"), "hub has no column 'valence' for --scale"),
        (("--scale", "arousal=7:1"), "--scale arousal=7:1 can't be read. Write --scale NAME=LOW:HIGH"),
        (("--map", "arousal"), "--map arousal can't be read. Write --map NAME=COLUMN"),
        (("--map", "x=spk", "x=EmoAct"), "--map states x twice, as spk and as EmoAct. Keep one."),
        (("--split", "dev"), "hub has no split 'dev' (there are train). Name one of these by --split."),
        (("--subset", "en"), "has no subset 'en' (there are none). Name one of these by --subset"),
        (("--audio", "x"), "manifest import hf has no option --audio. Leave it out."),
    ],
)
def test_wrong_choices_are_refused_in_a_sentence(tmp_path, arguments, expected):
    folder = hf_parquet(tmp_path / "hub")
    assert expected in refused("manifest", "import", "hf", folder, "--out", tmp_path / "my.csv", *arguments)


def test_speakers_that_are_not_clear_are_refused_with_the_columns(tmp_path):
    dataset = hf_dataset().rename_column("spk", "who")
    folder = hf_parquet(tmp_path / "hub", dataset)
    message = refused("manifest", "import", "hf", folder, *MAPPED, "--out", tmp_path / "my.csv")
    assert "hub: no column names the speakers (there are EmoAct, who, emotion). Name one: --map speaker_id=" in message
    assert imported(folder, tmp_path / "a.csv", *MAPPED, "--map", "speaker_id=who").n_speakers == 3
    assert imported(folder, tmp_path / "b.csv", *MAPPED, "--no-speakers").n_speakers == 0
    two = hf_parquet(tmp_path / "two", hf_dataset(actor=["x"] * N))
    message = refused("manifest", "import", "hf", two, *MAPPED, "--out", tmp_path / "my.csv")
    assert "two: columns spk, actor may each name the speakers. Choose one: --map speaker_id=spk." in message


def test_subsets_are_named(tmp_path):
    """As push_to_hub(config_name=…) writes them."""
    hf_parquet(tmp_path / "hub", hf_dataset(range(3)), name="da/train-00000-of-00001")
    folder = hf_parquet(tmp_path / "hub", hf_dataset(range(3, 6)), name="en/train-00000-of-00001")
    message = refused("manifest", "import", "hf", folder, *MAPPED, "--out", tmp_path / "my.csv")
    assert "has several subsets, da, en. Choose one by --subset." in message
    manifest = imported(folder, tmp_path / "my.csv", *MAPPED, "--subset", "en")
    assert_audio_is_that_of_the_rows(manifest, range(3, 6))


def test_tables_of_the_converted_branch_have_their_splits_by_folders(tmp_path):
    for name in ("default/train/0000", "default/test/0000", ".cache/train/0001"):
        write(tmp_path / f"{name}.parquet")
    assert [(split, path.parent.name) for split, path in dataset_tables(tmp_path)] == [
        ("test", "test"),
        ("train", "train"),
    ]


def test_a_name_on_the_hub_is_read_from_its_cache(tmp_path, monkeypatch):
    """A snapshot as huggingface_hub keeps it; there is no connection."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "cache" / "datasets--someone--voices"
    write(place / "refs" / "main", commit)
    hf_parquet(place / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    manifest = imported("someone/voices", tmp_path / "my.csv")
    assert (manifest.header.corpus, manifest.header.version) == ("someone/voices", commit)
    assert_audio_is_that_of_the_rows(manifest, range(N))
    message = refused("manifest", "import", "hf", "someone/others", *MAPPED, "--out", tmp_path / "b.csv")
    assert "someone/others is no folder here, and can't be had as a dataset of the hub" in message


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_of_audio_with_metadata_needs_no_library(tmp_path, kind, monkeypatch):
    import sys

    import pandas as pd

    monkeypatch.setitem(sys.modules, "datasets", None)
    table = pd.DataFrame({"file_name": [f"wav/a{k}.wav" for k in range(N)], "spk": SPEAKERS, "EmoAct": RATINGS})
    for k in range(N):
        write(tmp_path / "af" / "train" / "wav" / f"a{k}.wav", audio_bytes(k))
    path = tmp_path / "af" / "train" / f"metadata.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    else:
        table.to_parquet(path)
    manifest = imported(tmp_path / "af", tmp_path / "my.csv")
    assert manifest.table["arousal"].tolist() == RATINGS
    assert_audio_is_that_of_the_rows(manifest, range(N))


def test_no_folder_above_a_dataset_names_a_split_of_it(tmp_path):
    path = write(tmp_path / "test" / "corpus" / "metadata.csv", "file_name\na.wav\n")
    assert [part.split for part in metadata_parts(path.parent)] == [""]
    assert [part.split for part in metadata_parts(tmp_path / "test")] == ["test"]


def test_other_datasets_are_loaded_by_their_library(tmp_path, monkeypatch):
    """JSON lines that name files: load_dataset keeps them as text, and no audio is copied."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"speech": str(tmp_path / f"a{k}.wav"), "spk": SPEAKERS[k], "EmoAct": RATINGS[k]} for k in range(N)]
    for k in range(N):
        write(tmp_path / f"a{k}.wav", audio_bytes(k))
    write(tmp_path / "lines" / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    message = refused("manifest", "import", "hf", tmp_path / "lines", *MAPPED, "--out", tmp_path / "my.csv")
    assert "has no column of audio, a structure of bytes and path (there are speech, spk, EmoAct)" in message
    manifest = imported(tmp_path / "lines", tmp_path / "my.csv", *MAPPED, "--map", "path=speech")
    assert_audio_is_that_of_the_rows(manifest, range(N))


def test_without_the_library_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    write(tmp_path / "lines" / "train.jsonl", "{}\n")
    message = refused("manifest", "import", "hf", tmp_path / "lines", *MAPPED, "--out", tmp_path / "my.csv")
    assert "has no Parquet or Arrow tables, and such datasets are read by datasets. Install it: pip install" in message


def test_a_folder_that_is_no_dataset_is_refused_with_the_reason_of_the_library(tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused("manifest", "import", "hf", tmp_path / "empty", *MAPPED, "--out", tmp_path / "my.csv")
    assert message.startswith(f"Error: datasets can't load {tmp_path / 'empty'} (")
    message = refused("manifest", "import", "hf", "./nowhere", *MAPPED, "--out", tmp_path / "my.csv")
    assert "./nowhere is no folder or table of a dataset, and no name on the hub. Check the path." in message
    write(tmp_path / "cut" / "train.parquet", b"PAR1 no table")
    message = refused("manifest", "import", "hf", tmp_path / "cut", *MAPPED, "--out", tmp_path / "my.csv")
    assert "train.parquet can't be read as a table of a dataset: " in message
