"""Removal of paths, and of ids of utterances and speakers, from files that are pushed."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd

URLS = r"(?:file|tar|parquet|arrow)://"  # of files, and of audio within them (`probe.data.stored.locations`)
ABSOLUTE = re.compile(rf"(?:~[\w.-]*)?[/\\]|{URLS}|[A-Za-z]:[/\\]")  # begins a path of a machine
PATH_KEYS = ("encoder_folder", "_name_or_path", "name_or_path", "vocab_file", "merges_file", "tokenizer_file")
IN_TEXT = re.compile(rf"(?<![\w.:/\\-])(?:{URLS}|~[\w.-]*/|/(?=[^/\s])|[A-Za-z]:[\\/])[^\s'\",;)]*")
# of the reason why an utterance with a span outside of its audio could not be used (`probe.data.spans`)
LABEL = re.compile(r"(?<= has a span outside of the audio: )(.*?) \(.*\)(?= from \S+ to \S+ s, )", re.DOTALL)
SPEAKERS = "--same-speaker"  # two names of one speaker, A=B


def without_paths(value: Any) -> Any:
    """Return nested tables and lists with each absolute path in their texts shortened to its last name.

    >>> without_paths({"path": "/home/alice/caches/h.zarr", "upstream": "facebook/hubert", "n": 2})
    {'path': 'h.zarr', 'upstream': 'facebook/hubert', 'n': 2}
    >>> without_paths("layerprobe sweep /home/alice/h.zarr --manifest=/data/my.csv --out runs/first")
    'layerprobe sweep h.zarr --manifest=my.csv --out runs/first'
    """
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return shortened(value) if isinstance(value, str) else value


def shortened(text: str) -> str:
    r"""Return a text in which each absolute path is shortened to its last name.

    >>> shortened("/data/my corpus/a.wav"), shortened("C:\\data\\a.wav"), shortened("24 kHz/mono")
    ('a.wav', 'a.wav', '24 kHz/mono')
    >>> shortened("~/a.wav"), shortened("s3://bucket/h.zarr"), shortened("layerprobe extract '/my data/x.csv' --out o")
    ('a.wav', 's3://bucket/h.zarr', 'layerprobe extract x.csv --out o')
    >>> shortened("no audio in parquet:///data/my/x.parquet#3"), shortened("tar:///data/x.tar#anna/a.wav")
    ('no audio in x.parquet#3', 'a.wav')
    """
    if text.startswith("layerprobe "):
        return _command(text)
    if ABSOLUTE.match(text):
        return _last(text)
    return IN_TEXT.sub(lambda found: _last(found[0]), text)


def _command(text: str) -> str:
    """Return a command line whose arguments that are absolute paths are shortened, and without names of speakers.

    >>> _command("layerprobe sweep h.zarr --same-speaker anna=Anna --same-speaker=b=B --same-speaker none --seed 1")
    'layerprobe sweep h.zarr --same-speaker none --seed 1'
    """
    try:
        arguments = _without_speakers(shlex.split(text))
    except ValueError:
        return "layerprobe"
    parts = (argument.partition("=") for argument in arguments)
    short = [
        name + sign + _last(value) if sign and ABSOLUTE.match(value) else shortened(name + sign + value)
        for name, sign, value in parts
        if name != "layerprobe" or sign
    ]
    return shlex.join(["layerprobe", *short])


def _without_speakers(arguments: list[str]) -> list[str]:
    """Return the arguments of a command without the options that name two speakers."""
    kept: list[str] = []
    for argument in arguments:
        if kept and kept[-1] == SPEAKERS and "=" in argument:
            kept.pop()
        elif not (argument.startswith(f"{SPEAKERS}=") and argument.count("=") > 1):
            kept.append(argument)
    return kept


def _last(path: str) -> str:
    kind = PureWindowsPath if "\\" in path else PurePosixPath
    return kind(path).name


def plan_without_people(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the content of plan.toml without ids of utterances and names of speakers.

    Which names are one speaker (``same_speaker``) and examples of shared audio are left out.
    """
    changed = dict(plan)
    if isinstance(sweep := plan.get("sweep"), dict) and "same_speaker" in sweep:
        changed["sweep"] = sweep | {"same_speaker": [rule for rule in sweep["same_speaker"] if "=" not in rule]}
    if isinstance(shared := plan.get("shared_audio"), dict):
        changed["shared_audio"] = {key: value for key, value in shared.items() if key != "examples"}
    return changed


def quarantine_table(content: bytes, *, keep_ids: bool, keep_labels: bool) -> bytes:
    """Return quarantine.csv without paths: the file's name alone, or neither that nor the utterance's id.

    Args:
        content: bytes of the table, whose reasons may name the path or the id
        keep_ids: whether ids of utterances and names of files stay
        keep_labels: whether labels of spans stay, which may be text that was spoken
    """
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    rows = zip(table["path"].tolist(), table["utterance_id"].tolist(), table["reason"].tolist(), strict=True)
    changed = [
        _quarantined(path, name, reason if keep_labels else without_label(reason), keep_ids=keep_ids)
        for path, name, reason in rows
    ]
    for k, column in enumerate(("path", "utterance_id", "reason")):
        table[column] = [row[k] for row in changed]
    return table.to_csv(index=False, lineterminator="\n").encode()


def without_labels(content: bytes) -> bytes:
    """Return the table of peaks, ``peak_spans.csv``, with no label of any span."""
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    return table.assign(label="").to_csv(index=False, lineterminator="\n").encode()


def without_label(reason: str) -> str:
    """Return the reason of a quarantined utterance without the label of a span.

    >>> without_label("s.csv has a span outside of the audio: u1#0002 ('so (it is)') from 2 to 3 s, and the …")
    's.csv has a span outside of the audio: u1#0002 from 2 to 3 s, and the …'
    """
    return LABEL.sub(r"\1", reason)


def _quarantined(path: str, name: str, reason: str, *, keep_ids: bool) -> tuple[str, str, str]:
    """Return path, id and reason of a quarantined utterance as they are pushed."""
    reason = reason.replace(path, _last(path)) if path else reason
    if keep_ids:
        return _last(path), name, shortened(reason)
    for private in sorted({_last(path), name} - {""}, key=len, reverse=True):
        reason = reason.replace(private, "…")
    return "", "", shortened(reason)


def settings_without_paths(content: bytes) -> bytes:
    """Return a JSON file of a model's or cache's settings whose keys that name a local folder hold its name alone."""
    return (json.dumps(_names_only(json.loads(content)), indent=2, ensure_ascii=False) + "\n").encode()


def _names_only(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: shortened(item) if key in PATH_KEYS and isinstance(item, str) else _names_only(item)
            for key, item in value.items()
        }
    return [_names_only(item) for item in value] if isinstance(value, list) else value


def json_without_paths(content: bytes) -> bytes:
    """Return a JSON document with every absolute path shortened to its last name."""
    return (json.dumps(without_paths(json.loads(content)), indent=1, ensure_ascii=False) + "\n").encode()
