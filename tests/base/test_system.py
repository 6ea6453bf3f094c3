"""What a process may use: affinity, CPU quota, and the memory limits of both versions of control groups."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from layerprobe.probe.system import cores, machine_memory


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
