"""Which settings of two runs differ, by their plans, for the error that refuses to overwrite one with the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

IGNORED = {  # keys that are no settings: provenance, counts, and hashes of settings that are listed by themselves
    "command", "layerprobe_version", "format_version", "fingerprint", "manifest", "path", "folds", "notes",
    "encoder_folder",
    "n_features", "n_utterances", "n_not_in_manifest", "parameters", "target_counts", "left_out", "held_out",
    "shared_audio", "held_out_fingerprint", "files", "pending",
}  # fmt: skip
NAMES = {"corpus.content": "content of the manifest", "rows_fingerprint": "utterances of the cache"}
SHOWN = 5


def plan_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return a text for each setting that differs, with both values, at most `SHOWN` and how many more there are.

    Args:
        there: the content of a folder's plan.toml
        here: the content of the plan.toml that would replace it

    >>> plan_differences({"sweep": {"seed": 0}}, {"sweep": {"seed": 1, "n_folds": 5}})
    ['sweep.seed is 0 there, 1 here', 'sweep.n_folds is missing there, 5 here']
    """
    found = list(_differences(there, here, ""))
    return [*found[:SHOWN], f"{len(found) - SHOWN} more settings"] if len(found) > SHOWN else found


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in dict.fromkeys([*there, *here]):
        if key in IGNORED or (prefix == "corpus." and key.startswith("n_")):
            continue
        a, b = _plain(there.get(key)), _plain(here.get(key))
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        else:
            name = NAMES.get(prefix + key) or (f"{prefix}{NAMES[key]}" if key in NAMES else prefix + key)
            yield f"{name} is {_shown(a)} there, {_shown(b)} here"


def _plain(value: Any) -> Any:
    """Return tables by their names, so that encoders are compared with themselves, tuples as lists, [] as None."""
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, dict) and "name" in v for v in value):
            return {str(v["name"]): v for v in value}
        return [_plain(v) for v in value] or None
    return value


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, dict):
        return ", ".join(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
