"""Ratings of spans written to files: a CSV table, and next to it a TOML file with scales, lag and agreement."""

from __future__ import annotations

import math
from pathlib import Path

from layerprobe.probe.data.traces.span_ratings import RatedSpans
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file, write_csv
from layerprobe.probe.toml import toml_document

FORMAT_VERSION = 1  # of the TOML file


def check_free(out: Path, manifest: Path) -> None:
    """Check that neither the table nor the file next to it would replace a manifest or its header.

    Raises:
        InputError: if one would
    """
    if out.with_suffix("").resolve() == manifest.with_suffix("").resolve():
        raise InputError("LP184", f"{out} would replace the manifest {manifest} or its header. Name another --out.")


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
    content = {"format_version": FORMAT_VERSION, "corpus": corpus, "spans": spans, "lag": lag, "targets": targets}
    replace_file(out.with_suffix(".toml"), toml_document(content))
