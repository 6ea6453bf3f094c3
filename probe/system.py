"""What this process may use of its machine: processor cores and memory, within its container's limits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib


def cores() -> int:
    """Processor cores that this process may use: of its affinity mask, and of its container's CPU quota."""
    return int(joblib.cpu_count())


def machine_memory(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of memory that this process may use: what the machine has, or its container's limit where that is lower.

    Args:
        proc: where Linux describes processes
        cgroups: where Linux shows control groups, of version 1 or 2

    Returns:
        the lowest limit that applies; infinite where the system tells none
    """
    names = getattr(os, "sysconf_names", {})
    known = "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))] if known else [float("inf")]
    try:
        groups = (proc / "self" / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:  # no Linux
        return limits[0]
    for line in groups:
        _, controllers, own = line.split(":", 2)
        if controllers in ("", "memory"):  # version 2 has one hierarchy for all, version 1 one each
            root, file = (cgroups, "memory.max") if not controllers else (cgroups / "memory", "memory.limit_in_bytes")
            group = root / own.lstrip("/")
            limits += [_limit(place / file) for place in (group, *group.parents) if place.is_relative_to(root)]
    return min(limits)


def usable_memory() -> float:
    """Bytes that layers may take where all must be held: most of what this process may use."""
    return 0.8 * machine_memory()


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch work with ``n`` threads, and with as many as before afterwards; with one, sums have one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resident_memory() -> int:
    """Bytes that the process holds now."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux: the most that it ever held
        return peak_memory()


def peak_memory(*, anew: bool = False) -> int:
    """Bytes that the process held at its most, since it began; ``anew`` forgets what was before, on Linux."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # no Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _limit(file: Path) -> float:
    """The number of a control group's file; infinite where there is none, or it says ``max``."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:  # not mounted, or a group of the host that a container does not see
        return float("inf")
    return float(text) if text.isdecimal() else float("inf")
