"""A real cluster of Dask, with processes as workers, fills a cache: also when one of them is killed half-way."""

from __future__ import annotations

import os
import signal
import threading
import time

import dask
import distributed
import pytest
import soundfile
from helpers.cache_rows import content_hash
from helpers.command_line import refused, run as command
from helpers.preloaded import two_workers
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.encoders.loading import EncoderSettings
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.dask import extract_on_dask
from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.results.partial import PartialResults


@pytest.fixture
def corpus(tmp_path):
    table = []
    for i in range(160):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.6, pitch=80 + i, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 9}", "arousal": 1 + i / 40})
    return read_manifest(write_table(tmp_path, table))


@pytest.fixture(scope="module")
def cluster():
    """A cluster of which no worker is killed."""
    with two_workers() as started:
        yield started


@pytest.fixture
def mortal_cluster():
    with two_workers() as started:
        yield started


def kill_one(cluster, folder, pattern, killed):
    """Kill a worker once there is a file that matches a pattern, of a shard or layer in progress."""
    # not the default client: it would exchange the default of the process with the one of the main thread
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    while not list(folder.glob(pattern)):
        time.sleep(0.001)
    os.kill(pids[0], signal.SIGKILL)
    killed.append(pids[0])


def test_two_workers_one_of_them_killed_give_the_bytes_of_one_process(corpus, mortal_cluster, folders, tmp_path):
    cluster = mortal_cluster
    extract(corpus, load_exact(folders["hubert"]), tmp_path / "once.zarr")
    whole = content_hash(tmp_path / "once.zarr")
    hubert = EncoderSettings(str(folders["hubert"]), device="cpu", precision="float32")
    for name, kill in (("both", False), ("killed", True)):
        out = tmp_path / f"{name}.zarr"
        job = ExtractionJob(corpus.path, True, hubert, out, ExtractionSettings(jobs=1))
        killed = []

        murderer = threading.Thread(target=kill_one, args=(cluster, out.parent, f"{out.name}.shards/*.zarr", killed))
        if kill:
            murderer.start()
        assert extract_on_dask(job, cluster.scheduler_address) == 160
        if kill:
            murderer.join()
            assert killed
        assert content_hash(out) == whole
    result = command(
        "extract", corpus.path, "--encoder", folders["hubert"], "--precision", "float32", "--device", "cpu",
        "--out", tmp_path / "cli.zarr", "--dask", cluster.scheduler_address,
    )  # fmt: skip
    assert "160 utterances extracted on Dask" in result.stdout, result.output
    assert content_hash(tmp_path / "cli.zarr") == whole


def test_the_error_of_a_shard_is_raised_and_a_missing_scheduler_is_named(corpus, cluster, tmp_path, monkeypatch):
    job = ExtractionJob(corpus.path, True, EncoderSettings(str(tmp_path / "none"), device="cpu"), tmp_path / "a.zarr")
    with pytest.raises(InputError, match=r"shard \d/8: encoder .*none: no such folder.* \[LP300\]$"):
        extract_on_dask(job, cluster.scheduler_address)
    monkeypatch.setattr("layerprobe.probe.dask_client.CONNECTION_TIMEOUT", 2)
    with pytest.raises(InputError, match=r"No Dask scheduler answers at tcp://127.0.0.1:1 "):
        extract_on_dask(job, "tcp://127.0.0.1:1")
    assert dask.config.get("scheduler", None) is None  # else it would compute every dask array of this process


def test_a_sweep_by_two_workers_one_of_them_killed_gives_the_scores_of_one_process(
    corpus, mortal_cluster, folders, tmp_path
):
    cluster = mortal_cluster
    cache = tmp_path / "h.zarr"
    extract(corpus, load_exact(folders["hubert"]), cache)
    arguments = ("sweep", cache, corpus.path, "--folds", 3, "--permutations", 3, "--weighted-sum-seeds", 1, "--out")
    assert command(*arguments, tmp_path / "here").exit_code == 0
    for name, kill in (("both", False), ("killed", True)):
        out, killed = tmp_path / name, []

        murderer = threading.Thread(target=kill_one, args=(cluster, out, "partial/*.npz", killed))
        if kill:
            murderer.start()
        done = command(*arguments, out, "--dask", cluster.scheduler_address)
        assert done.exit_code == 0, done.output
        if kill:
            murderer.join()
            assert killed
        for file in ("scores.csv", "layer_weights.csv", "predictions.npz"):
            assert (out / file).read_bytes() == (tmp_path / "here" / file).read_bytes(), (name, file)
        assert not (out / "partial").exists()


def test_a_sweep_resumes_from_partial_results_and_names_a_missing_scheduler(
    corpus, cluster, folders, tmp_path, monkeypatch
):
    cache = tmp_path / "h.zarr"
    extract(corpus, load_exact(folders["hubert"]), cache)
    arguments = (
        "sweep",
        cache,
        corpus.path,
        "--folds",
        3,
        "--permutations",
        1,
        "--weighted-sum-seeds",
        0,
        "--out",
        tmp_path / "a",
    )
    probed = []
    monkeypatch.setattr("layerprobe.probe.sweep.fits.workers.PartialResults.clear", lambda self: None)
    save = PartialResults.save
    monkeypatch.setattr(
        PartialResults, "save", lambda self, name, done: (probed.append(name), save(self, name, done))[1]
    )
    assert command(*arguments, "--dask", cluster.scheduler_address).exit_code == 0
    first = len(probed)
    assert first == len(set(probed)) > 1
    next((tmp_path / "a" / "partial").glob("*.npz")).write_bytes(b"torn")
    assert command(*arguments, "--dask", cluster.scheduler_address).exit_code == 0
    assert len(probed) == first + 1
    monkeypatch.setattr("layerprobe.probe.dask_client.CONNECTION_TIMEOUT", 2)
    assert "No Dask scheduler answers" in refused(*arguments, "--dask", "tcp://127.0.0.1:1")
    assert "Leave --device or --dask out" in refused(*arguments, "--device", "cuda", "--dask", "tcp://127.0.0.1:1")
