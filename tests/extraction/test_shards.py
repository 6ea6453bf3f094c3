"""Shards of a cache: in whatever order they are filled, merged they are the bytes of one process."""

from __future__ import annotations

import functools
import operator
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from helpers.cache_rows import content_hash
from helpers.command_line import run as command, script_environment
from helpers.preloaded import preloaded_context
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import BLOCK, CacheMismatchError, open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.encoders.loading import EncoderSettings
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob, extract_in_processes
from layerprobe.probe.extraction.distributed.shards import Shard, extract_shard, merge
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.progress import NullProgress

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, table = tmp_path_factory.mktemp("corpus"), []
    for i in range(13):
        soundfile.write(folder / f"s{i}.wav", voice(0.3 + 0.02 * i, pitch=80 + 9 * i, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i / 4})
    (folder / "s5.wav").write_bytes(b"no audio")
    return read_manifest(write_table(folder, table))


@pytest.fixture(scope="module")
def encoder(folders):
    return load_exact(folders["hubert"])


@pytest.fixture(scope="module")
def whole(corpus, encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.zarr"
    extract(corpus, encoder, path)
    return content_hash(path)


@pytest.mark.parametrize("of", [1, 2, 3, 16])
def test_every_row_is_in_one_shard(corpus, of):
    parts = [Shard(k, of).of_table(corpus.table)["utterance_id"].tolist() for k in range(1, of + 1)]
    assert functools.reduce(operator.iadd, parts, []) == corpus.table["utterance_id"].tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for text in ("0/4", "5/4", "4", "a/b", "-1/4", "1/"):
        with pytest.raises(InputError, match="is no shard"):
            Shard.parse(text)


def test_shards_in_any_order_give_the_bytes_of_one_process(corpus, encoder, whole, tmp_path):
    out = tmp_path / "a.zarr"
    for number in (3, 1, 4, 2):
        extract_shard(corpus, encoder, out, Shard(number, 4))
    assert merge(out, corpus) == 12
    assert content_hash(out) == whole
    assert open_cache(out).quarantine["utterance_id"].tolist() == ["u5"]
    assert verify(out) == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_merge_needs_every_shard_and_names_incomplete_ones(corpus, encoder, whole, tmp_path):
    out = tmp_path / "a.zarr"
    with pytest.raises(InputError, match="holds no shards"):
        merge(out, corpus)
    extract_shard(corpus, encoder, out, Shard(1, 3))
    few = replace(corpus, table=corpus.table[:6])  # the second is cut short
    extract(few, encoder, Shard(2, 3).path(out))
    with pytest.raises(InputError, match=r"incomplete: 2/3 \(2 of 4 utterances\), 3/3 \(5 of 5 utterances\)\. Run"):
        merge(out, corpus)
    with pytest.raises(InputError, match=r"holds 3 shards, not 2\. Use --shard NUMBER/3"):
        extract_shard(corpus, encoder, out, Shard(1, 2))
    assert not out.exists()


def test_shards_add_to_a_cache_what_it_lacks(corpus, encoder, whole, tmp_path):
    out = tmp_path / "a.zarr"
    extract(replace(corpus, table=corpus.table[:5]), encoder, out)
    done = [extract_shard(corpus, encoder, out, Shard(k, 2)) for k in (1, 2)]
    assert [d.n_extracted for d in done] == [0, 7]
    assert merge(out, corpus) == 7
    assert content_hash(out) == whole


def test_a_shard_of_another_encoder_is_refused(corpus, encoder, folders, tmp_path):
    out = tmp_path / "a.zarr"
    extract(replace(corpus, table=corpus.table[:5]), encoder, out)
    with pytest.raises(CacheMismatchError, match="random_init None, not 0"):
        extract_shard(corpus, load_exact(folders["hubert"], random_init=0), out, Shard(1, 2))
    extract_shard(corpus, encoder, tmp_path / "b.zarr", Shard(1, 2))
    extract_shard(corpus, load_exact(folders["hubert"], random_init=0), tmp_path / "b.zarr", Shard(2, 2))
    with pytest.raises(CacheMismatchError, match="random_init 0, not None"):
        merge(tmp_path / "b.zarr", corpus)


@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.long), 4])
def test_processes_give_the_bytes_of_one(corpus, folders, whole, tmp_path, n, monkeypatch):
    if n > 1:  # and one is spawned, as any is outside of tests
        monkeypatch.setattr(
            "layerprobe.probe.extraction.distributed.multiprocess.get_context", lambda _: preloaded_context()
        )
    hubert = EncoderSettings(str(folders["hubert"]), device="cpu", precision="float32")
    job = ExtractionJob(corpus.path, True, hubert, tmp_path / "a.zarr")
    assert extract_in_processes(job, n) == 12
    assert content_hash(tmp_path / "a.zarr") == whole


