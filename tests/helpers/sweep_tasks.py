"""Work of tasks that tests give to the processes of a sweep; imports nothing that such a process has not imported."""

from __future__ import annotations

import os
import sys
import time

from threadpoolctl import threadpool_info

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.predictions import NO_RESULTS


def threads(inputs):
    """Fail with the numbers of threads of this process, and whether torch is imported there."""
    counts = {info["num_threads"] for info in threadpool_info()}
    raise InputError("LP000", f"{sorted(counts)} {os.environ['OMP_NUM_THREADS']} {'torch' in sys.modules}")


def slow(inputs):
    time.sleep(600)


def at_once(inputs):
    return NO_RESULTS


def dies(inputs):
    os._exit(9)
