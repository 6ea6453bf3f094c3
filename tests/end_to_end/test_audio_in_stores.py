"""Audio and manifests behind URLs: servers of S3 and of pages run on this machine, and everything goes over ports."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from helpers.cache_rows import content_hash
from helpers.command_line import refused, run as command
from helpers.object_stores import served
from helpers.speech_models import load_exact
from helpers.stored_corpora import RATE, sources, wave_bytes, write_files

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.manifest.read import read_manifest, read_utterances
from layerprobe.probe.data.manifest.schema import ManifestError
from layerprobe.probe.data.stored import remote_files
from layerprobe.probe.data.stored.locations import relative
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.filesystem import resolve

HEADER = (
    'corpus = "stored"\nformat_version = 1\n[targets.arousal]\nminimum = 1\nmaximum = 7\nmeaning = "calm, excited"\n'
)
KINDS = ("files", "tar", "parquet", "files that rows name")


class Handler(SimpleHTTPRequestHandler):
    """Files below a folder; a file ``refused`` is forbidden, and of a ``doomed`` one half is sent, and then nothing."""

    seen: ClassVar[list[tuple[str, str]]] = []  # method and path of each request

    def send_head(self):
        self.seen.append((self.command, self.path))
        if "doomed" in self.path and self.command == "GET":
            content = (Path(self.directory) / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        if "refused" in self.path:
            return self.send_error(403)
        return super().send_head()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return folder, sources(folder, write_files(folder / "wav", 6))


@pytest.fixture(scope="module")
def s3(corpus):
    folder, _ = corpus
    with served():
        for file in folder.rglob("*"):
            if file.is_file():
                resolve(f"s3://corpora/c/{file.relative_to(folder)}").write_bytes(file.read_bytes())
        yield "s3://corpora/c"


@pytest.fixture
def web(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Handler.seen.clear()
    monkeypatch.setattr(remote_files, "WAITS", (0.01, 0.01))
    yield f"http://127.0.0.1:{server.server_port}", server
    server.shutdown()
    server.server_close()
    thread.join()


def write_manifest(folder, paths):
    ids = [f"u{k}" for k in range(len(paths))]
    table = pd.DataFrame({"utterance_id": ids, "path": paths, "speaker_id": [f"s{k % 3}" for k in range(len(paths))]})
    (folder / "my.csv").write_bytes(table.assign(arousal=np.arange(len(paths)) % 7 + 1).to_csv(index=False).encode())
    (folder / "my.toml").write_bytes(HEADER.encode())
    return folder / "my.csv"


def reason(path):
    with pytest.raises(InvalidAudioError) as error:
        read_audio_file(path, sampling_rate=None)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_and_its_audio_in_a_bucket_give_the_rows_of_files(corpus, s3, folders, tmp_path, kind):
    folder, stored = corpus
    local = extract(
        read_manifest(write_manifest(tmp_path, stored["files"])), load_exact(folders["hubert"]), tmp_path / "a"
    )
    write_manifest(resolve(s3), [relative(path, folder) for path in stored[kind]])
    done = command(
        "extract", f"{s3}/my.csv", "--encoder", folders["hubert"], "--precision", "float32", "--device", "cpu",
        "--out", tmp_path / "b.zarr",
    )  # fmt: skip
    assert "6 utterances extracted" in done.stdout, done.output
    assert content_hash(tmp_path / "b.zarr") == content_hash(tmp_path / "a")
    assert open_cache(tmp_path / "b.zarr").audio_hashes.tolist() == local.audio_hashes.tolist()


def test_manifests_in_a_bucket_are_validated_swept_and_refused(corpus, s3, tmp_path):
    folder, stored = corpus
    write_manifest(resolve(s3), ["wav/u0.wav", "wav/u9.wav", "tar://shard%231.tar#no.wav", "s3://nobucket/a.wav"])
    text = refused("manifest", "validate", f"{s3}/my.csv")
    assert "has 3 problems" in text
    assert f"row 3: no file at {s3}/wav/u9.wav [LP143]" in text
    assert f"row 4: {s3}/shard#1.tar has no member 'no.wav'" in text
    assert "row 5: no file at s3://nobucket/a.wav [LP143]" in text
    assert "does not exist" in refused("manifest", "validate", f"{s3}/none.csv")
    write_manifest(resolve(s3), [relative(path, folder) for path in stored["files"]])
    assert "6 utterances" in command("manifest", "validate", f"{s3}/my.csv", "--audio").stdout
    table = pd.DataFrame({"utterance_id": ["a"], "path": ["wav/u0.wav"]})
    table.to_parquet(tmp_path / "t.parquet")
    resolve(f"{s3}/u.parquet").write_bytes((tmp_path / "t.parquet").read_bytes())
    assert read_utterances(f"{s3}/u.parquet")["path"].tolist() == [f"{s3}/wav/u0.wav"]


def test_a_folder_with_many_objects_is_listed_once(s3, monkeypatch):
    from layerprobe.probe.data.stored import stored_checks

    names = [f"many/{k}.wav" for k in range(25)]
    for name in names[:-1]:
        resolve(f"{s3}/{name}").write_bytes(b"some bytes")
    looked_up = []
    monkeypatch.setattr(stored_checks, "_problem", lambda p, of=stored_checks._problem: looked_up.append(p) or of(p))
    found = stored_checks.problems_of_stored([f"{s3}/{name}" for name in names])
    assert looked_up == list(found) == [f"{s3}/{names[-1]}"]


def test_a_replaced_object_is_hashed_and_encoded_again(corpus, s3, folders, tmp_path):
    url, hashes = f"{s3}/changing.wav", AudioHashes()
    tone = 0.3 * np.sin(np.arange(RATE) / 9).astype(np.float32)
    resolve(url).write_bytes(wave_bytes(tone))
    manifest = read_manifest(write_manifest(tmp_path, [url]))
    encoder = load_exact(folders["hubert"])
    first = extract(manifest, encoder, tmp_path / "a").audio_hashes[0]
    assert first == hashes.hash_file(url)
    resolve(url).write_bytes(wave_bytes(tone[::-1]))
    second = extract(manifest, encoder, tmp_path / "a").audio_hashes[0]
    assert first != second == hashes.hash_file(url)


def test_pages_of_a_web_server_are_read_once_and_by_ranges(tmp_path, web):
    url, _ = web
    stored = sources(tmp_path, write_files(tmp_path / "wav", 4))
    for kind in ("files", "parquet"):
        for path in stored[kind]:
            there = path.replace(str(tmp_path), url)
            assert np.array_equal(read_audio_file(there, sampling_rate=None), read_audio_file(path, sampling_rate=None))
            assert AudioHashes().hash_file(there) == AudioHashes().hash_file(path)
    for k in range(4):
        file = stored["files"][k].removeprefix(str(tmp_path))
        assert Handler.seen.count(("GET", file)) == 1  # for its length, its samples and its hash


def test_reasons_of_a_web_server(tmp_path, web):
    url, server = web
    (tmp_path / "page.wav").write_text("<!DOCTYPE html><title>Sign in</title>")
    (tmp_path / "a.wav").write_bytes(wave_bytes(0.3 * np.sin(np.arange(RATE) / 9).astype(np.float32)))
    assert reason(f"{url}/none.wav") == f"no such file: {url}/none.wav [LP200]"
    assert "refused.wav can't be read: access is denied. Check this machine's credentials" in reason(
        f"{url}/refused.wav"
    )
    assert "is a web page, not the file itself" in reason(f"{url}/page.wav")
    assert len(read_audio_file(f"{url}/a.wav?token=1", sampling_rate=None)) == RATE
    (tmp_path / "m").mkdir()
    paths = [f"{url}/a.wav", f"{url}/none.wav", f"{url}/refused.wav"]
    with pytest.raises(ManifestError) as error:
        read_manifest(write_manifest(tmp_path / "m", paths))
    assert f"row 3: no file at {url}/none.wav [LP143]" in str(error.value)
    assert "row 4: " in str(error.value)
    server.shutdown()
    server.server_close()
    assert "/a.wav can't be read (" in reason(f"{url}/a.wav")
    assert "Check the address and the network, and run again [LP238]" in reason(f"{url}/a.wav")


def test_a_server_that_stops_during_an_extraction_leaves_what_it_gave(tmp_path, web, folders):
    url, server = web
    files = write_files(tmp_path / "wav", 6)
    files[5] = files[5].rename(tmp_path / "wav" / "doomed.wav")
    (tmp_path / "m").mkdir()
    manifest = read_manifest(write_manifest(tmp_path / "m", [f"{url}/wav/{file.name}" for file in files]))
    encoder = load_exact(folders["hubert"])
    files[4].rename(tmp_path / "away")
    cache = extract(manifest, encoder, tmp_path / "a")
    assert cache.utterance_ids.tolist() == ["u0", "u1", "u2", "u3"]
    missing, cut = cache.quarantine["reason"]
    assert missing == f"no such file: {url}/wav/u4.flac [LP200]"
    assert f"{url}/wav/doomed.wav can't be read (" in cut
    assert "[LP238]" in cut
    (tmp_path / "away").rename(files[4])
    assert extract(manifest, encoder, tmp_path / "a").utterance_ids.tolist()[-1] == "u4"
    server.shutdown()
    server.server_close()
    assert len(extract(manifest, encoder, tmp_path / "a").utterance_ids) == 5  # cached ones need no audio
