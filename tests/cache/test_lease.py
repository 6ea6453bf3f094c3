"""One writer per store: the lease of a dead owner is taken over, that of a living one is not, here and elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from helpers.cache_rows import DIM, PLAN, fill, rows
from helpers.command_line import script_environment
from helpers.leases import owner

import layerprobe.probe.lease as leases
from layerprobe.probe.cache.lease import LEASE, leased
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import WITHOUT_LINKS

ELSEWHERE = owner(pid=77, machine="another boot", host="node7")


def aged(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))


def left(folder, content, monkeypatch):
    """Fill a cache, leave a lease in it and return the path of the lease."""
    monkeypatch.setattr(leases, "WAIT_SECONDS", 0.01)
    fill(folder / "a.zarr", 3)
    lease = folder / "a.zarr" / LEASE
    lease.write_text(content)
    return lease


def test_a_lease_stands_while_a_store_is_written_and_goes_with_it(tmp_path):
    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM):
        content = json.loads((tmp_path / "a.zarr" / LEASE).read_text())
        assert content["pid"] == os.getpid()
        assert content["host"]
        with pytest.raises(InputError, match="is being written by another process"), leased(tmp_path / "a.zarr"):
            pass
    assert not (tmp_path / "a.zarr" / LEASE).exists()


def test_the_lease_of_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path):
    holder = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom layerprobe.probe.cache.lease import leased\n"
        "with leased(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    fill(tmp_path / "a.zarr", 3)
    env = script_environment()
    assert subprocess.run([sys.executable, "-c", holder, tmp_path / "a.zarr"], env=env).returncode < 0
    assert (tmp_path / "a.zarr" / LEASE).exists()
    began = time.monotonic()
    fill(tmp_path / "a.zarr", 5)
    assert time.monotonic() - began < leases.LEASE_SECONDS
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 5


def test_a_process_that_ends_while_it_writes_its_lease_leaves_none_without_owner(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("layerprobe.probe.lease.json.dumps", lambda _: "\ud800")  # can't be written
        with pytest.raises(UnicodeEncodeError), leased(tmp_path):
            pass
    assert not (tmp_path / LEASE).exists()
    with leased(tmp_path):
        pass


@pytest.mark.parametrize("number", WITHOUT_LINKS)
def test_a_file_system_without_links_holds_leases_too(tmp_path, number, monkeypatch):
    def refuse(*_):
        raise OSError(number, "no links here")

    monkeypatch.setattr("layerprobe.probe.filesystem.os.link", refuse)
    with leased(tmp_path), pytest.raises(InputError, match="is being written by another process"), leased(tmp_path):
        pass
    assert not (tmp_path / LEASE).exists()


def test_the_lease_of_another_machine_holds_until_it_expires(tmp_path, monkeypatch):
    """As on a shared folder where locks do not reach from one machine to the next."""
    lease = left(tmp_path, ELSEWHERE, monkeypatch)
    aged(lease, leases.LEASE_SECONDS - 30)
    with pytest.raises(InputError, match=r"another process \(77 on node7\).*lease expires after 90 seconds"):
        fill(tmp_path / "a.zarr", 5)
    assert json.loads(lease.read_text())["host"] == "node7"
    aged(lease, leases.LEASE_SECONDS + 1)
    fill(tmp_path / "a.zarr", 5)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 5
    assert not list((tmp_path / "a.zarr").rglob("*.partial"))


@pytest.mark.parametrize("torn", [b"", b'{"pid": 7', b"\0\0\0\0", b"[]"])
def test_a_torn_lease_is_without_owner_once_it_expired(tmp_path, torn, monkeypatch):
    lease = left(tmp_path, torn.decode(), monkeypatch)
    aged(lease, leases.LEASE_SECONDS + 1)
    fill(tmp_path / "a.zarr", 5)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 5


def test_the_lease_of_another_format_version_is_respected_until_it_expires(tmp_path, monkeypatch):
    """Whether its process lives can't be known: the meaning of its keys may have changed."""
    lease = left(tmp_path, owner(version=3), monkeypatch)
    with pytest.raises(InputError, match="is being written by another process"):
        fill(tmp_path / "a.zarr", 5)
    aged(lease, leases.LEASE_SECONDS + 1)
    fill(tmp_path / "a.zarr", 5)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 5


