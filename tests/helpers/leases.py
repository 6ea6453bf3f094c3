"""The content of a lease file as its owner writes it."""

from __future__ import annotations

import json

import layerprobe.probe.lease as leases
from layerprobe.probe.version import CACHE_FORMAT_VERSION


def owner(*, pid=1, machine=None, host="here", version=CACHE_FORMAT_VERSION):
    """Return the content of a lease; of this machine unless another is named."""
    machine = leases._machine() if machine is None else machine
    return json.dumps({"format_version": version, "token": "0123", "pid": pid, "host": host, "machine": machine})
