"""Manifests whose audio lies in archives and tables: checked, and refused with the row and the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.stored_corpora import KINDS, pack_tar, sources, write_files, write_parquet

from layerprobe.probe.data.manifest.read import read_manifest, read_numbered_manifest, read_utterances
from layerprobe.probe.data.manifest.schema import ManifestError
from layerprobe.probe.data.manifest_warnings import manifest_warnings
from layerprobe.probe.data.stored.locations import relative
from layerprobe.probe.data.transcripts import FoundTranscripts, add_transcripts
from layerprobe.probe.exceptions import InputError

HEADER = """format_version = 1
corpus = "stored"

[targets.arousal]
minimum = 1
maximum = 7
meaning = "calm to excited"
"""


def write(folder, paths, name="my.csv"):
    table = pd.DataFrame({"utterance_id": [f"u{k}" for k in range(len(paths))], "path": paths, "speaker_id": "s"})
    table.assign(arousal=4).to_csv(folder / name, index=False)
    (folder / name).with_suffix(".toml").write_text(HEADER)
    return folder / name


def problems(path):
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_relative_addresses_start_in_the_folder_of_the_manifest(tmp_path, monkeypatch, kind):
    stored = sources(tmp_path, write_files(tmp_path / "wav", 4))[kind]
    path = write(tmp_path, [relative(one, tmp_path) for one in stored])
    monkeypatch.chdir("/")
    assert read_manifest(path).table["path"].tolist() == stored
    assert read_utterances(path)["path"].tolist() == stored


def test_each_row_with_a_problem_is_named_with_its_reason(tmp_path):
    files = write_files(tmp_path / "wav", 3)
    pack_tar(tmp_path / "a.tar", files)
    write_parquet(tmp_path / "t.parquet", np.array([f.read_bytes() for f in files], dtype=object).tolist())
    text = problems(
        write(
            tmp_path,
            [
                "tar://a.tar#clips/u0.wav",
                "tar://a.tar#u0.wav",
                "tar://folder/b.tar#u0.wav",
                "parquet://t.parquet#2",
                "parquet://t.parquet#3",
                "parquet://t.parquet?column=speech#0",
                "parquet://t.parquet#two",
                "nostore://b/a.wav",
                "wav/u0.wav",
                "wav/u9.wav",
            ],
        )
    )
    assert "has 7 problems" in text
    assert (
        f"row 3: {tmp_path}/a.tar has no member 'u0.wav'. Correct the name, or pack the archive again [LP235]" in text
    )
    assert f"row 4: no file at {tmp_path}/folder/b.tar [LP143]" in text
    assert f"row 6: {tmp_path}/t.parquet has 3 rows, so that row 3 (counted from 0) is beyond its end [LP235]" in text
    assert "row 7: " in text
    assert "has no column 'speech'; audio may be it" in text
    assert "row 8: path 'parquet://t.parquet#two' has the row 'two', which is no number from 0 on" in text
    assert "row 9: nostore://b/a.wav can't be opened" in text
    assert "row 11: no file at" in text


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.null()])
def test_a_table_of_a_dataset_is_recognised_whether_it_holds_bytes_or_paths_alone(tmp_path, kind):
    column = pa.array([{"bytes": None, "path": "a.wav"}], type=pa.struct([("bytes", kind), ("path", pa.string())]))
    write_parquet(tmp_path / "t.parquet", column, name="speech")
    with pytest.raises(InputError, match="is a table of a Hugging Face dataset, with its audio in column speech"):
        read_manifest(tmp_path / "t.parquet")


def test_a_damaged_archive_is_looked_at_once_and_named_in_each_of_its_rows(tmp_path, monkeypatch):
    (tmp_path / "a.tar").write_bytes(b"no archive at all" * 100)
    opened = []
    from layerprobe.probe.data.stored import stored_audio

    monkeypatch.setattr(stored_audio, "_index", lambda a, read=stored_audio._index: opened.append(a) or read(a))
    text = problems(write(tmp_path, [f"tar://a.tar#{k}.wav" for k in range(5)]))
    assert text.count("can't be read as a tar archive") == 5
    assert len(opened) == 1


@pytest.mark.parametrize("kind", ["tar", "parquet", "arrow"])
def test_decoding_every_row_finds_copies_and_what_can_not_be_decoded(tmp_path, kind):
    files = write_files(tmp_path / "wav", 4)
    files[2].write_bytes(files[0].read_bytes())
    files[3].write_bytes(b"RIFF is all there is")
    path = write(tmp_path, [*sources(tmp_path, files)[kind], *sources(tmp_path, files)[kind][:1]])
    found = manifest_warnings(read_numbered_manifest(path), audio=True)
    assert [(w.name, w.rows) for w in found] == [
        ("duplicate-audio", (2, 6)),
        ("undecodable-audio", (5,)),
        ("same-audio", (2, 4, 6)),
    ]
    assert "/" not in found[1].message.split(":")[0]


def test_archives_outside_the_folder_of_the_corpus_are_named(tmp_path):
    (tmp_path / "corpus").mkdir()
    files = write_files(tmp_path / "corpus" / "wav", 2)
    inside, _ = pack_tar(tmp_path / "corpus" / "a.tar", files)
    _, outside = pack_tar(tmp_path / "b.tar", files)
    found = manifest_warnings(read_numbered_manifest(write(tmp_path / "corpus", [inside, outside])))
    assert [(w.name, w.rows) for w in found] == [("path-outside-corpus", (3,))]


def test_transcripts_are_found_by_the_name_of_a_member(tmp_path):
    table = pd.DataFrame(
        {"utterance_id": ["a", "b"], "path": ["tar:///a.tar#x/clip1.wav", "parquet:///clip2.parquet#0"]}
    )
    added = add_transcripts(table, FoundTranscripts({"clip1": "one", "clip2": "two"}, "text"))
    assert added["transcript"].tolist() == ["one", ""]  # a table isn't named as its rows are
