"""Audio in archives and tables is read as the files are that it was packed from: the same samples, hashes, reasons."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.stored_corpora import (
    AUDIO,
    KINDS,
    RATE,
    pack_tar,
    sources,
    structures,
    wave_bytes,
    write_arrow,
    write_files,
    write_parquet,
)

from layerprobe.probe.data.audio import audio_header, read_audio_file, read_recording
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.stored import audio_tables
from layerprobe.probe.data.stored.locations import row_address, tar_address
from layerprobe.probe.data.stored.stored_audio import locate
from layerprobe.probe.data.stored.tar_archives import in_order, open_archive
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.problem import StoredAudioError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return sources(folder, write_files(folder / "wav", 10))


def reason(path, **span):
    with pytest.raises(InvalidAudioError) as error:
        read_audio_file(path, sampling_rate=None, **span)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_hashes_headers_and_spans_are_those_of_the_files(corpus, kind):
    hashes = AudioHashes()
    for file, stored in zip(corpus["files"], corpus[kind], strict=True):
        for span in ({}, {"start": 0.1, "end": 0.25}, {"start": 0.2}):
            expected = read_recording(file, sampling_rate=8_000, **span)
            found = read_recording(stored, sampling_rate=8_000, **span)
            assert np.array_equal(found.waveform, expected.waveform)
            assert found.remarks == expected.remarks
        assert audio_header(stored) == audio_header(file)
        assert hashes.hash_file(stored) == hashes.hash_file(file)
        located = locate(stored)
        assert located.is_file()
        assert located.stat().st_size == os.stat(file).st_size  # noqa: PTH116
        with located.open("rb") as opened:
            assert opened.read() == locate(file).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_and_several_threads_read_the_same(corpus, kind):
    rows = list(range(10)) * 8
    random.Random(0).shuffle(rows)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: locate(corpus[kind][k]).read_bytes(), rows))
    assert all(f == locate(corpus["files"][k]).read_bytes() for f, k in zip(found, rows, strict=True))


def test_rows_in_order_are_decoded_once_with_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_tables, "BATCH_BYTES", 40_000)
    monkeypatch.setattr(audio_tables, "KEPT_BYTES", 100_000)
    rng = np.random.default_rng(0)
    parts = [rng.bytes(10_000) for _ in range(60)]
    write_parquet(tmp_path / "t.parquet", pa.array(parts, type=pa.binary()), group=30)
    table = audio_tables.ParquetAudio(str(tmp_path / "t.parquet"), "t.parquet", "audio")
    began = []
    batches = table._batches
    table._batches = lambda group: began.append(group) or batches(group)
    order = [min(59, max(0, k + (k % 5) - 2)) for k in range(60)]  # as threads that read ahead
    for k in order:
        assert table.audio(k).content == parts[k]
    assert began == [0, 1]
    assert table._kept_bytes <= 150_000
    assert table.audio(0).content == parts[0]  # again from the beginning
    assert began == [0, 1, 0]


def test_a_table_with_bytes_everywhere_is_not_read_to_see_whether_it_changed(corpus, monkeypatch):
    hashes, path = AudioHashes(), corpus["parquet"][3]
    known = hashes.hash_file(path)
    monkeypatch.setattr(audio_tables.ParquetAudio, "audio", None)
    assert hashes.hash_file(path) == known


def test_a_changed_archive_table_or_named_file_is_hashed_again(tmp_path):
    files = write_files(tmp_path / "wav", 3)
    before, hashes = sources(tmp_path, files), AudioHashes()
    first = {path: hashes.hash_file(path) for kind in KINDS for path in before[kind]}
    files[1].write_bytes(files[0].read_bytes())
    for file in tmp_path.glob("*.*"):
        os.utime(file, ns=(1, 1))  # whatever the steps of the clock
    os.utime(files[1], ns=(1, 1))
    sources(tmp_path, files)
    for kind in KINDS:
        a, b, c = before[kind]
        assert hashes.hash_file(b) == first[a] != first[b], kind
        assert hashes.hash_file(c) == first[c]


def test_reasons_of_archives(tmp_path):
    files = write_files(tmp_path / "wav", 3)
    first, second, third = pack_tar(tmp_path / "a.tar", files)
    assert reason(tar_address(tmp_path / "a.tar", "u9.wav")) == (
        f"{tmp_path}/a.tar has no member 'u9.wav'. Correct the name, or pack the archive again [LP235]"
    )
    assert reason(tar_address(tmp_path / "none.tar", "a.wav")) == f"no such file: {tmp_path}/none.tar [LP200]"
    assert "is a folder, not a file [LP200]" in reason(tar_address(tmp_path / "wav", "a.wav"))
    whole = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as opened:
        last = opened.getmember("clips/u2.ogg")
    (tmp_path / "a.tar").write_bytes(whole[: last.offset_data + last.size // 2])
    assert len(read_audio_file(first, sampling_rate=None)) == len(read_audio_file(files[0], sampling_rate=None))
    assert f"{last.size // 2} of its {last.size} bytes are there. Copy it again [LP236]" in reason(third)
    (tmp_path / "a.tar").write_bytes(whole[: last.offset + 100])
    assert "has no member 'clips/u2.ogg', and it is cut or damaged behind the members" in reason(third)
    assert len(read_audio_file(second, sampling_rate=None))
    pack_tar(tmp_path / "b.tar.gz", files, mode="w:gz")
    assert reason(tar_address(tmp_path / "b.tar.gz", "clips/u0.wav")) == (
        f"{tmp_path}/b.tar.gz is compressed by gzip, so that its members can't be read where they lie; unpack it: "
        "gunzip [LP236]"
    )
    (tmp_path / "c.tar").write_bytes(b"no archive at all" * 100)
    assert "c.tar can't be read as a tar archive (" in reason(tar_address(tmp_path / "c.tar", "x"))
    (tmp_path / "d.tar").write_bytes(b"")
    assert "d.tar is empty (0 bytes)" in reason(tar_address(tmp_path / "d.tar", "x"))


def test_members_are_found_as_tar_unpacks_them(tmp_path):
    a, b = (wave_bytes(np.full(400, v, dtype=np.float32) * np.hanning(400)) for v in (0.2, 0.4))
    long = "x" * 150 + "/ü.wav"
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as opened:
        for name, content in (("./a.wav", a), ("twice.wav", a), ("twice.wav", b), (long, b)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.LNKTYPE, "./a.wav"
        opened.addfile(link)
    read = {n: locate(tar_address(tmp_path / "a.tar", n)).read_bytes() for n in ("a.wav", "./a.wav", "twice.wav")}
    assert read == {"a.wav": a, "./a.wav": a, "twice.wav": b}
    assert locate(tar_address(tmp_path / "a.tar", long)).read_bytes() == b
    assert locate(tar_address(tmp_path / "a.tar", "link.wav")).read_bytes() == a


def test_headers_are_read_as_tarfile_reads_them(tmp_path, rng):
    names = ("a.wav", "./b/ü.wav", "x" * 96 + ".wav", "d" * 90 + "/" + "y" * 90 + ".wav", "z" * 300, "folder/")
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as opened:
            for k, name in enumerate(names[: 4 if kind == tarfile.USTAR_FORMAT else 6]):
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                member.size = 0 if member.isdir() else 700 * k
                member.mtime = 1.5 * k
                opened.addfile(member, io.BytesIO(bytes(member.size)))
        whole = (tmp_path / "a.tar").read_bytes()
        assert len(members_by(_usual, whole)) >= 4
        assert members_by(_ours, whole) == members_by(_usual, whole)
        for at in rng.integers(512, size=300):  # of the first header
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(8))
            assert members_by(_ours, bytes(damaged)) == members_by(_usual, bytes(damaged)), at


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-10_240, -600, 2**40, 2**80])
def test_an_impossible_size_ends_the_index(tmp_path, kind, size):
    """tarfile itself goes back and begins anew, asks for all memory, or ends with another error."""
    files = write_files(tmp_path / "wav", 2)
    pack_tar(tmp_path / "a.tar", files[:1])
    whole = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    header = bytearray(512)
    header[:7], header[156:157], header[257:263] = b"bad.wav", kind, b"ustar\0"
    header[124:136] = (size % 2**96).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    header[148:156] = f"{sum(header) + 8 * 0x20:06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(whole + bytes(-len(whole) % 512) + header)
    assert len(read_audio_file(tar_address(tmp_path / "a.tar", "clips/u0.wav"), sampling_rate=None))
    message = reason(tar_address(tmp_path / "a.tar", "other.wav"))
    assert "has no member 'other.wav', and it is cut or damaged behind the members" in message


def members_by(read, content):
    """Name, offset, size and kind of each member, or the name of the error."""
    try:
        return [(m.name, m.offset_data, m.size, m.isreg()) for m in read(io.BytesIO(content))]
    except (tarfile.TarError, StoredAudioError) as error:
        return type(error).__name__


def _ours(file):
    return in_order(open_archive(file, "a.tar"))


def _usual(file):
    return tarfile.open(fileobj=file, mode="r:")


def test_a_row_that_names_no_file_has_its_reason(tmp_path):
    names = (f"parquet://{tmp_path}/t.parquet#0", "arrow://t.arrow#0", "tar://a.tar", "a\0.wav")
    column = pa.array([{"bytes": None, "path": name} for name in names], type=AUDIO)
    row, other, part, zero = write_parquet(tmp_path / "t.parquet", column)
    expected = (
        "its row names a row of a table, or no path, in place of a file; write the file's path into the row [LP239]"
    )
    assert {reason(row), reason(other), reason(zero)} == {expected}
    assert reason(part) == "tar://a.tar names no member of a file; write tar://FOLDER/FILE.tar#NAME [LP239]"
    assert audio_header(row) is None


def test_a_reason_is_the_same_at_each_run(tmp_path):
    row = write_parquet(tmp_path / "t.parquet", pa.array([b"no audio"], type=pa.binary()))[0]
    assert reason(row) == "could not be decoded (Format not recognised) [LP204]"


def test_reasons_of_tables(tmp_path):
    files = write_files(tmp_path / "wav", 3)
    rows = write_parquet(tmp_path / "t.parquet", structures(files))
    assert reason(row_address(tmp_path / "t.parquet", 3)) == (
        f"{tmp_path}/t.parquet has 3 rows, so that row 3 (counted from 0) is beyond its end [LP235]"
    )
    assert reason(row_address(tmp_path / "t.parquet", 0, column="speech")) == (
        f"{tmp_path}/t.parquet has no column 'speech'; audio may be it: parquet://…?column=audio#… [LP235]"
    )
    assert "column 'number' holds int64, not the bytes" in reason(
        row_address(tmp_path / "t.parquet", 0, column="number")
    )
    for name, write in (("n.parquet", write_parquet), ("n.arrow", write_arrow)):
        values = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": "a.wav"}, {"bytes": b"no", "path": None}]
        null, empty_null, empty, noise = write(tmp_path / name, pa.array(values, type=AUDIO))
        assert reason(null) == reason(empty_null)
        assert reason(null) == (
            "its row holds no audio (null). Leave the row out of the manifest, or complete the table [LP237]"
        )
        assert "is empty (0 bytes)" in reason(empty)
        assert "could not be decoded" in reason(noise)
    gone = write_parquet(tmp_path / "g.parquet", pa.array([{"bytes": None, "path": "gone.wav"}], type=AUDIO))
    assert reason(gone[0]) == f"no such file: {tmp_path}/gone.wav [LP200]"
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:-100])
    assert "t.parquet can't be read as a table (" in reason(rows[0])
    assert "is compressed" not in reason(rows[0])
    with pq.ParquetFile(io.BytesIO(whole)) as opened:
        at = opened.metadata.row_group(0).column(1).data_page_offset
    (tmp_path / "t.parquet").write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
    assert "t.parquet can't be read as a table (" in reason(rows[0])
    arrow = write_arrow(tmp_path / "t.arrow", structures(files))
    cut = (tmp_path / "t.arrow").read_bytes()[:5_000]
    (tmp_path / "t.arrow").write_bytes(cut)
    assert "t.arrow can't be read as a table (" in reason(arrow[0])


def test_an_incomplete_address_and_a_truncated_member_have_their_reasons(tmp_path):
    assert "names no member of a file" in reason("tar://a.tar")
    assert "pip install" not in reason("nostore://a/b.wav")  # no package has that store
    assert "nostore://a/b.wav can't be opened" in reason("nostore://a/b.wav")
    whole = wave_bytes(0.3 * np.sin(np.arange(RATE) / 9).astype(np.float32))
    row = write_parquet(tmp_path / "t.parquet", pa.array([whole[:-8_000]], type=pa.binary()))[0]
    (tmp_path / "a.wav").write_bytes(whole[:-8_000])
    assert reason(row) == reason(tmp_path / "a.wav")


FORKED = """
import os, sys, threading
from layerprobe.probe.data.stored.stored_audio import locate
paths = sys.argv[1:]
first = [locate(p).read_bytes() for p in paths]
stop = threading.Event()
def keep_reading():
    while not stop.is_set():
        for p in paths:
            locate(p).read_bytes()
threads = [threading.Thread(target=keep_reading) for _ in range(3)]
for t in threads: t.start()
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0 if [locate(p).read_bytes() for p in paths] == first else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for t in threads: t.join()
print("read")
"""


def test_a_fork_reads_while_its_parent_does(corpus):
    paths = [corpus[kind][k] for kind in KINDS for k in (0, 5)]
    done = subprocess.run([sys.executable, "-c", FORKED, *paths], capture_output=True, text=True, timeout=60)
    assert done.stdout == "read\n", done.stderr


def test_what_datasets_writes_is_read(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"audio": corpus["files"], "n": range(10)})
    data = data.cast_column("audio", datasets.Audio(decode=False))
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(str(tmp_path / "t.parquet"))
    (saved,) = (tmp_path / "saved").glob("*.arrow")
    for table in (saved, tmp_path / "t.parquet"):
        for k, file in enumerate(corpus["files"]):
            assert locate(row_address(table, k)).read_bytes() == locate(file).read_bytes()
