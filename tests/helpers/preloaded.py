"""Processes of multiprocessing and of Dask, forked from a server that has imported what they need.

The server has the environment of the first test that asks for a process; Dask's workers are given today's.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext

from helpers.fork_server import PRELOADED


def preloaded_context() -> BaseContext:
    """In place of ``get_context("spawn")``, where each process would import torch anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "distributed"])
    return context


@contextmanager
def two_workers() -> Iterator:
    """A cluster of two processes with a thread each, at any free ports."""
    import dask
    import distributed

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        distributed.utils.get_mp_context()  # it names what is to be imported, once; then it is our turn
        preloaded_context()
        choices = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "env": dict(os.environ)}
        with distributed.LocalCluster(**choices) as cluster:
            yield cluster
