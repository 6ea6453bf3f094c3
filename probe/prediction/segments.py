"""What is rated, read one after another: whole recordings, or windows of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import soxr

from layerprobe.probe.data.asr import Recogniser
from layerprobe.probe.data.audio_hashes import AudioHashes, Row, span_of
from layerprobe.probe.data.audio_stream import LongRecording, cut_windows, measure_recording
from layerprobe.probe.data.inputs import AudioReader
from layerprobe.probe.data.levels import SILENCE_DB, is_silent
from layerprobe.probe.data.silence import silent_ends
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.prediction.raters import Rater
from layerprobe.probe.prediction.saved_ratings import SavedRatings
from layerprobe.probe.prediction.settings import Windows
from layerprobe.probe.problem import Problem, StoredAudioError

# At the ends of a window into which resampling spreads what is next to it, so that silence is measured between them.
EDGE_SECONDS = 0.02
SILENT = Problem("LP232", f"silent: no sample is further from a constant than {SILENCE_DB:g} dB of full scale")


def _no_samples() -> np.ndarray:
    return np.empty(0, dtype=np.float32)


@dataclass(frozen=True)
class Segment:
    """A recording or a window of one, as it goes to the model."""

    recording: int  # number in the table, from 0
    start: float  # seconds from the beginning of the file; NaN where no audio is read
    end: float
    key: str = ""  # what its ratings depend on, and the same for equal content
    waveform: np.ndarray = field(default_factory=_no_samples, repr=False)  # (n_samples,)
    text: str = ""
    reason: str = ""  # why it has no rating; "" where it can be rated
    is_last: bool = True  # of its recording


def refused(number: int, reason: str) -> Segment:
    """Return what stands for a recording that can't be read, with the reason."""
    return Segment(number, float("nan"), float("nan"), reason=reason)


class SegmentReader:
    """A reader of recordings for a model, whole or in windows; none that can't be read stops the others."""

    def __init__(
        self, rater: Rater, saved: SavedRatings, *, windows: Windows | None = None, recogniser: Recogniser | None = None
    ) -> None:
        """Take the model, the ratings that need no reading, and how recordings are cut and transcribed."""
        self._rater, self._saved, self._windows, self._recogniser = rater, saved, windows, recogniser
        self._hashes = AudioHashes()
        # a regressor of text alone has its windows cut at the recogniser's rate
        self._rate = rater.sampling_rate or (0 if recogniser is None else recogniser.sampling_rate)
        self.reader = AudioReader(
            self._hashes,
            sampling_rate=self._rate,
            max_duration=rater.max_duration,
            reading=rater.reading,
        )

    def read(self, number: int, row: Row, text: str) -> Iterator[Segment]:
        """Yield a recording, or each of its windows.

        Args:
            number: of the recording
            row: with ``path``, and ``start`` and ``end`` of a span
            text: its transcript; "" where no text is read, or where windows are transcribed
        """
        try:
            if self._windows is None:
                yield self._whole(number, row, text)
            else:
                yield from self._in_windows(number, row, self._windows)
        except InvalidAudioError as error:
            yield refused(number, str(error))
        except StoredAudioError as error:
            yield refused(number, str(error.problem))
        except OSError as error:
            yield refused(number, str(Problem("LP201", f"could not be read ({error.strerror or error})")))

    def _whole(self, number: int, row: Row, text: str) -> Segment:
        text_hash = f" {_digest(text)}" if self._rater.text_column else ""
        if not self._rater.sampling_rate:
            return Segment(number, float("nan"), float("nan"), text_hash, text=text)
        begin = span_of(row).get("start", 0.0)
        if (key := self._known_key(row, text_hash)) and (saved := self._saved.get(key)) is not None:
            return Segment(number, begin, begin + saved.seconds, key)
        read = self.reader.read(row)
        if read.problem is not None:
            raise InvalidAudioError(read.problem.code, read.problem.text)
        waveform = np.asarray(read.data, dtype=np.float32)
        return Segment(number, begin, begin + read.seconds, read.content + text_hash, waveform, text)

    def _known_key(self, row: Row, text_hash: str) -> str:
        """Return a recording's key without decoding it; "" where nothing is saved, or it can't be read."""
        try:
            return self._hashes.hash_row(row) + text_hash if len(self._saved) else ""
        except OSError:  # for which the reader has a sentence
            return ""

    def _in_windows(self, number: int, row: Row, windows: Windows) -> Iterator[Segment]:
        begin = span_of(row).get("start", 0.0)
        recording = measure_recording(str(row["path"]), reading=self._rater.reading, **span_of(row))
        content = self._hashes.hash_row(row)
        waiting: Segment | None = None
        for first, waveform in self._cut(recording, windows):
            if waiting is not None:
                yield waiting
            start, end = begin + first / self._rate, begin + (first + len(waveform)) / self._rate
            waiting = self._window(Segment(number, start, end, f"{content} at {first}", waveform, is_last=False))
        if waiting is None:
            raise InvalidAudioError("LP206", "empty: it holds no samples")
        yield replace(waiting, is_last=True)

    def _cut(self, recording: LongRecording, windows: Windows) -> Iterator[tuple[int, np.ndarray]]:
        blocks = recording.blocks(self._rate)
        return cut_windows(blocks, length=windows.samples(self._rate), first=windows.first(self._rate))

    def _window(self, segment: Segment) -> Segment:
        """Return a window as a recording of its own: trimmed if the model's recordings were, and transcribed."""
        waveform = segment.waveform
        edge = min(round(EDGE_SECONDS * self._rate), (len(waveform) - 1) // 2)
        inner = waveform[edge : len(waveform) - edge]
        if is_silent(inner.min(), inner.max()):
            return replace(segment, waveform=_no_samples(), reason=str(SILENT))
        if self._rater.reading.trim_silence:
            ends = silent_ends(waveform, self._rate)
            waveform = waveform[ends.before : len(waveform) - ends.after]
        text = ""
        if self._rater.text_column and self._recogniser is not None and self._saved.get(segment.key) is None:
            rate = self._recogniser.sampling_rate
            resampled = waveform if rate == self._rate else soxr.resample(waveform, self._rate, rate, quality="HQ")
            text = self._recogniser(resampled)
        return replace(segment, waveform=np.ascontiguousarray(waveform), text=text)


def _digest(text: str) -> str:
    return f"text {hashlib.sha256(text.encode()).hexdigest()[:16]}"
