"""Processor cores and memory that this process may use, within its container's limits, and how its threads wait."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerprobe.probe.exceptions import InputError

# Read once, when torch and numpy are imported. By default a thread that waits for others at the end of a product holds
# its core for milliseconds; where another process needs that core, each product then takes a time slice.
PASSIVE_WAITING = {
    "OMP_WAIT_POLICY": "passive",  # of GNU's OpenMP, which torch uses on Linux, and of LLVM's: threads sleep
    "KMP_BLOCKTIME": "0",  # of LLVM's and Intel's: milliseconds before they do
    "OPENBLAS_THREAD_TIMEOUT": "4",  # of numpy's and scipy's OpenBLAS: 2 ** 4 cycles before they do
}
THREADS_OF_BLAS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")  # of which OpenBLAS takes the first


def wait_passively() -> None:
    """Let threads of OpenMP and BLAS sleep while they wait, in this process and in those that it starts.

    It has an effect before torch and numpy are imported only, so the command line calls it first. numpy's products run
    on one thread. Variables of the environment that a user set stay as they are.
    """
    for name, value in PASSIVE_WAITING.items():
        os.environ.setdefault(name, value)
    if not any(name in os.environ for name in THREADS_OF_BLAS):
        os.environ[THREADS_OF_BLAS[0]] = "1"


def cores() -> int:
    """Return the number of processor cores of the affinity mask and of the container's CPU quota."""
    import joblib  # which imports numpy, too early for `wait_passively`

    return int(joblib.cpu_count())


def machine_memory(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes of memory that this process may use: the machine's, or its container's limit if lower.

    Args:
        proc: folder in which Linux describes processes
        cgroups: folder of Linux's control groups, of version 1 or 2

    Returns:
        the lowest limit that applies; infinite where the system reports none
    """
    names = getattr(os, "sysconf_names", {})
    known = "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))] if known else [float("inf")]
    try:
        groups = (proc / "self" / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return limits[0]
    for line in groups:
        _, controllers, group_path = line.split(":", 2)
        if controllers in ("", "memory"):  # version 2 has one hierarchy for all, version 1 one each
            root, file = (cgroups, "memory.max") if not controllers else (cgroups / "memory", "memory.limit_in_bytes")
            group = root / group_path.lstrip("/")
            limits += [_limit(parent / file) for parent in (group, *group.parents) if parent.is_relative_to(root)]
    return min(limits)


def choose_device(device: str | None) -> str:
    """Return the requested device of torch, or by default a GPU where there is one.

    Raises:
        InputError: if torch has no such device, or a GPU is requested and there is none
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        requested = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            "LP835", f"device {device!r} is unknown. Name cpu, cuda, or cuda:1 for the second GPU."
        ) from error
    if requested.type == "cuda":
        n = torch.cuda.device_count()
        if n == 0:
            raise InputError("LP836", f"device {device} is not available: torch finds no GPU. Use --device cpu.")
        if (requested.index or 0) >= n:
            raise InputError(
                "LP836", f"device {device} is not available: torch finds {n} GPU{'s'[: n > 1]}, counted from 0."
            )
    return device


def usable_memory(device: str = "cpu") -> float:
    """Return the bytes that embeddings held in memory may take: 80 % of `machine_memory`, or of what a GPU has free."""
    return 0.8 * (machine_memory() if device == "cpu" else free_device_memory(device))


def free_device_memory(device: str) -> float:
    """Return the bytes of a GPU that torch can allocate: those that are free, and those that it keeps from earlier."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(torch.cuda.mem_get_info(device)[0] + kept)


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set torch's number of threads within a context; with one thread the order of sums is fixed."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resident_memory() -> int:
    """Return the bytes of memory that the process holds now."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: its maximum so far
        return peak_memory()


def peak_memory(*, anew: bool = False) -> int:
    """Return the process's maximum of resident bytes; ``anew`` resets it first, on Linux."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _limit(file: Path) -> float:
    """Return the number in a control group's file; infinite where there is none, or it reads ``max``."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:  # not mounted, or a group of the host that a container does not see
        return float("inf")
    return float(text) if text.isdecimal() else float("inf")
