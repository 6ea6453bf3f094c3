"""Shards of webdataset and cuts of lhotse imported: the audio of each row is that which was written."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from collections import Counter

import numpy as np
import pytest
from helpers.command_line import refused, run
from helpers.corpus_trees import write
from helpers.dataset_trees import (
    RATINGS,
    SPEAKERS,
    N,
    assert_audio_is_that_of_the_rows,
    import_and_read,
    lhotse_manifests,
    webdataset_shards,
)
from helpers.stored_corpora import wave_bytes

from layerprobe.probe.data.importers import webdataset
from layerprobe.probe.data.importers.webdataset import expand_braces, find_shards
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.stored.stored_audio import locate

OF_SHARDS = ("--map", "arousal=rating.arousal", "emotion=cls", "--scale", "arousal=1:7")
OF_CUTS = ("--map", "emotion=labels.emotion", "--scale", "arousal=1:7")


def test_shards_with_json_text_and_classes(tmp_path):
    pytest.importorskip("webdataset")
    manifest = import_and_read("webdataset", webdataset_shards(tmp_path / "s"), tmp_path / "my.csv", *OF_SHARDS)
    table = manifest.table
    assert table["utterance_id"].tolist() == [f"u{k}" for k in range(N)]
    assert table["arousal"].tolist() == RATINGS
    assert table["speaker_id"].tolist() == SPEAKERS
    assert table["transcript"].tolist() == [f"text {k}" for k in range(N)]
    assert table["emotion"].tolist() == ["0", "1"] * 3
    assert (tmp_path / "my.csv").read_text().splitlines()[4].split(",")[1] == "tar://s/shard-001.tar#part1/u3.flac"
    assert_audio_is_that_of_the_rows(manifest, range(N), kind="FLAC")


def test_members_are_read_in_their_order_without_audio(tmp_path, monkeypatch):
    pytest.importorskip("webdataset")
    path = find_shards(webdataset_shards(tmp_path / "s", n_shards=1))[0]
    spans = []

    class Recorded(io.FileIO):
        def read(self, size=-1):
            spans.append((self.seek(0, io.SEEK_CUR), size))
            return super().read(size)

    with tarfile.open(path) as archive:
        audio = [(m.offset_data, m.offset_data + m.size) for m in archive if m.name.endswith(".flac")]
    monkeypatch.setattr(webdataset.Path, "open", lambda path, mode: Recorded(path, mode))
    assert len(list(webdataset._samples(path, Counter()))) == len(audio) > 2
    inside = [max(0, min(at + n, end) - max(at, begin)) for at, n in spans for begin, end in audio]
    assert sum(inside) <= len(audio)  # tarfile looks at the last byte before each header
    assert [at for at, _ in spans[2:]] == sorted(at for at, _ in spans[2:])  # after a look at the beginning


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("{a,b}-{9..10}.tar", ["a-9.tar", "a-10.tar", "b-9.tar", "b-10.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_are_expanded_as_a_shell_does(pattern, expected):
    assert expand_braces(pattern) == expected


def test_folders_stars_and_splits_of_shards(tmp_path):
    for name in ("train-0.tar", "train-1.tar", "val-0.tar"):
        write(tmp_path / name)
    assert [p.name for p in find_shards(str(tmp_path))] == ["train-0.tar", "train-1.tar", "val-0.tar"]
    assert [p.name for p in find_shards(str(tmp_path / "train-*.tar"))] == ["train-0.tar", "train-1.tar"]


def shard(path, members):
    """A tar archive by the standard library."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            file = write(path.parent / "member", content)
            archive.add(file, name)
    return path


def test_samples_of_several_recordings_and_without_audio(tmp_path):
    labels = json.dumps({"spk": "a", "arousal": 3})
    members = {
        "a.noisy.wav": b"n", "a.clean.wav": b"c", "a.json": labels, "b.json": labels, "c.clean.wav": b"c",
        "c.json": labels, "c.jpg": b"x", "__meta__.json": "{}",
    }  # fmt: skip
    path = shard(tmp_path / "x.tar", members)
    message = refused("manifest", "import", "webdataset", path, "--scale", "arousal=1:7", "--out", tmp_path / "my.csv")
    assert (
        "x.tar, sample a has several members of audio, clean.wav, noisy.wav. Choose one: --map path=clean.wav"
        in message
    )
    arguments = ("--scale", "arousal=1:7", "--map", "path=clean.wav", "--out", tmp_path / "my.csv")
    result = run("manifest", "import", "webdataset", path, *arguments)
    assert result.exit_code == 0, result.output
    assert "2 utterances of 1 speaker written; 2 skipped: sample without audio (1), member .jpg (1)." in result.stdout


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no archive at all", "can't be read as a tar archive: truncated header. Get it again."),
        (gzip.compress(b"a" * 4000, mtime=0), "is compressed by gzip, so that its members can't be read where they"),
        (None, "can't be read after a: truncated header. Get it again."),
    ],
    ids=["no archive", "compressed", "cut short"],
)
def test_damaged_shards_are_refused(tmp_path, content, expected):
    path = shard(tmp_path / "x.tar", {"a.wav": b"a" * 4000, "b.wav": b"b" * 4000})
    path.write_bytes(content or path.read_bytes()[:7000])
    message = refused("manifest", "import", "webdataset", path, "--out", tmp_path / "my.csv")
    assert str(path) in message
    assert expected in message


