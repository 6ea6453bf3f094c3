"""What a process may use: affinity, CPU quota, memory limits of both versions of control groups; how threads wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from layerprobe.probe.system import PASSIVE_WAITING, THREADS_OF_BLAS, cores, machine_memory

LIBRARIES = """
import ctypes, sys, threadpoolctl
from importlib.util import find_spec
from pathlib import Path
import numpy
folder = Path(find_spec("torch").origin).parent
for library in [*(folder / "lib").glob("libgomp*"), *folder.with_name("torch.libs").glob("libgomp*")][:1]:
    ctypes.CDLL(str(library))  # prints its settings, because of OMP_DISPLAY_ENV
print([info["num_threads"] for info in threadpoolctl.threadpool_info() if info["internal_api"] == "openblas"])
"""
COMMAND_LINE = """
import subprocess, sys
from layerprobe.cli.app import main
sys.argv = ["layerprobe", "--version"]
try:
    main()
except SystemExit:
    sys.exit(subprocess.run([sys.executable, "-c", sys.stdin.read()]).returncode)
"""


def effective_settings(**chosen):
    """Return the settings of OpenMP and the numbers of OpenBLAS' threads in a process that the command line starts."""
    known = {name: value for name, value in os.environ.items() if name not in (*PASSIVE_WAITING, *THREADS_OF_BLAS)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE], input=LIBRARIES, capture_output=True, text=True, check=True,
        env=known | {"OMP_DISPLAY_ENV": "true"} | chosen,
    )  # fmt: skip
    return done.stderr, done.stdout.splitlines()[-1]


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "4096\n"}, 4096),  # the parent's limit holds
        ("0::/a/b\n", {"a/b/memory.max": "1024\n", "a/memory.max": "4096\n"}, 1024),
        ("0::/../../host/only\n", {"memory.max": "2048\n"}, 2048),  # seen from inside a container
        ("9:memory:/job\n3:cpu:/job\n", {"memory/job/memory.limit_in_bytes": "512\n"}, 512),  # version 1
    ],
)
def test_a_containers_limit_counts_where_it_is_lower(tmp_path, groups, limits, expected):
    proc = written(tmp_path / "proc", {"self/cgroup": groups})
    assert machine_memory(proc=proc, cgroups=written(tmp_path / "cgroups", limits)) == expected


def test_without_limits_it_is_what_the_machine_has(tmp_path):
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine_memory(proc=tmp_path / "none") == physical
    proc = written(tmp_path / "proc", {"self/cgroup": "0::/\n9:memory:/\n"})
    huge = {"memory.max": "max\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}  # version 1's "none"
    assert machine_memory(proc=proc, cgroups=written(tmp_path / "cgroups", huge)) == physical


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_cores_are_those_of_the_affinity_mask():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from layerprobe.probe.system import cores; print(cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert cores() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP here")
def test_threads_of_commands_and_of_their_processes_sleep_while_they_wait():
    openmp, blas = effective_settings()
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in openmp
    assert blas == "[1]"


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP here")
def test_what_a_user_set_of_threads_stays():
    openmp, blas = effective_settings(OMP_WAIT_POLICY="active", OMP_NUM_THREADS="2")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in openmp
    assert blas == f"[{min(2, cores())}]"


def test_importing_the_library_changes_no_environment():
    code = """
import os
before = dict(os.environ)
import layerprobe.cli.app, layerprobe.demo
names = {name for name in os.environ.keys() | before.keys() if os.environ.get(name) != before.get(name)}
print({name for name in names if name.startswith(("OMP", "KMP", "OPENBLAS", "MKL"))})
"""
    environment = {name: value for name, value in os.environ.items() if name not in PASSIVE_WAITING}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "set()\n"
