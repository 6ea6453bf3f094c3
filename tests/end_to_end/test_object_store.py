"""A cache in an object store: a server of S3 runs as a process of its own, and everything goes over its port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import zarr
from helpers.cache_rows import content_hash, fill
from helpers.command_line import refused, run as command, script_environment
from helpers.leases import owner
from helpers.object_stores import served
from helpers.preloaded import two_workers
from helpers.remote_caches import remote_hash
from helpers.speech_models import load_exact

from layerprobe.probe.cache.journal import JOURNAL
from layerprobe.probe.cache.lease import LEASE
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import differences, verify
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.filesystem import remove, resolve, size_of, zarr_store

ROOT = Path(__file__).parents[2]


KILLED = """
import os, signal, sys
from pathlib import Path

import s3fs
import layerprobe.probe.lease
from helpers.speech_models import load_exact
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.data.manifest.read import read_manifest
from helpers.remote_caches import remote_hash

layerprobe.probe.lease.WAIT_SECONDS = 0.05  # no other process takes it over
manifest, folder, url, whole, every = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5])


def forked(n, there):
    child = os.fork()  # before s3fs is used, which can't be used on both sides of a fork
    if child:
        return os.waitpid(child, 0)[1]
    try:
        if n:
            call, left = s3fs.S3FileSystem._call_s3, [n]

            def counted(self, method, *args, **more):
                if method in ("put_object", "delete_object", "delete_objects"):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return call(self, method, *args, **more)

            s3fs.S3FileSystem._call_s3 = counted
        extract(read_manifest(manifest), load_exact(folder), there)
        if not n:
            assert verify(there) == [] and remote_hash(there) == whole
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


killed = 0
for n in range(1, 1000, every):
    there = f"{url}/{every}/{n}.zarr"
    status = forked(n, there)
    if status == 0:
        break
    assert os.WIFSIGNALED(status), (n, status)
    assert forked(0, there) == 0, n
    killed += 1
