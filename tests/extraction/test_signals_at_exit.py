"""A signal that reaches a process of an extraction while Python ends in it changes nothing and prints nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import atexit, sys, time
from multiprocessing import Pipe
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed import multiprocess

class Job:
    @property
    def encoder(self):
        raise InputError("LP401", "no encoder")

def ending():  # as a library's callback, which imports modules
    print("ending", flush=True)
    time.sleep(1.5)

atexit.register(ending)
ours, theirs = Pipe(duplex=False)
multiprocess._fill(Job(), multiprocess.Shard(1, 2), theirs)
print(ours.recv()[0], flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_process_ends_is_ignored(number):
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "LP401\n"
        assert process.stdout.readline() == "ending\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
