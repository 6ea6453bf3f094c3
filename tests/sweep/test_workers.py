"""The processes of a sweep: how many, with how many threads, and how they end."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.planted import DIM, N, manifest_of, store
from helpers.sweep_tasks import at_once, dies, slow, threads

from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.sweep.fits.workers import Task, task_runner
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

SECONDS = 60.0  # in which processes must have ended; they take less than two


def descendants(pid):
    """Return the processes below one, which have not ended."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    below, found = [pid], []
    while below:
        below = [child for one in below for child in children.get(one, [])]
        found += below
    return found


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def tasks_of(work, n=2):
    return [Task(f"task {k}", f"task {k}", "kind", 1.0, work) for k in range(n)]


@pytest.fixture
def in_processes(tmp_path):
    """A function that does tasks in two processes, and returns the names of those that are done."""

    def run(*tasks):
        partial = PartialResults(tmp_path / "run", "0" * 12, ["u0"])
        with task_runner(None, partial, jobs=2, started=lambda task: None) as run_tasks:
            return [finished.task.name for finished in run_tasks(list(tasks))]

    return run


def test_a_process_has_one_thread_and_no_torch(in_processes):
    with pytest.raises(InputError, match=r"^\[1\] 1 False \[LP\d{3}\]$"):
        in_processes(*tasks_of(threads))


def test_the_end_of_a_sweep_leaves_no_process_and_no_inputs(in_processes, tmp_path):
    before = set(descendants(os.getpid()))
    assert sorted(in_processes(*tasks_of(at_once, 5))) == [f"task {k}" for k in range(5)]
    assert not [path for path in (tmp_path / "run" / "partial").iterdir() if path.suffix != ".npz"]
    assert wait_until(lambda: not [p for p in set(descendants(os.getpid())) - before if not is_tracker(p)])


def test_a_process_that_dies_is_one_sentence_and_ends_the_others(in_processes):
    before = set(descendants(os.getpid()))
    with pytest.raises(InputError, match=r"^A process that probes layers died, perhaps for want of memory\. Run the"):
        in_processes(*tasks_of(slow, 1), *tasks_of(dies, 1))
    assert wait_until(lambda: not [p for p in set(descendants(os.getpid())) - before if not is_tracker(p)])


def test_a_full_disk_leaves_no_part_of_the_inputs(tmp_path, monkeypatch):
    def full(inputs, file):
        file.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("joblib.dump", full)
    partial = PartialResults(tmp_path / "run", "0" * 12, ["u0"])
    runner = task_runner(None, partial, jobs=2, started=lambda task: None)
    with pytest.raises(OSError, match="No space left on device"), runner:
        pass
    assert not (tmp_path / "run" / "partial").exists()


def sweep_in_two_processes(folder):
    """Sweep into a folder with two jobs, and return the run as text; for a process that may not start others."""
    x = np.random.default_rng(0).normal(size=(N, 2, DIM))
    manifest = manifest_of(x[:, 1, :2], folder / "my.csv")
    cache = store(folder / "a.zarr", x, layers=("0", "1"))
    plan = plan_sweep(manifest, permutations=1, weighted_sum_seeds=0)
    return str(sweep([cache], manifest, plan, out=folder / "run", jobs=2).path)


def test_a_process_of_a_pool_sweeps_by_itself_for_it_may_not_start_others(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(sweep_in_two_processes, (tmp_path,)) == str(tmp_path / "run")


def test_fewer_than_one_job_is_refused(tmp_path):
    manifest = manifest_of(np.zeros((N, 2)), tmp_path / "my.csv")
    cache = store(tmp_path / "a.zarr", np.zeros((N, 1, DIM)), layers=("0",))
    for jobs in (0, -1):
        with pytest.raises(InputError, match=f"^jobs is {jobs}. Give 1 or more, or None for as many as there are cor"):
            sweep([cache], manifest, out=tmp_path / "run", jobs=jobs)


def ignores_ctrl_c(pid):
    """Whether a process leaves Ctrl-C to the one that started it, as those of a sweep do from their beginning."""
    try:
        ignored = Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0]
    except OSError:
        return False
    return bool(int(ignored, 16) >> (signal.SIGINT - 1) & 1)


def is_tracker(pid):
    """Whether a process is that of joblib which removes temporary files, and ends with the process that started it."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_a_sweep_with_two_jobs_ends_all_of_its_processes(number, tmp_path, forks):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3, DIM))
    soundfile.write(tmp_path / "x.wav", np.zeros(1_600), 16_000)
    manifest = manifest_of(x[:, 1, :2], tmp_path / "my.csv")
    write_manifest(manifest.path, manifest.table, manifest.header)
    store(tmp_path / "a.zarr", x, layers=("0", "1", "2"))
    arguments = ["sweep", tmp_path / "a.zarr", manifest.path, "--weighted-sum-seeds", 0, "--permutations", 5_000]
    process = forks.start(*arguments, "--jobs", 2, "--out", tmp_path / "run", module="layerprobe", new_session=True)
    assert wait_until(lambda: sum(ignores_ctrl_c(p) for p in descendants(process.pid) if not is_tracker(p)) == 2)
    below = descendants(process.pid)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        os.kill(process.pid, number)
    done = process.wait(timeout=SECONDS)
    assert done.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert wait_until(lambda: not any(map(lives, below)))
    if number != signal.SIGKILL:
        left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
        assert not left & {"inputs.joblib", "lease.json"}, left


def test_the_modules_of_a_process_import_no_torch_and_no_figures():
    code = (
        "import sys, layerprobe.probe.sweep.fits.tasks\n"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
