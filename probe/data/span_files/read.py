"""Spans of utterances, read from a TextGrid, a folder of these, a CTM file or a table, by what the path is."""

from __future__ import annotations

from pathlib import Path

from layerprobe.probe.data.manifest.table import TABLE_ENDINGS
from layerprobe.probe.data.span_files.ctm import read_ctm
from layerprobe.probe.data.span_files.labelled_span import LabelledSpan
from layerprobe.probe.data.span_files.span_table import LABEL, UTTERANCE, read_span_table
from layerprobe.probe.data.span_files.textgrid import read_textgrid
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.nearest_path import missing_file

TEXTGRID = ".textgrid"
CTM = ".ctm"


def read_span_files(path: Path | str, tier: str = "", *, silences: bool = False) -> dict[str, list[LabelledSpan]]:
    """Return the spans of each utterance; silences are left out by default, but for those of a table.

    Args:
        path: a ``.TextGrid``, a folder with these at any depth, a ``.ctm`` file, or a ``.csv``, ``.tsv`` or
            ``.parquet`` table; a TextGrid has the name of its utterance
        tier: name of the tier of TextGrids; ``words``, or the only one with intervals, by default
        silences: whether spans that an aligner marks as silence are returned, too

    Raises:
        InputError: if the path is none of these, or a file can't be read
    """
    path = Path(path)
    ending = path.suffix.lower()
    if path.is_dir():
        files = textgrids_below(path)
        return {name: read_textgrid(file, tier, silences=silences) for name, file in files.items()}
    if not path.exists():
        raise InputError("LP180", f"{missing_file(path, endings=(TEXTGRID, CTM, *TABLE_ENDINGS))}. {_ADVICE}")
    if ending == TEXTGRID:
        return {path.stem: read_textgrid(path, tier, silences=silences)}
    if tier:
        raise InputError("LP177", f"{path} is no TextGrid, so it has no tier {tier!r}. Leave --tier out.")
    if ending == CTM:
        return read_ctm(path, silences=silences)
    if ending not in TABLE_ENDINGS:
        raise InputError("LP180", f"{path} has the ending {path.suffix!r}, which no file of spans has. {_ADVICE}")
    table = read_span_table(path)
    found: dict[str, list[LabelledSpan]] = {}
    for utterance, start, end, label in zip(*(table[c] for c in (UTTERANCE, "start", "end", LABEL)), strict=True):
        found.setdefault(utterance, []).append(LabelledSpan(float(start), float(end), label))
    return found


_ADVICE = "Give a .TextGrid, a folder of these, a .ctm file, or a table (.csv, .tsv, .parquet)."


def textgrids_below(folder: Path) -> dict[str, Path]:
    """Return the TextGrids of a folder and its subfolders by their names without ending.

    Files whose name begins with a point, such as ``._x.TextGrid`` of macOS, are left out.

    Raises:
        InputError: if there are none, or two have one name
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() != TEXTGRID or path.name.startswith(".") or not path.is_file():
            continue
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise InputError("LP180", f"{other} and {path} have the name of one utterance. Remove one of the files.")
    if not found:
        raise InputError("LP180", f"{folder} has no .TextGrid in it. {_ADVICE}")
    return found
