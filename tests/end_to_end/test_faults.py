"""Faults across parts: forks, a store that can't be written, a table of a million rows, kills of a sweep."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers.cache_rows import DIM, PLAN, content_hash, fill, rows
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table
from torch.utils.data import DataLoader, Dataset

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Header, ManifestError, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.extraction.extract import extract

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Rows(Dataset):
    """A cache as torch's loaders take it."""

    def __init__(self, cache):
        self.cache = cache

    def __len__(self):
        return len(self.cache.utterance_ids)

    def __getitem__(self, k):
        return torch.from_numpy(self.cache.read_rows(np.array([k]))[0])


@pytest.mark.parametrize("how", [pytest.param("spawn", marks=pytest.mark.long), "forkserver", "fork"])
def test_loaders_of_torch_read_a_cache_that_was_read_before(tmp_path, how):
    """Zarr has a thread of its own, which a forked process does not inherit."""
    if how not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {how} here")
    fill(tmp_path / "a.zarr", 10)
    cache = open_cache(tmp_path / "a.zarr")
    whole = cache.read_rows(np.arange(10))
    loader = DataLoader(Rows(cache), batch_size=3, num_workers=2, multiprocessing_context=how, timeout=300)
    assert np.array_equal(torch.cat(list(loader)).numpy(), whole)


@needs_fork
def test_a_forked_process_extracts_after_its_parent_has(ten_voices, folders, tmp_path, forks):
    """In a process of its own, for the parent of a fork should have no other threads than those under test."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom helpers.speech_models import load_exact\n"
        "from layerprobe.probe.extraction.extract import extract\n"
        "from layerprobe.probe.data.manifest.read import read_manifest\n"
        "manifest, encoder = read_manifest(Path(sys.argv[1])), load_exact(Path(sys.argv[2]))\n"
        "extract(manifest, encoder, Path(sys.argv[3]) / 'parent.zarr')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(240)\n"
        "    extract(manifest, encoder, Path(sys.argv[3]) / 'child.zarr')\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = forks.run(ten_voices.path, folders["hubert"], tmp_path, code=script)
    assert done.returncode == 0, done.stderr
    assert content_hash(tmp_path / "child.zarr") == content_hash(tmp_path / "parent.zarr")


@needs_fork
def test_a_store_that_may_not_be_written_is_read_and_refuses_to_be_written():
    """As another user, for root may write everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zarr"
        fill(path, 3)
        before = content_hash(path)
        for file in (*Path(folder).rglob("*"), Path(folder)):
            file.chmod(0o555 if file.is_dir() else 0o444)
        report = Path(folder).with_name(f"{Path(folder).name}-error")
        report.touch()
        report.chmod(0o666)
        open_cache(path).read_layer("1")  # what is imported late is there before root is given up
        child = os.fork()
        if child == 0:
            try:
                if os.getuid() == 0:
                    os.setuid(65_534)
                assert verify(path) == []
                assert open_cache(path).read_layer("1").shape[0] == 3
                with CacheWriter(path, PLAN, dim=DIM) as writer:
                    writer.append(*next(rows(1)))
            except BaseException as error:
                report.write_text(f"{type(error).__name__}: {error}")
            os._exit(0)
        os.waitpid(child, 0)
        message = report.read_text()
        report.unlink()
        Path(folder).chmod(0o755)
        for file in Path(folder).rglob("*"):
            file.chmod(0o755)
        assert message.startswith("PermissionError"), message
        assert str(path) in message
        assert content_hash(path) == before
        assert verify(path) == []


@pytest.mark.parametrize("n_rows", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_manifest_of_a_million_rows_is_checked_to_its_last(tmp_path, n_rows):
    soundfile.write(tmp_path / "s.wav", np.zeros(1_600), 16_000)
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i:07d}" for i in range(n_rows)],
            "path": "s.wav",
            "speaker_id": [f"t{i % 997}" for i in range(n_rows)],
            "start": 0.0,
            "end": 0.1,
            "arousal": np.linspace(1, 7, n_rows),
        }
    )
    header = Header("million", "1", "none", {"arousal": Target(1, 7)})
    table.loc[n_rows - 1, "utterance_id"] = "u0000000"
    table.loc[n_rows - 2, "arousal"] = 7.5
    write_manifest(tmp_path / "my.csv", table, header)
    with pytest.raises(ManifestError) as found:
        read_manifest(tmp_path / "my.csv")
    assert [problem.text for problem in found.value.problems] == [
        f"row {n_rows}: arousal is 7.5, outside the scale 1..7 of my.toml",
        f"row {n_rows + 1}: utterance_id 'u0000000' is also in row 2",
    ]


@pytest.mark.parametrize(
    "to_all",
    [pytest.param(True, marks=pytest.mark.long), False],
    ids=["Ctrl-C to all processes", "SIGTERM to the first alone"],
)
def test_a_signal_ends_every_process_and_the_same_command_resumes(folders, tmp_path, forks, to_all):
    table = []
    for i in range(300):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.5, pitch=80 + i / 4, seed=i), 16_000)
        table.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 9}", "arousal": 1 + i / 75})
    manifest = write_table(tmp_path, table)
    out = tmp_path / "a.zarr"
    arguments = [
        "extract", manifest, "--encoder", folders["hubert"], "--precision", "float32", "--device", "cpu", "--out", out,
        "--processes", 2,
    ]  # fmt: skip
    process = forks.start(*arguments, module="layerprobe", new_session=True)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("a.zarr.shards/*/extraction/journal.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    if to_all:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        os.kill(process.pid, signal.SIGTERM)  # as a container's end does
    stopped = process.wait(timeout=300)
    assert stopped.returncode == (130 if to_all else 143), stopped.stderr
    assert "Traceback" not in stopped.stderr, stopped.stderr
    assert not out.exists()
    assert not list(tmp_path.glob("a.zarr.shards/*/extraction/lease.json"))
    done = forks.run(*arguments, module="layerprobe")
    assert done.returncode == 0, done.stderr
    extract(read_manifest(manifest), load_exact(folders["hubert"]), tmp_path / "once.zarr")
    assert content_hash(out) == content_hash(tmp_path / "once.zarr")


def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_files(tmp_path, folders, ten_voices, forks):
    extract(ten_voices, load_exact(folders["hubert"]), tmp_path / "h.zarr")
    arguments = [
        "sweep",
        "h.zarr",
        str(ten_voices.path),
        "--folds",
        "2",
        "--permutations",
        "2",
        "--weighted-sum-seeds",
        "1",
    ]
    script = (
        "import os, signal, sys\nfrom layerprobe.cli.app import main\nleft = [int(sys.argv.pop(1))]\n"
        "def count(event, args):\n"
        "    if event == 'os.rename' and 'killed' in str(args[1]):\n"
        "        left[0] -= 1\n"
        "        if left[0] == 0:\n            os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(count)\nmain()\n"
    )

    def run(n, out):
        return forks.run(n, *arguments, "--jobs", 1, "--out", out, code=script, folder=tmp_path)

    assert run(0, "whole").returncode == 0
    killed = 0
    for k in range(20):
        done = run(2 + k, "killed")  # each resumes where the last was killed, and is killed some files later
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
    assert killed >= 3
    for file in ("scores.csv", "layer_weights.csv", "predictions.npz", "quarantine.csv"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert not list((tmp_path / "killed").rglob("*.partial"))
    assert not (tmp_path / "killed" / "partial").exists()