print(f"killed {killed} times", flush=True)
"""


@pytest.fixture(scope="module")
def server():
    with served() as process:
        yield process


@pytest.fixture
def url(server, request):
    return f"s3://corpora/{request.node.name[:40]}/h.zarr"


def extract_command(manifest, encoder, out):
    return ("extract", manifest.path, "--encoder", encoder, "--precision", "float32", "--device", "cpu", "--out", out)


@pytest.fixture(scope="module")
def local(ten_voices, folders, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "h.zarr"
    extract(ten_voices, load_exact(folders["hubert"]), path)
    return path


def test_every_command_takes_a_url_and_the_store_holds_the_bytes_of_a_folder(ten_voices, folders, local, url, tmp_path):
    done = command(*extract_command(ten_voices, folders["hubert"], url))
    assert "10 utterances extracted" in done.stdout, done.output
    assert remote_hash(url) == content_hash(local)
    assert not (resolve(url) / LEASE).exists()
    assert differences(open_cache(local), open_cache(url)) == []
    again = command(*extract_command(ten_voices, folders["hubert"], url))
    assert "0 utterances extracted" in again.stdout
    assert "10 were cached before" in again.stdout
    shown = command("cache", "info", url, "--manifest", ten_voices.path).stdout
    assert f"{url}: 10 utterances" in shown
    assert "10 of 10 utterances are cached" in shown
    assert size_of(resolve(url)) == pytest.approx(size_of(local), rel=0.01)
    assert "is intact" in command("cache", "verify", url).stdout
    assert "have the same content" in command("cache", "diff", url, local).stdout
    assert "in an object store" in refused("cache", "compact", url)
    runs = []
    for k, cache in enumerate((url, local)):
        swept = command("sweep", cache, ten_voices.path, "--out", tmp_path / str(k), "--folds", 2, "--permutations", 1)
        assert swept.exit_code == 0, swept.output
        runs.append((tmp_path / str(k) / "scores.csv").read_text())
    assert runs[0] == runs[1]


def test_zarr_and_xarray_read_a_cache_there_without_a_warning(ten_voices, folders, local, url):
    xarray = pytest.importorskip("xarray")
    extract(ten_voices, load_exact(folders["hubert"]), url)
    expected = open_cache(local).read_layer(1, pooling="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(zarr_store(resolve(url)), mode="r", use_consolidated=False)
        assert len(list(group.members(max_depth=None))) == 6
        data = xarray.open_zarr(url, chunks=None)
        assert (data["embeddings"].sel(layer="1", pooling="mean").values == expected).all()
    assert (open_cache(url).to_xarray().sel(layer="1", pooling="mean").values == expected).all()


def test_a_damaged_object_is_named_and_repaired_to_the_same_bytes(ten_voices, folders, local, url):
    extract(ten_voices, load_exact(folders["hubert"]), url)
    for name in ("embeddings/c/0/0/0/0", "utterance_id/c/0"):
        file = resolve(url).joinpath(*name.split("/"))
        whole = file.read_bytes()
        file.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        assert "1 files are damaged" in refused("cache", "verify", url)
        repaired = command("cache", "repair", url, ten_voices.path, "--encoder", folders["hubert"])
        assert repaired.exit_code == 0, repaired.output
        assert verify(url) == []
        assert file.read_bytes() == whole
        file.unlink()
        assert "the file is missing" in command("cache", "verify", url).stdout
        command("cache", "repair", url, ten_voices.path, "--encoder", folders["hubert"])
    assert remote_hash(url) == content_hash(local)


def test_a_cache_that_is_open_there_is_not_read_as_it_was_after_a_change(url):
    fill(url, 3)
    cache = open_cache(url)
    before = cache.read_layer("1")
    fill(url, 1, start=3)
    assert (cache.read_layer("1") == before).all()
    remove(resolve(url))
    with pytest.raises(InputError, match="has changed since it was opened"):
        cache.read_layer("1")
    fill(url, 4, start=10)
    with pytest.raises(InputError, match="has changed since it was opened"):
        cache.read_layer("1")
    assert open_cache(url).n_utterances == 4


def test_shards_of_processes_are_merged_there(ten_voices, folders, local, url):
    done = command(*extract_command(ten_voices, folders["hubert"], url), "--processes", 2)
    assert done.exit_code == 0, done.output
    assert remote_hash(url) == content_hash(local)
    shards = resolve(url).with_name("h.zarr.shards")
    assert not [f for f in shards.rglob("*") if f.is_file()]


@pytest.mark.long
def test_a_cluster_fills_it_and_sweeps_from_it(ten_voices, folders, local, url, tmp_path):
    sweep = ("sweep", "--folds", 2, "--permutations", 1, "--weighted-sum-seeds", 1, "--out")
    with two_workers() as cluster:
        there = ("--dask", cluster.scheduler_address)
        filled = command(*extract_command(ten_voices, folders["hubert"], url), *there)
        assert filled.exit_code == 0, filled.output
        swept = command(*sweep, tmp_path / "there", url, ten_voices.path, *there)
        assert swept.exit_code == 0, swept.output
    assert remote_hash(url) == content_hash(local)
    assert command(*sweep, tmp_path / "here", local, ten_voices.path).exit_code == 0
    for file in ("scores.csv", "layer_weights.csv", "predictions.npz"):
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes(), file


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.long
@pytest.mark.parametrize("every", [6, 1])
def test_a_killed_writer_is_resumed_and_the_store_ends_the_same(ten_voices, folders, local, url, forks, every):
    """Killed at each request that writes, or at every sixth; resumed at once, for the lease names this machine."""
    done = forks.run(ten_voices.path, folders["hubert"], url, content_hash(local), every, code=KILLED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-2]) > 15 // every, done.stdout


def test_a_living_writer_is_not_disturbed(ten_voices, folders, url):
    resolve(url).joinpath(LEASE).write_text(owner(pid=os.getppid()))
    message = refused(*extract_command(ten_voices, folders["hubert"], url))
    assert f"is being written by another process ({os.getppid()} on here)" in message
    resolve(url).joinpath(LEASE).write_text(owner(machine="another"))
    assert "its lease expires after 90 seconds" in refused(*extract_command(ten_voices, folders["hubert"], url))


def test_a_store_that_does_not_answer_is_reported(ten_voices, folders, server, monkeypatch):
    assert "s3://nowhere/h.zarr can't be reached" in refused("cache", "verify", "s3://nowhere/h.zarr")
    message = refused(*extract_command(ten_voices, folders["hubert"], "s3://nowhere/h.zarr"))
    assert "Check that the address is right" in message
    assert "is no cache of embeddings" in refused("cache", "verify", "s3://corpora/nothing.zarr")
    assert "can't be opened" in command("cache", "verify", "ftpx://host/h.zarr").output


def test_a_store_that_is_lost_half_way_is_reported():
    """With a server of its own, which dies between two blocks."""
    script = (
        "import os, signal, sys\nfrom helpers.cache_rows import DIM, PLAN, rows\n"
        "from layerprobe.probe.cache.writer import CacheWriter\n"
        "import typer\nfrom layerprobe.cli.options import user_command\napp = typer.Typer()\n"
        "@app.command()\n@user_command\ndef fill() -> None:\n"
        "    with CacheWriter('s3://corpora/lost.zarr', PLAN, dim=DIM) as writer:\n"
        "        for row in rows(2):\n"
        "            writer.append(*row)\n            writer.flush()\n"
        "            os.kill(int(sys.argv.pop()), signal.SIGKILL)\n"
        "app(args=[])\n"
    )
    with served() as process:
        done = subprocess.run(
            [sys.executable, "-c", script, str(process.pid)],
            capture_output=True,
            text=True,
            env=script_environment() | {"AWS_MAX_ATTEMPTS": "1"},  # s3fs asks again by itself
        )
    assert done.returncode == 2, done.stderr
    assert "Error: the object store failed (" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def test_a_journal_is_only_ever_written_whole(ten_voices, folders, url):
    extract(ten_voices, load_exact(folders["hubert"]), url)
    lines = [json.loads(line) for line in (resolve(url) / JOURNAL).read_text().splitlines()]
    assert [(line["block"], line["rows"]) for line in lines] == [(0, 10)]
