"""TextGrids of Praat: tiers of labelled intervals and of points, in the long and the short text form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layerprobe.probe.data.span_files.labelled_span import LabelledSpan, is_silence
from layerprobe.probe.data.span_files.textgrid_tokens import PraatTokens, read_praat_text
from layerprobe.probe.exceptions import InputError

KINDS = {"IntervalTier": "intervals", "TextTier": "points"}
USUAL_TIER = "words"  # of the Montreal Forced Aligner, whose TextGrids MSP-Podcast has
CHRONOLOGICAL = "Praat chronological TextGrid text file"


@dataclass(frozen=True)
class Tier:
    """One tier of a TextGrid."""

    name: str
    kind: str  # a value of `KINDS`
    spans: tuple[LabelledSpan, ...]  # in the order of time, silences among them; a point ends where it starts


def read_textgrid(path: Path | str, tier: str = "", *, silences: bool = False) -> list[LabelledSpan]:
    """Return the intervals of one tier of a TextGrid.

    Args:
        path: of the file, in the long or the short text form
        tier: its name, in any case where that is unique; by default ``words``, else the only tier of intervals
        silences: whether intervals whose label marks silence (`is_silence`) are returned, too

    Returns:
        intervals in the order of time, as ``(start, end, label)`` with times in seconds, labels without outer blanks

    Raises:
        InputError: if the file can't be read, has no such tier, the tier has points, or none is named of several
    """
    found = _chosen(Path(path), read_tiers(path), tier)
    return [span for span in found.spans if silences or not is_silence(span.label)]


def read_tiers(path: Path | str) -> list[Tier]:
    """Return all tiers of a TextGrid, those of points included.

    Raises:
        InputError: naming the line that is wrong
    """
    path = Path(path)
    tokens = PraatTokens(path, read_praat_text(path))
    kind = tokens.text("the type of the file")
    if kind == CHRONOLOGICAL:
        raise tokens.error("it is in the chronological form, which is not read")
    if not kind.startswith("ooTextFile"):
        raise tokens.error(f'it should begin with the type "ooTextFile", and {kind!r} is not')
    object_class = tokens.text("the class of the object")
    if object_class.split(" ")[0] != "TextGrid":
        raise tokens.error(f"it is a file of the class {object_class!r}, not of one TextGrid")
    _domain(tokens, "the recording")
    if tokens.flag("the mark of whether there are tiers") != "<exists>":
        return []
    return [_tier(tokens) for _ in range(tokens.count("the number of tiers"))]


def _tier(tokens: PraatTokens) -> Tier:
    kind = tokens.text("the class of a tier")
    if kind not in KINDS:
        raise tokens.error(f"the class of a tier should be {' or '.join(KINDS)}, and {kind!r} is neither")
    name = tokens.text("the name of a tier")
    _domain(tokens, f"tier {name!r}")
    n = tokens.count(f"the number of {KINDS[kind]} of tier {name!r}")
    read = _interval if kind == "IntervalTier" else _point
    spans: list[LabelledSpan] = []
    for _ in range(n):
        span = read(tokens, name)
        if spans and span.start < spans[-1].start:
            raise tokens.error(f"{span.start:g} s of tier {name!r} is before {spans[-1].start:g} s, which precedes it")
        spans.append(span)
    return Tier(name, KINDS[kind], tuple(spans))


def _interval(tokens: PraatTokens, tier: str) -> LabelledSpan:
    start = tokens.number(f"the start of an interval of tier {tier!r}")
    end = tokens.number(f"the end of an interval of tier {tier!r}")
    if start < 0 or end <= start:
        raise tokens.error(f"an interval of tier {tier!r} runs from {start:g} to {end:g} s")
    return LabelledSpan(start, end, tokens.text(f"the label of an interval of tier {tier!r}").strip())


def _point(tokens: PraatTokens, tier: str) -> LabelledSpan:
    time = tokens.number(f"the time of a point of tier {tier!r}")
    if time < 0:
        raise tokens.error(f"a point of tier {tier!r} is at {time:g} s, before the recording starts")
    return LabelledSpan(time, time, tokens.text(f"the label of a point of tier {tier!r}").strip())


def _domain(tokens: PraatTokens, what: str) -> None:
    start, end = tokens.number(f"the start of {what}"), tokens.number(f"the end of {what}")
    if end < start:
        raise tokens.error(f"{what} ends at {end:g} s, before it starts at {start:g} s")


def _chosen(path: Path, tiers: list[Tier], name: str) -> Tier:
    intervals = [tier for tier in tiers if tier.kind == "intervals"]
    wanted = name or USUAL_TIER
    found = [t for t in tiers if t.name == wanted] or [t for t in tiers if t.name.lower() == wanted.lower()]
    if not found and not name:
        found = intervals
    if len(found) == 1 and found[0].kind == "intervals":
        return found[0]
    listed = ", ".join(f"{t.name!r} ({t.kind})" for t in tiers) or "none"
    if len(found) == 1:
        fault = f"tier {found[0].name!r} has points in time, which have no audio between them"
    elif found and name:
        fault = f"{len(found)} tiers have the name {name!r}"
    else:
        fault = f"no tier has the name {name!r}" if name else "it has no tier 'words', and no other is chosen"
    raise InputError(
        "LP177", f"{path}: {fault} (there are {listed}). Name a tier of intervals: --tier NAME, or rename it in Praat."
    )