def test_of_two_that_take_a_lease_over_at_once_one_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "WAIT_SECONDS", 0.3)
    lease = tmp_path / LEASE
    lease.parent.mkdir()
    lease.write_text(owner(machine="another"))
    aged(lease, leases.LEASE_SECONDS + 1)
    both = [leases.Lease(tmp_path, lease), leases.Lease(tmp_path, lease)]
    monkeypatch.setattr(leases, "_age", lambda _: leases.LEASE_SECONDS + 1)  # both have seen it old
    won = []

    def take(one):
        try:
            one.take()
            won.append(one)
        except InputError:
            pass

    threads = [threading.Thread(target=take, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()
    assert not lease.exists()


def test_whoever_stood_still_until_its_lease_was_taken_over_writes_no_more(tmp_path):
    """A laptop that slept, a process that was stopped: the store is another's now."""
    every = list(rows(4))
    with (  # noqa: PT012 - it is taken over while it is written
        pytest.raises(InputError, match="was taken over by another process"),
        CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer,
    ):
        writer.append(*every[0])
        writer.flush()
        (tmp_path / "a.zarr" / LEASE).write_text(owner(machine="another"))
        writer.append(*every[1])
        writer.flush()
    assert json.loads((tmp_path / "a.zarr" / LEASE).read_text())["machine"] == "another"
    (tmp_path / "a.zarr" / LEASE).unlink()
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 1


def test_a_lease_is_renewed_while_its_owner_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    with leased(tmp_path):
        aged(tmp_path / LEASE, 1_000)
        for _ in range(500):
            if leases._age(tmp_path / LEASE) < 100:
                break
            time.sleep(0.02)
        assert leases._age(tmp_path / LEASE) < 100


def test_a_lease_of_the_future_is_taken_over_if_it_is_not_renewed(tmp_path, monkeypatch):
    """A machine whose clock was wrong died, or a folder was copied with its times: no wait makes such a lease old."""
    monkeypatch.setattr(leases, "RENEWAL_WAIT_SECONDS", 0.05)
    lease = left(tmp_path, ELSEWHERE, monkeypatch)
    aged(lease, -86_400)
    fill(tmp_path / "a.zarr", 5)
    assert len(open_cache(tmp_path / "a.zarr").utterance_ids) == 5


def test_a_lease_of_the_future_holds_while_its_owner_renews_it(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEWAL_WAIT_SECONDS", 2)
    lease = left(tmp_path, ELSEWHERE, monkeypatch)
    aged(lease, -86_400)
    renewal = threading.Timer(0.1, aged, (lease, -86_420))  # by a clock that is a day ahead
    renewal.start()
    with pytest.raises(InputError, match=r"another process \(77 on node7\)"):
        fill(tmp_path / "a.zarr", 5)
    renewal.join()


def test_the_age_of_a_lease_is_by_the_clock_of_its_store(tmp_path, monkeypatch):
    """The clock of this machine is an hour ahead; only files that are written show the time."""
    left(tmp_path, ELSEWHERE, monkeypatch)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3_600)
    with pytest.raises(InputError, match=r"another process \(77 on node7\)"):
        fill(tmp_path / "a.zarr", 5)


def test_a_folder_has_one_writer_who_is_named_and_an_empty_one_is_removed(tmp_path):
    folder = tmp_path / "deep" / "run"
    with leases.leased_folder(folder):
        assert json.loads((folder / "lease.json").read_text())["pid"] == os.getpid()
        message = (
            rf"^{folder} is being written by another process \({os.getpid()} on .*\)\. Wait for it to end\. \[LP440\]$"
        )
        with pytest.raises(InputError, match=message), leases.leased_folder(folder):
            pass
        assert folder.exists()
    assert not folder.exists()
    with leases.leased_folder(folder):
        (folder / "scores.csv").touch()
        (folder / "plan.toml-01ab.partial").touch()
    with leases.leased_folder(folder):
        pass
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "scores.csv"]
    with (
        pytest.raises(InputError, match=r"is a file\. Name a folder as --out\."),
        leases.leased_folder(folder / ".lock"),
    ):
        pass