def test_the_error_of_a_process_is_raised(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "layerprobe.probe.extraction.distributed.multiprocess.get_context", lambda _: preloaded_context()
    )
    job = ExtractionJob(corpus.path, True, EncoderSettings(str(tmp_path / "none"), device="cpu"), tmp_path / "a.zarr")
    with pytest.raises(InputError, match=r"shard 1/2: encoder .*none: no such folder.* \[LP300\]$"):
        extract_in_processes(job, 2)


def test_a_shard_is_resumed_after_its_owner_was_killed_and_not_while_it_lives(corpus, folders, whole, tmp_path):
    """On the command line, as an array of jobs runs it."""
    arguments = (
        "extract",
        corpus.path,
        "--encoder",
        folders["hubert"],
        "--precision",
        "float32",
        "--out",
        tmp_path / "a.zarr",
    )
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom layerprobe.probe.cache.lease import leased\n"
        "path = Path(sys.argv[1])\npath.mkdir(parents=True)\n"
        "with leased(path):\n    print('held', flush=True)\n    time.sleep(100)\n"
    )
    shard = Shard(1, 2).path(tmp_path / "a.zarr")
    with subprocess.Popen(
        [sys.executable, "-c", holder, shard], stdout=subprocess.PIPE, env=script_environment()
    ) as owner:
        assert owner.stdout.readline() == b"held\n"
        refused = command(*arguments, "--shard", "1/2")
        assert refused.exit_code == 2
        assert "is being written by another process" in refused.output
        owner.send_signal(signal.SIGKILL)
    time.sleep(0.1)
    assert "Next: layerprobe cache merge" in command(*arguments, "--shard", "1/2").stdout
    early = command("cache", "merge", tmp_path / "a.zarr", corpus.path)
    assert "2/2 (7 of 7 utterances)" in early.output
    assert command(*arguments, "--shard", "2/2").exit_code == 0
    assert "12 rows merged" in command("cache", "merge", tmp_path / "a.zarr", corpus.path).stdout
    assert content_hash(tmp_path / "a.zarr") == whole
    both = command(*arguments, "--shard", "1/2", "--processes", "2")
    assert "Name one of --shard, --processes and --dask" in both.output


class StopsAfter(NullProgress):
    """Interrupts a merge after so many utterances."""

    def __init__(self, n):
        self.n, self.task = n, ""

    def begin(self, task, total, unit):
        self.task = task

    def advance(self, amount=1.0, note=""):
        self.n -= amount * (self.task == "merge")
        if self.n < 0:
            raise KeyboardInterrupt


def test_a_merge_frees_the_space_of_each_shard_and_is_resumed_where_it_was_stopped(corpus, encoder, whole, tmp_path):
    """The quarantine of a shard that was merged before the interruption is kept."""
    out = tmp_path / "a.zarr"
    for k in (1, 2, 3):
        extract_shard(corpus, encoder, out, Shard(k, 3))
    assert [len(open_cache(Shard(k, 3).path(out)).quarantine) for k in (1, 2, 3)] == [0, 1, 0]
    with pytest.raises(KeyboardInterrupt):
        merge(out, corpus, progress=StopsAfter(8))
    assert [Shard(k, 3).path(out).exists() for k in (1, 2, 3)] == [False, False, True]
    assert open_cache(out).quarantine["utterance_id"].tolist() == ["u5"]
    left = Shard(1, 3).path(out).with_suffix(".merged")  # as a kill leaves it
    (left / "embeddings").mkdir(parents=True)
    merge(out, corpus)
    assert content_hash(out) == whole
    assert open_cache(out).quarantine["utterance_id"].tolist() == ["u5"]
    assert not (tmp_path / "a.zarr.shards").exists()


def test_a_disk_must_hold_every_shard_and_one_more(corpus, encoder, tmp_path, monkeypatch):
    """One alone would fit."""
    free = 3 * BLOCK * len(encoder.layers) * 2 * encoder.dim * 4
    monkeypatch.setattr("layerprobe.probe.extraction.estimate.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    extract(corpus, encoder, tmp_path / "alone.zarr")
    extract_shard(corpus, encoder, tmp_path / "a.zarr", Shard(1, 1))
    with pytest.raises(InputError, match=r"a.zarr.shards, with 4 \w+ to be merged, needs \d+\.\d MB"):
        extract_shard(corpus, encoder, tmp_path / "b" / "a.zarr", Shard(1, 4))
