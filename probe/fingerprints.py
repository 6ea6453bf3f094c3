"""Fingerprints: twelve hex digits that change with any choice that could change a number."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def plan_fingerprint(plan: DataclassInstance) -> str:
    """Return the fingerprint of a plan, a dataclass of plain values: equal plans have equal ones."""
    return text_fingerprint(json.dumps(asdict(plan), sort_keys=True))


def combined_fingerprint(*parts: str) -> str:
    """Return one fingerprint from several, for a run that joins a sweep plan, caches and a manifest."""
    return text_fingerprint("\n".join(parts))


def text_fingerprint(text: str) -> str:
    """Return the first twelve hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
