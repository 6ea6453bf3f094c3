"""Cuts and recordings of lhotse, read by its own library: spans of recordings with supervisions.

An utterance is a supervision within its cut, as ``cuts.trim_to_supervisions()`` makes it; a cut without supervisions is
one as a whole. Audio is not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import AUDIO_MISSING, Imported, counted
from layerprobe.probe.data.importers.choices import ColumnChoices
from layerprobe.probe.data.importers.flat_json import flat_texts
from layerprobe.probe.data.importers.source_table import SourceTable, imported_from
from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.exceptions import InputError

UNCHANGED = ("Resample",)  # transforms that leave the content as it is
DIGITS = 6  # after the point, of seconds


@dataclass
class _Rows:
    """Utterances that were found, and how many were left out for which reason."""

    cells: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    missing: str = ""  # first file of a recording that is not there, as it is written
    of_channels: int = 0  # utterances of one channel of a recording with several


def import_lhotse(manifest: Path, choices: ColumnChoices) -> Imported:
    """Read a manifest of cuts, or of recordings with the supervisions next to it.

    Args:
        manifest: ``cuts.jsonl.gz`` or another form of it; of ``NAME_recordings_X.jsonl.gz``, the supervisions are read
            from ``NAME_supervisions_X.jsonl.gz``
        choices: on columns

    Raises:
        InputError: if the library is missing, the file is no such manifest, or the choices do not fit
    """
    rows = _Rows()
    for number, cut in _cuts(manifest):
        try:
            _add(cut, manifest, rows)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise _unreadable(manifest, number, error) from error
    if not rows.paths:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in rows.dropped.items()) or "it is empty"
        if set(rows.dropped) == {AUDIO_MISSING}:
            raise InputError(
                "LP162",
                f"{manifest}: no cut has audio that can be read: {reasons}. The first is {rows.missing}, sought from "
                "this folder and from that of the manifest on. Import from the folder in which lhotse wrote it.",
            )
        raise InputError(
            "LP162",
            f"{manifest}: no cut has audio that can be read: {reasons}. Import cuts of recordings in files, before "
            "they are transformed.",
        )
    remarks = [
        f"{counted(rows.of_channels, 'utterance')} of one channel of a recording with several: extract reads the mean "
        "of the channels unless --channel names one"
    ]
    ids = [cells["utterance_id"] for cells in rows.cells]
    source = SourceTable(
        manifest.name,
        pd.DataFrame(rows.cells, index=range(len(ids)), dtype=object).fillna(""),
        rows.paths,
        ids,
        lambda k: f"{manifest.name}, {ids[k]}",
        ids,
        timed=True,
        about=Header(manifest.name.partition(".")[0], notes="Imported from a manifest of lhotse."),
        dropped=rows.dropped,
        remarks=remarks if rows.of_channels else [],
    )
    return imported_from(source, choices)


def _cuts(manifest: Path) -> Iterator[tuple[int, Any]]:
    """Yield each cut with its number from 1 on; recordings as cuts with their supervisions."""
    try:
        import lhotse
    except ImportError as error:
        raise InputError("LP170", f"{manifest} is read by lhotse. Install it: pip install lhotse.") from error
    if not manifest.is_file():
        raise InputError("LP198", f"{manifest} can't be read, because there is no such file. Check the path.")
    number = 0
    try:
        by_lines = ".jsonl" in manifest.suffixes  # otherwise one object of JSON or YAML, which is read as a whole
        entries = (lhotse.load_manifest_lazy if by_lines else lhotse.load_manifest)(manifest)
        if isinstance(entries, lhotse.RecordingSet):
            name = manifest.name.replace("recordings", "supervisions")
            other = manifest.with_name(name)
            supervisions = lhotse.load_manifest(other) if name != manifest.name and other.is_file() else None
            entries = lhotse.CutSet.from_manifests(recordings=entries, supervisions=supervisions, lazy=False)
        if not isinstance(entries, lhotse.CutSet):
            raise InputError(
                "LP198",
                f"{manifest} can't be read as cuts, for it holds {type(entries).__name__}. Make cuts of it: lhotse cut "
                "simple -r RECORDINGS -s SUPERVISIONS cuts.jsonl.gz.",
            )
        for cut in entries:
            number += 1
            yield number, cut
    except InputError:
        raise
    except Exception as error:  # of JSON, of compression, of the library
        raise _unreadable(manifest, number + 1, error) from error


def _unreadable(manifest: Path, number: int, error: Exception) -> InputError:
    reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return InputError("LP198", f"{manifest} can't be read at entry {number} ({reason}). Write it again by lhotse.")


def _add(cut: Any, manifest: Path, rows: _Rows) -> None:
    """Add the utterances of a cut, or count it as left out."""
    recording = getattr(cut, "recording", None)
    if recording is None:
        rows.dropped["mixed or padded cut, whose audio is in no file"] += 1
        return
    if any(_transform_name(t) not in UNCHANGED for t in recording.transforms or ()):
        rows.dropped["cut with transformed audio, such as another speed"] += 1
        return
    path, reason = _path(recording, manifest)
    if reason:
        rows.dropped[reason] += 1
        rows.missing = rows.missing or (str(recording.sources[0].source) if reason == AUDIO_MISSING else "")
        return
    supervisions = list(cut.supervisions)
    common = _custom(cut)
    rows.of_channels += recording.num_channels > 1 and isinstance(cut.channel, int)
    for one in supervisions or [None]:
        first = cut.start if one is None else max(cut.start + one.start, cut.start)
        last = cut.end if one is None else min(cut.start + one.end, cut.end)
        if last <= first:
            rows.dropped["supervision outside its cut"] += 1
            continue
        name = cut.id if one is None or len(supervisions) == 1 else one.id
        whole = first <= 0 and last >= recording.duration - 1e-6
        times = {} if whole else {"start": _seconds(first), "end": _seconds(last)}
        rows.cells.append({"utterance_id": str(name), **times, **common, **({} if one is None else _labels(one))})
        rows.paths.append(path)


def _labels(supervision: Any) -> dict[str, str]:
    named = {"speaker_id": supervision.speaker, "gender": supervision.gender, "transcript": supervision.text}
    return {
        **{name: str(value) for name, value in named.items() if value is not None},
        **({"language": str(supervision.language)} if supervision.language else {}),
        **_custom(supervision),
    }


def _custom(entry: Any) -> dict[str, str]:
    """Return the custom fields of a cut or supervision that are texts or numbers."""
    return flat_texts(entry.custom or {})


def _path(recording: Any, manifest: Path) -> tuple[str, str]:
    """Return the path or URL of a recording's audio, or the reason why it can't be read."""
    if len(recording.sources) != 1:
        return "", "recording in several files"
    source = recording.sources[0]
    if source.type == "url":
        return str(source.source), ""
    if source.type != "file":
        return "", f"recording from a {source.type}"
    written = Path(str(source.source))
    found = next((p for p in (written, manifest.parent / written) if p.is_file()), None)
    return (str(found.absolute()), "") if found is not None else ("", AUDIO_MISSING)


def _transform_name(transform: Any) -> str:
    return str(transform.get("name") if isinstance(transform, dict) else type(transform).__name__)


def _seconds(value: float) -> str:
    return f"{round(value, DIGITS):.{DIGITS}f}".rstrip("0").rstrip(".")
