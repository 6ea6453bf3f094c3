"""Ratings of spans written to files: a CSV table, and next to it a TOML file with scales, lag and agreement."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path

from layerprobe.probe.data.traces.span_ratings import RatedSpans
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file, write_csv
from layerprobe.probe.toml import toml_document

FORMAT_VERSION = 1  # of the TOML file
KEYS = ("format_version", "corpus", "spans", "lag", "targets")  # of the TOML file, of which no other one has all


def check_free(out: Path, manifest: Path, *, inputs: Sequence[Path] = ()) -> None:
    """Check that neither the table nor the file next to it would replace what is read, or a file of someone else.

    Args:
        out: the table
        manifest: which has a header next to it
        inputs: files or folders of traces and of spans

    Raises:
        InputError: if one would
    """
    header = out.with_suffix(".toml")
    if out.with_suffix("").resolve() == manifest.with_suffix("").resolve():
        raise InputError("LP184", f"{out} would replace the manifest {manifest} or its header. Name another --out.")
    written = (out, header)
    for path in inputs:
        for own in written:
            is_there = own.exists() and path.exists()
            if own.resolve() == path.resolve() or (is_there and own.samefile(path)):
                raise InputError("LP184", f"{own} would replace {path}, which is read. Name another --out.")
        is_within = path.resolve() in out.resolve().parents
        if is_within and out.exists() and not _is_own(header):
            raise InputError("LP184", f"{out} would replace a file of {path}, which is read. Name another --out.")
    if header.exists() and not _is_own(header):
        raise InputError(
            "LP184", f"{header} would be replaced, and no table of spans was written with it. Name another --out."
        )


def _is_own(header: Path) -> bool:
    """Return whether a file is what `write_rated_spans` writes next to a table."""
    try:
        content = tomllib.loads(header.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return set(KEYS) <= set(content)


def write_rated_spans(rated: RatedSpans, out: Path, *, corpus: str, lag: float, spans: str) -> None:
    """Write ``out`` and the ``.toml`` of its name; equal input gives equal bytes.

    Args:
        rated: the spans
        out: ``NAME.csv``
        corpus: its name
        lag: seconds, as it was applied
        spans: which spans, a clause
    """
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_csv(out, rated.table)
    targets: dict[str, dict[str, object]] = {}
    for name, scale in rated.scales.items():
        agreement = rated.agreement[name]
        others = agreement.with_others
        targets[name] = {
            "minimum": scale.minimum,
            "maximum": scale.maximum,
            "meaning": scale.meaning,
            "n_unrated": rated.n_unrated[name],
            "n_raters": agreement.n_raters,
            "n_pairs": agreement.n_pairs,
            "ccc_of_pairs": round(agreement.pairwise, 6) if math.isfinite(agreement.pairwise) else None,
            "ccc_with_others": round(sum(others) / len(others), 6) if others else None,
        }
    content = dict(zip(KEYS, (FORMAT_VERSION, corpus, spans, lag, targets), strict=True))
    replace_file(out.with_suffix(".toml"), toml_document(content))