def test_a_hard_link_is_the_audio_and_the_labels_of_its_target(tmp_path):
    content_of_a = wave_bytes(np.hanning(400).astype(np.float32))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("a.wav", content_of_a), ("a.json", b'{"spk": "s", "arousal": 3}')):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target, kind in (
            ("b.wav", "./a.wav", tarfile.LNKTYPE),
            ("b.json", "./a.json", tarfile.LNKTYPE),
            ("c.wav", "/etc/passwd", tarfile.SYMTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    arguments = ("--scale", "arousal=1:7", "--out", tmp_path / "my.csv")
    result = run("manifest", "import", "webdataset", tmp_path / "x.tar", *arguments)
    assert "2 utterances of 1 speaker written; 1 skipped: link, or no file (1)." in result.stdout
    table = read_manifest(tmp_path / "my.csv").table
    assert table["arousal"].tolist() == [3.0, 3.0]
    assert [locate(path).read_bytes() for path in table["path"]] == [content_of_a, content_of_a]


def test_samples_of_one_name_have_ids_that_differ_or_are_refused(tmp_path):
    members = {"a.wav": b"a", "a.json": json.dumps({"spk": "a", "arousal": 3})}
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        shard(tmp_path / split / "000.tar", members)
    arguments = ("--scale", "arousal=1:7", "--out", tmp_path / "my.csv")
    result = run("manifest", "import", "webdataset", tmp_path / "{train,test}" / "000.tar", *arguments)
    assert result.exit_code == 0, result.output
    table = read_manifest(tmp_path / "my.csv").table
    assert table["utterance_id"].tolist() == ["train-000-a", "test-000-a"]
    assert table["split"].tolist() == ["train", "test"]
    path = shard(tmp_path / "x.tar", members | {"b.wav": b"b"})
    with tarfile.open(path, "a") as archive:
        archive.add(path.parent / "member", "a.wav")
    message = refused("manifest", "import", "webdataset", path, "--id", "{row}", *arguments)
    assert "x.tar has two members a.wav, of which only the last can be read" in message


def test_a_shard_with_a_damaged_header_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.wav", "b.wav", "c.wav"):
            archive.addfile(tarfile.TarInfo(name))
    content = bytearray(path.read_bytes())
    content[content.index(b"b.wav")] ^= 1
    path.write_bytes(content)
    message = refused("manifest", "import", "webdataset", path, "--no-speakers", "--out", tmp_path / "my.csv")
    assert "x.tar can't be read after a: what follows is no header of a member. Get it again." in message


def test_damaged_labels_and_missing_shards_are_named(tmp_path):
    path = shard(tmp_path / "x.tar", {"a.wav": b"a", "a.json": '{"spk": '})
    message = refused("manifest", "import", "webdataset", path, "--out", tmp_path / "my.csv")
    assert "x.tar, member a.json can't be read as JSON (" in message
    message = refused("manifest", "import", "webdataset", tmp_path / "x-{0..1}.tar", "--out", tmp_path / "my.csv")
    assert "x-0.tar can't be read, because there is no such file. Check the pattern" in message


@pytest.mark.parametrize("name", ["cuts", "trimmed", "recordings"])
def test_supervisions_are_utterances_with_their_spans(tmp_path, name):
    """The same by cuts of recordings, by cuts trimmed to supervisions, and by recordings next to supervisions."""
    pytest.importorskip("lhotse")
    paths = lhotse_manifests(tmp_path / "l")
    manifest = import_and_read("lhotse", paths[name], tmp_path / "my.csv", *OF_CUTS)
    table = manifest.table.sort_values("path", kind="stable")
    assert len(table) == 4
    assert table["start"].tolist() == [0.2, 1.2, 0.2, 1.2]
    assert table["end"].tolist() == pytest.approx([0.8, 1.8, 0.8, 1.8], abs=1e-9)
    assert table["speaker_id"].tolist() == ["s0", "s1"] * 2
    assert table["transcript"].tolist() == ["turn 0", "turn 1"] * 2
    assert table["gender"].tolist() == ["female"] * 4
    assert table["arousal"].tolist() == RATINGS[:4]
    assert manifest.header.nominal["emotion"].classes == ("anger", "joy")
    assert [p.rpartition("/")[2] for p in table["path"]] == ["r0.wav", "r0.wav", "r1.wav", "r1.wav"]
    assert run("manifest", "validate", tmp_path / "my.csv", "--audio").exit_code == 0


def test_a_supervision_beyond_its_cut_is_cut_at_its_end(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    paths = lhotse_manifests(tmp_path / "l")
    cuts = [cut.truncate(offset=0.5, duration=1.0) for cut in lhotse.load_manifest(paths["cuts"])]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "short.jsonl.gz")
    table = import_and_read("lhotse", tmp_path / "short.jsonl.gz", tmp_path / "my.csv", *OF_CUTS).table
    assert sorted(zip(table["start"], table["end"], strict=True)) == [(0.5, 0.8)] * 2 + [(1.2, 1.5)] * 2


def test_cuts_in_one_object_of_json_are_read(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    cuts = lhotse.load_manifest(lhotse_manifests(tmp_path / "l")["cuts"])
    cuts.to_file(tmp_path / "cuts.json")
    table = import_and_read("lhotse", tmp_path / "cuts.json", tmp_path / "my.csv", *OF_CUTS).table
    assert sorted(table["transcript"]) == ["turn 0", "turn 0", "turn 1", "turn 1"]
    write(tmp_path / "other.json", b"[3]")
    message = refused("manifest", "import", "lhotse", tmp_path / "other.json", *OF_CUTS, "--out", tmp_path / "b.csv")
    assert "other.json can't be read at entry 1 (ValueError: Unknown type of manifest: " in message


def test_mixed_transformed_and_missing_recordings_are_counted(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    paths = lhotse_manifests(tmp_path / "l")
    message = refused("manifest", "import", "lhotse", paths["fast"], *OF_CUTS, "--out", tmp_path / "my.csv")
    assert "no cut has audio that can be read: cut with transformed audio, such as another speed (2)." in message
    cuts = list(lhotse.load_manifest(paths["cuts"]))
    lhotse.CutSet.from_cuts([*cuts, cuts[0].mix(cuts[1])]).to_file(tmp_path / "m.jsonl.gz")
    (tmp_path / "l" / "r1.wav").unlink()
    result = run("manifest", "import", "lhotse", tmp_path / "m.jsonl.gz", *OF_CUTS, "--out", tmp_path / "my.csv")
    assert result.exit_code == 0, result.output
    assert "listed, but audio is missing (1), mixed or padded cut, whose audio is in no file (1)." in result.stdout


def test_recordings_written_from_another_folder_are_named(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    cuts = list(lhotse.load_manifest(lhotse_manifests(tmp_path / "l")["cuts"]))
    for cut in cuts:
        cut.recording.sources[0].source = f"corpus/{cut.recording_id}.wav"
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "m.jsonl.gz")
    message = refused("manifest", "import", "lhotse", tmp_path / "m.jsonl.gz", *OF_CUTS, "--out", tmp_path / "my.csv")
    assert "listed, but audio is missing (2). The first is corpus/r0.wav, sought from this folder and from" in message
    assert "Import from the folder in which lhotse wrote it." in message


def test_damaged_and_other_manifests_of_lhotse_are_refused(tmp_path):
    pytest.importorskip("lhotse")
    paths = lhotse_manifests(tmp_path / "l")
    text = gzip.decompress(paths["cuts"].read_bytes())
    write(tmp_path / "cut.jsonl", text[: len(text) - 40])
    message = refused("manifest", "import", "lhotse", tmp_path / "cut.jsonl", *OF_CUTS, "--out", tmp_path / "my.csv")
    assert f"{tmp_path / 'cut.jsonl'} can't be read at entry 2 (" in message
    arguments = ("manifest", "import", "lhotse", paths["supervisions"], "--out", tmp_path / "my.csv")
    assert "can't be read as cuts, for it holds SupervisionSet. Make cuts of it: lhotse cut simple" in refused(
        *arguments
    )
    message = refused("manifest", "import", "lhotse", tmp_path / "nowhere.jsonl", "--out", tmp_path / "my.csv")
    assert "nowhere.jsonl can't be read, because there is no such file. Check the path." in message


def test_without_lhotse_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lhotse", None)
    message = refused("manifest", "import", "lhotse", write(tmp_path / "cuts.jsonl"), "--out", tmp_path / "my.csv")
    assert "cuts.jsonl is read by lhotse. Install it: pip install lhotse." in message
