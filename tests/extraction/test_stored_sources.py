"""Extraction from archives and tables: the cache of files, resumed, pruned, repaired and quarantined like it."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.cache_rows import content_hash
from helpers.preloaded import preloaded_context
from helpers.speech_models import load_exact
from helpers.stored_corpora import AUDIO, pack_tar, sources, write_files, write_parquet
from helpers.voices import write_table
from transformers import Wav2Vec2FeatureExtractor

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.audio_hashes import AudioHashes, records
from layerprobe.probe.data.audio_reader import Quarantine, read_audio
from layerprobe.probe.data.inputs import AudioReader
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.stored import stored_audio
from layerprobe.probe.encoders.loading import EncoderSettings
from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob, extract_in_processes
from layerprobe.probe.extraction.estimate import sampled_durations
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.extraction.repair import repair
from layerprobe.probe.extraction.sklearn_api import LayerEmbedder
from layerprobe.probe.pretraining.audio_memory import read_into_memory
from layerprobe.probe.progress import NullProgress

KINDS = ("tar", "parquet", "arrow", "files that rows name")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return folder, sources(folder, write_files(folder / "wav", 9, seconds=0.4))


@pytest.fixture(scope="module")
def encoder(folders):
    return load_exact(folders["hubert"])


@pytest.fixture(scope="module")
def of_files(corpus, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    extract(manifest(folder, corpus[1]["files"]), encoder, folder / "a.zarr")
    return folder / "a.zarr"


def manifest(folder, paths):
    rows = [
        {"utterance_id": f"u{k}", "path": path, "speaker_id": f"s{k % 3}", "arousal": 1 + k % 7}
        for k, path in enumerate(paths)
    ]
    return read_manifest(write_table(folder, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_is_that_of_files_and_is_not_encoded_again(corpus, encoder, of_files, tmp_path, kind, monkeypatch):
    table = manifest(tmp_path, corpus[1][kind])
    cache = extract(table, encoder, tmp_path / "a.zarr")
    assert content_hash(tmp_path / "a.zarr") == content_hash(of_files)
    assert cache.audio_hashes.tolist() == open_cache(of_files).audio_hashes.tolist()
    monkeypatch.setattr(AudioReader, "read", None)  # nothing is read again
    assert len(extract(table, encoder, tmp_path / "a.zarr").utterance_ids) == 9
    kept = manifest(tmp_path, corpus[1][kind][:4])
    assert len(extract(kept, encoder, tmp_path / "a.zarr", prune=True).utterance_ids) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_may_change_from_files_to_another_source_without_encoding(
    corpus, encoder, of_files, tmp_path, kind, monkeypatch
):
    extract(manifest(tmp_path, corpus[1]["files"][:3]), encoder, tmp_path / "a.zarr")
    monkeypatch.setattr(AudioReader, "read", None)
    assert len(extract(manifest(tmp_path, corpus[1][kind][:3]), encoder, tmp_path / "a.zarr").utterance_ids) == 3


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_several_processes_give_the_bytes_of_one(corpus, folders, of_files, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(
        "layerprobe.probe.extraction.distributed.multiprocess.get_context", lambda _: preloaded_context()
    )
    hubert = EncoderSettings(str(folders["hubert"]), device="cpu", precision="float32")
    job = ExtractionJob(manifest(tmp_path, corpus[1][kind]).path, True, hubert, tmp_path / "a.zarr")
    assert extract_in_processes(job, 2) == 9
    assert content_hash(tmp_path / "a.zarr") == content_hash(of_files)


@pytest.mark.parametrize("kind", ["tar", "parquet", "arrow"])
def test_damaged_blocks_are_repaired_from_where_the_audio_lies(corpus, encoder, of_files, tmp_path, kind):
    table = manifest(tmp_path, corpus[1][kind])
    extract(table, encoder, tmp_path / "a.zarr")
    block = tmp_path / "a.zarr" / "embeddings" / "c" / "0" / "0" / "0" / "0"
    content = block.read_bytes()
    block.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    assert repair(tmp_path / "a.zarr", table, encoder).n_encoded == 9
    assert verify(tmp_path / "a.zarr") == []
    assert content_hash(tmp_path / "a.zarr") == content_hash(of_files)


def test_rows_that_can_not_be_read_are_quarantined_and_the_others_are_encoded(encoder, tmp_path):
    files = write_files(tmp_path / "wav", 3, seconds=0.4)
    cells = [{"bytes": f.read_bytes(), "path": f.name} for f in files]
    cells[1] = {"bytes": None, "path": None}
    rows = write_parquet(tmp_path / "t.parquet", pa.array(cells, type=AUDIO))
    members = pack_tar(tmp_path / "a.tar", files)
    table = manifest(tmp_path, [*rows, *members])
    whole = (tmp_path / "a.tar").read_bytes()
    at = whole.index(files[2].read_bytes())
    (tmp_path / "a.tar").write_bytes(whole[: at + 200])  # after the manifest was checked
    cache = extract(table, encoder, tmp_path / "a.zarr")
    assert cache.utterance_ids.tolist() == ["u0", "u2", "u3", "u4"]
    refused = cache.quarantine.set_index("utterance_id")
    assert refused["path"].to_dict() == {"u1": rows[1], "u5": members[2]}
    assert refused["reason"]["u1"].startswith("its row holds no audio (null).")
    assert "is cut within this member: 200 of its" in refused["reason"]["u5"]
    (tmp_path / "a.tar").write_bytes(whole)
    assert extract(table, encoder, tmp_path / "a.zarr").utterance_ids.tolist() == ["u0", "u2", "u3", "u4", "u5"]


def test_only_the_changed_members_of_a_new_archive_are_encoded_again(corpus, encoder, tmp_path):
    files = write_files(tmp_path / "wav", 3, seconds=0.4)
    table = manifest(tmp_path, pack_tar(tmp_path / "a.tar", files))
    first = extract(table, encoder, tmp_path / "a.zarr").audio_hashes.tolist()
    files[1].write_bytes(files[0].read_bytes())
    pack_tar(tmp_path / "a.tar", files)
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    logged = []

    class Lines(NullProgress):
        def log(self, line):
            logged.append(line)

    second = extract(table, encoder, tmp_path / "a.zarr", progress=Lines()).audio_hashes.tolist()
    assert second == [first[0], first[0], first[2]]
    assert "1 utterances changed since they were cached (first: u1); re-encoding them." in logged


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_and_the_transformer_read_the_same(corpus, encoder, tmp_path, kind):
    tables = [pd.DataFrame({"utterance_id": range(9), "path": corpus[1][name]}) for name in ("files", kind)]
    assert sampled_durations(tables[0]) == sampled_durations(tables[1])
    embedder = LayerEmbedder(encoder)
    embedded = [embedder.fit(table["path"]).transform(table["path"]) for table in tables]
    assert np.array_equal(*embedded)


@pytest.mark.parametrize("kind", KINDS)
def test_pre_training_reads_the_same(corpus, kind):
    same = {"utterance_id": range(9), "speaker_id": "s"}
    tables = [pd.DataFrame(same | {"path": corpus[1][name]}) for name in ("files", kind)]
    read = [read_into_memory(table, Wav2Vec2FeatureExtractor(), progress=NullProgress()) for table in tables]
    assert read[0].content_hash() == read[1].content_hash()
    assert read[0].quarantine["reason"].tolist() == read[1].quarantine["reason"].tolist()


def test_a_reader_with_several_threads_gives_rows_in_order(corpus):
    rows = list(records(pd.DataFrame({"utterance_id": [f"u{k}" for k in range(9)], "path": corpus[1]["parquet"]})))
    reader = AudioReader(AudioHashes(), sampling_rate=16_000)
    read = dict(read_audio(rows, reader.read, quarantine=Quarantine(), threads=4))
    assert [len(read[k].data) for k in range(9)] == [round(16_000 * (0.4 + 0.05 * k)) for k in range(9)]


def test_a_long_recording_in_an_archive_is_read_once_for_its_spans(tmp_path, monkeypatch):
    files = write_files(tmp_path / "wav", 1, seconds=2)
    (address,) = pack_tar(tmp_path / "a.tar", files)
    reads = []
    monkeypatch.setattr(
        stored_audio.ArchiveMember,
        "_read",
        lambda self, of=stored_audio.ArchiveMember._read: reads.append(1) or of(self),
    )
    for k in range(8):
        span = {"start": k / 4, "end": (k + 1) / 4}
        expected = read_audio_file(files[0], sampling_rate=None, **span)
        assert np.array_equal(read_audio_file(address, sampling_rate=None, **span), expected)
    assert len(reads) == 1
