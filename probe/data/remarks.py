"""Remarks on audio that can be used, but may not be what was meant: each has a name, a value and a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

LONG_SILENCE = "silence-at-ends"  # value: seconds of the longer end
TRIMMED = "silence-trimmed"  # value: seconds that were left out
CANCELS_IN_PART = "channels-cancel-in-part"  # value: fraction of the channels' energy that the mean keeps
MISSTATED_LENGTH = "misstated-length"  # value: seconds that are there, or of the span
SILENT_CHANNEL = "silent-channel"  # value: number of silent channels
SEVERAL_STREAMS = "several-audio-streams"  # value: their number
LATE_AUDIO = "audio-begins-late"  # value: seconds after the video that it belongs to
BY_PYAV, BY_PROGRAM = "decoded-by-pyav", "decoded-by-ffmpeg"  # value: version of libavcodec, 62.028 for 62.28
NEAREST_FRAMES = "spans-of-nearest-frame"  # value: number of spans in which no frame has its centre
CLIPPED_SPANS = "spans-clipped"  # value: number of spans that end after the audio
ON_DECODING = {BY_PYAV: "PyAV", BY_PROGRAM: "the program ffmpeg"}  # remarks that are no doubt


@dataclass(frozen=True)
class Remark:
    """A remark on the audio of one utterance."""

    name: str  # stable, one of those above
    value: float
    detail: str = field(default="", compare=False)  # what is known while the file is read, and not kept

    def __str__(self) -> str:
        """Return the remark as text, such as ``20.0 s of digital silence at an end``."""
        if self.name == MISSTATED_LENGTH:
            return self.detail or f"its header misstates its length; {self.value:.1f} s were read"
        if self.name == LONG_SILENCE:
            return f"{self.value:.1f} s of digital silence at an end"
        if self.name == TRIMMED:
            return f"{self.value:.1f} s of digital silence at the ends left out"
        if self.name == CANCELS_IN_PART:
            return f"the channels cancel in part: their mean keeps {100 * self.value:.0f} % of their energy"
        if self.name in ON_DECODING:
            return f"decoded by {_library(self.name, self.value)}"
        if self.name == SEVERAL_STREAMS:
            return f"{self.value:.0f} audio streams are in it; the first one was read"
        if self.name == LATE_AUDIO:
            return f"its audio begins {self.value:.2f} s after its video; times count from the first sample"
        if self.name == NEAREST_FRAMES:
            return f"{self.value:.0f} of its spans have no frame's centre inside, and were given the nearest frame"
        if self.name == CLIPPED_SPANS:
            return f"{self.value:.0f} of its spans end after the audio and were cut there"
        return f"{self.value:.0f} of the channels {'is' if self.value == 1 else 'are'} silent"


def remark_sentences(remarks: Iterable[tuple[str, Remark]]) -> list[str]:
    """Return one sentence for each name of remarks, given pairs of utterance and remark; what to do is in it."""
    by_name: dict[str, list[tuple[float, str]]] = {}
    for utterance_id, remark in remarks:
        by_name.setdefault(remark.name, []).append((remark.value, utterance_id))
    return [_sentence(name, by_name[name]) for name in sorted(by_name)]


def _sentence(name: str, found: list[tuple[float, str]]) -> str:
    n, (highest, longest), (lowest, weakest) = len(found), max(found, key=_value), min(found, key=_value)
    have = f"{n} utterance{' has' if n == 1 else 's have'}"
    if name == LONG_SILENCE:
        return (
            f"{have} long digital silence at an end (longest {highest:.1f} s: {longest}), which counts in the pooling; "
            "--trim-silence leaves it out."
        )
    if name == MISSTATED_LENGTH:
        return (
            f"{have} audio that was read whole although the header states another length, or none (first: "
            f"{found[0][1]}); layerprobe manifest validate --audio names each."
        )
    if name == TRIMMED:
        return f"{have} digital silence at the ends, which was left out ({sum(map(_value, found)):.1f} s in all)."
    if name == CANCELS_IN_PART:
        return (
            f"{have} channels that cancel in part (least kept: {100 * lowest:.0f} % of their energy, {weakest}); "
            "--channel first or --channel loudest reads one of them."
        )
    if name in ON_DECODING:
        were = "utterance was" if n == 1 else "utterances were"
        versions = [_library(name, value) for value in sorted({value for value, _ in found})]
        differ = "; versions can differ in the last bits of a sample" if len(versions) > 1 else ""
        return f"{n} {were} decoded by {' and '.join(versions)}, since libsndfile can't{differ}."
    if name == SEVERAL_STREAMS:
        return f"{have} several audio streams, of which the first was read (first: {found[0][1]})."
    if name == LATE_AUDIO:
        return (
            f"{have} audio that begins after its video (latest {highest:.2f} s: {longest}); start and end count from "
            "the first sample of the audio."
        )
    if name == NEAREST_FRAMES:
        return (
            f"{have} spans in which no frame has its centre ({sum(map(_value, found)):.0f} in all; most: {longest}): "
            "each holds the nearest frame."
        )
    if name == CLIPPED_SPANS:
        return (
            f"{have} spans that end after the audio ({sum(map(_value, found)):.0f} in all; first: {found[0][1]}), "
            "which were cut there."
        )
    return f"{have} a silent channel, which lowers the level of the mean (first: {found[0][1]}); see --channel loudest."


def _library(name: str, version: float) -> str:
    """Return what decoded, with the version of its library."""
    major, minor = f"{version:.3f}".split(".")
    return f"{ON_DECODING[name]} (libavcodec {major}.{int(minor)})"


def _value(found: tuple[float, str]) -> float:
    return found[0]
