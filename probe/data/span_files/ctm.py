"""CTM files (NIST's time-marked conversations, as sclite and Kaldi write them): a line for each label.

A line is ``RECORDING CHANNEL START DURATION LABEL [CONFIDENCE [TYPE [SPEAKER]]]``, with times in seconds. ``;;`` begins
a comment. Alternatives stand between lines of ``<ALT_BEGIN>``, ``<ALT>`` and ``<ALT_END>``; ``@`` is a label that an
alternative leaves out (NIST, sclite's file formats).
"""

from __future__ import annotations

import math
from pathlib import Path

from layerprobe.probe.data.manifest.dialect import decode_text
from layerprobe.probe.data.manifest.file_kind import no_table
from layerprobe.probe.data.span_files.labelled_span import LabelledSpan, is_silence
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.nearest_path import missing_file

ALTERNATIVES = ("<alt_begin>", "<alt>", "<alt_end>")
NOTHING = "@"
_FORM = "RECORDING CHANNEL START DURATION LABEL [CONFIDENCE]"


def read_ctm(path: Path | str, *, channel: str = "", silences: bool = False) -> dict[str, list[LabelledSpan]]:
    """Return the labelled spans of each recording of a CTM file.

    Of alternatives the first one is returned, as it is the one that a recogniser found best.

    Args:
        path: of the file
        channel: the channel to read; by default the only one that a recording has
        silences: whether spans whose label marks silence (`is_silence`) are returned, too

    Returns:
        by the name of the recording, in the file's order: spans in the order of time

    Raises:
        InputError: if a line is wrong, a recording has several channels and none is chosen, or there are no spans
    """
    path = Path(path)
    found: dict[str, list[LabelledSpan]] = {}
    channels: dict[str, dict[str, int]] = {}  # by recording: the line in which each channel is first
    alternative = 0  # number of the alternative that a line is in, 0 outside
    n = 0
    for n, line in enumerate(_lines(path), start=1):
        cells = line.split(";;")[0].split()
        if not cells:
            continue
        mark = cells[4].lower() if len(cells) > 4 else ""
        if mark in ALTERNATIVES:
            alternative = _next_alternative(path, n, mark, alternative)
            continue
        recording, of, span = _span(path, n, cells)
        if channel and of != channel:
            continue
        channels.setdefault(recording, {}).setdefault(of, n)
        spans = found.setdefault(recording, [])
        if alternative <= 1 and span.label != NOTHING and (silences or not is_silence(span.label)):
            spans.append(span)
    if alternative:
        raise _error(path, n, "the file ends between <ALT_BEGIN> and <ALT_END>, so it may be cut")
    _check_channels(path, channels)
    if not found:
        of_channel = f" of channel {channel!r}" if channel else ""
        raise InputError("LP178", f"{path} has no spans{of_channel}. Write a line for each: {_FORM}.")
    return {recording: sorted(spans, key=lambda s: (s.start, s.end)) for recording, spans in found.items()}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError("LP180", f"{missing_file(path, endings=('.ctm',))}. Give the path of a file of spans.")
    if fault := no_table(path):
        raise InputError("LP180", f"{path} is no file of spans: {fault}.")
    text = decode_text(path, path.read_bytes())[0].replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")  # not splitlines: a label may have a character that Unicode counts as the end of a line


def _span(path: Path, n: int, cells: list[str]) -> tuple[str, str, LabelledSpan]:
    """Return recording, channel and span of a line."""
    if len(cells) < 5:
        raise _error(path, n, f"it has {len(cells)} fields, not {_FORM}")
    start, duration = _number(path, n, "start", cells[2]), _number(path, n, "duration", cells[3])
    # Sums of decimals are rounded to what they would be if written, so that 0.1 + 0.2 ends where the next one starts.
    end = round(start + duration, 9)
    if start < 0 or not start < end < math.inf:
        raise _error(path, n, f"it starts at {start:g} s and lasts {duration:g} s")
    if len(cells) > 5 and cells[5].upper() != "NA":
        _number(path, n, "confidence", cells[5])
    return cells[0], cells[1], LabelledSpan(start, end, cells[4])


def _number(path: Path, n: int, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _error(path, n, f"the {name} {text!r} is no number")
    return number


def _next_alternative(path: Path, n: int, mark: str, before: int) -> int:
    """Return the number of the alternative after a line that begins, separates or ends them."""
    if (mark == ALTERNATIVES[0]) != (before == 0):
        fault = "alternatives begin within others" if before else f"{mark.upper()} stands before <ALT_BEGIN>"
        raise _error(path, n, fault)
    return 0 if mark == ALTERNATIVES[2] else before + 1


def _check_channels(path: Path, channels: dict[str, dict[str, int]]) -> None:
    for recording, lines in channels.items():
        if len(lines) > 1:
            listed = ", ".join(f"{name} (line {line})" for name, line in lines.items())
            raise InputError(
                "LP178",
                f"{path}: recording {recording!r} has the channels {listed}. Keep the lines of the channel that is "
                "encoded.",
            )


def _error(path: Path, n: int, fault: str) -> InputError:
    return InputError("LP178", f"{path}, line {n}: {fault}. Correct the line, or write the file again.")
