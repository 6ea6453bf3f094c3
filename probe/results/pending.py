"""Runs that have the scores of the ratings of all layers, while controls and other work are pending.

Such a run is whole for readers: its files are listed in plan.toml, which names what is pending. It has a fingerprint of
its own, so that files of it are never taken for those of the complete run, which replaces it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.results.run_files import PLAN

PENDING = "pending"  # key of plan.toml
CONTROLS_PENDING = "controls pending"  # in figures


def pending_fingerprint(fingerprint: str) -> str:
    """Return the fingerprint of a run while work is pending, from that of the complete run."""
    return combined_fingerprint(fingerprint, PENDING)


def pending_work(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of a run is pending: names in the columns control, probe and baseline of scores; empty if nothing."""
    return tuple(plan.get(PENDING, ()))


def pending_controls(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the controls among what is pending."""
    named = (*plan.get("sweep", {}).get("controls", ()), "random_init")
    return tuple(name for name in pending_work(plan) if name in named)


def pending_label(plans: Iterable[Mapping[str, Any]]) -> str:
    """Return the label of a figure of some runs; empty if all of them are complete."""
    plans = list(plans)
    if any(pending_controls(plan) for plan in plans):
        return CONTROLS_PENDING
    return "unfinished run" if any(pending_work(plan) for plan in plans) else ""


def is_complete(folder: Path, fingerprint: str) -> bool:
    """Return whether a folder has the complete run with a fingerprint, according to its plan.toml."""
    try:
        plan = tomllib.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return plan.get("fingerprint") == fingerprint
