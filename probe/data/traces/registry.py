"""Formats of traces by the name that is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.data.traces.corpora import conversation_traces, recola_traces
from layerprobe.probe.data.traces.source import TraceSource
from layerprobe.probe.data.traces.table import table_traces
from layerprobe.probe.exceptions import InputError

CORPORA = {"msp-conversation": conversation_traces, "recola": recola_traces}  # from the folder of each
TABLE = "table"
TRACE_FORMATS = (*CORPORA, TABLE)


def read_trace_source(
    trace_format: str, path: Path, *, targets: Sequence[str] = (), scales: Mapping[str, Target] | None = None
) -> TraceSource:
    """Return the traces of a corpus or of tables.

    Args:
        trace_format: one of `TRACE_FORMATS`
        path: folder of the corpus, or a table or folder of tables
        targets: of tables, see `layerprobe.probe.data.traces.table.table_traces`
        scales: of tables

    Raises:
        InputError: if the format is unknown, an option is not of it, or the path can't be read as it
    """
    if trace_format not in TRACE_FORMATS:
        raise InputError(
            "LP181", f"format {trace_format!r} of traces is unknown; choose one of {', '.join(TRACE_FORMATS)}."
        )
    if trace_format == TABLE:
        return table_traces(path, targets, scales)
    if targets or scales:
        raise InputError(
            "LP184", f"--target and --scale go with the format table; {trace_format} states its own. Leave them out."
        )
    if not path.is_dir():
        raise InputError("LP151", f"{path} is not a folder. Name the folder of the corpus as it was unpacked.")
    return CORPORA[trace_format](path)
