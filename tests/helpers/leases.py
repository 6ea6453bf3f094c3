"""The content of a lease file as its owner writes it."""

from __future__ import annotations

import json

import layerprobe.probe.cache.lease as claims


def owner(*, pid=1, machine=None, host="here"):
    """What a claim says; of this machine if none is named."""
    machine = claims._machine() if machine is None else machine
    return json.dumps({"token": "0123", "pid": pid, "host": host, "machine": machine})
