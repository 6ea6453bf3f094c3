"""A process that fills a cache is killed before its writes in turn; the next run makes the same store."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.command_line import script_environment

SCRIPT = """
import os, signal, sys
from pathlib import Path
import layerprobe.probe.cache.create
import layerprobe.probe.cache.store
import layerprobe.probe.cache.verify
import layerprobe.probe.cache.writer
from helpers.cache_rows import DIM, PLAN, content_hash, rows
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter

for name in ("create", "store", "writer", "verify"):
    getattr(layerprobe.probe.cache, name).BLOCK = 4
folder, every = Path(sys.argv[1]), int(sys.argv[2])


def fill(path):
    '''Ten rows in two runs; the second replaces a row of the first and removes one.'''
    every = list(rows(10))
    with CacheWriter(path, PLAN, dim=DIM) as writer:
        for name, digest, embeddings in every[:6]:
            if name not in writer.cached and name != "ü2":
                writer.append(name, digest, embeddings)
            if name == "ü2" and "ü2" not in writer.cached and "ü5" not in writer.cached:
                writer.append(name, digest, embeddings)
    with CacheWriter(path, PLAN, dim=DIM) as writer:
        if writer.cached["ü1"] != "edited":
            writer.append("ü1", "edited", every[1][2] + 1)
        writer.drop({"ü2"} & set(writer.cached))
        for name, digest, embeddings in every[6:]:
            if name not in writer.cached:
                writer.append(name, digest, embeddings)


def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_before(n, path):
    '''Every opening of a file to write, renaming and removal in the store is counted.'''
    left = [n]

    def count(event, args):
        opens = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (opens or event in ("os.rename", "os.remove", "os.mkdir")) and str(path) in str(args[0]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    fill(path)


def judge(path):
    cache = open_cache(path)
    assert verify(path) == [], verify(path)
    assert cache.utterance_ids.tolist() == [f"ü{k}" for k in range(10) if k != 2], cache.utterance_ids
    (path.parent / "hash").write_text(content_hash(path))


(folder / "once").mkdir()
assert forked(lambda: (fill(folder / "once" / "a.zarr"), judge(folder / "once" / "a.zarr"))) == 0
whole = (folder / "once" / "hash").read_text()
killed = 0
for n in range(1, 1000, every):
    path = folder / str(n) / "a.zarr"
    path.parent.mkdir()
    status = forked(lambda: killed_before(n, path))
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (n, status)
    assert forked(lambda: (fill(path), judge(path))) == 0, n
    assert (path.parent / "hash").read_text() == whole, n
    killed += 1
print(f"killed {killed} times", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_before_any_write_changes_nothing_in_the_end(tmp_path, every):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, str(every)], capture_output=True, text=True, env=script_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-2]) > 60 // every, done.stdout
