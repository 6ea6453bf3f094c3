"""From the bytes of a recording to its ratings, with a trace over time; nothing is written to a disk."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerprobe.probe.data.audio import Decoded, audio_header, decode_audio_file
from layerprobe.probe.data.containers.foreign import foreign_format
from layerprobe.probe.data.levels import is_silent
from layerprobe.probe.data.media_pyav import has_pyav
from layerprobe.probe.data.reading import make_recording
from layerprobe.probe.data.stored.stored_audio import ReceivedAudio
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.predictors.heads import Rating
from layerprobe.probe.predictors.predictor import Predictor
from layerprobe.serving.refusals import RequestError

TOO_LONG = "LP221"  # of the reader
SAMPLES_PER_SECOND = 96_000  # of all channels, that a recording of the greatest length may have: 48 kHz in stereo
WINDOW_SECONDS, HOP_SECONDS = 3.0, 1.0
MOST_WINDOWS = 600  # that a request may name
USUAL_WINDOWS = 60  # where it names none; the hop grows with the recording
MOST_PEAKS = 2_000
EDGE_SECONDS = 0.02  # of a silent window, in which resampling leaves something of what is next to it
PEAK_DIGITS, SECONDS_DIGITS = 4, 4


class UnwantedError(Exception):
    """The ratings are no longer needed."""


@dataclass(frozen=True)
class RatingRequest:
    """What is requested of a recording in addition to its ratings."""

    window: float | None = None  # seconds of each rating of the trace; 0 for no trace, None for the usual
    hop: float | None = None  # seconds from one to the next
    peaks: int = 0  # numbers that show the waveform

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> RatingRequest:
        """Return what the query of a URL requests.

        Raises:
            RequestError: if a name is unknown, or a value no number or outside its range
        """
        if unknown := sorted(set(query) - {"window", "hop", "peaks"}):
            raise RequestError(
                "LP961", f"There is no option {unknown[0][:40]!r}; there are window, hop and peaks.", status=400
            )
        window, hop = _number(query, "window", 0, 3600), _number(query, "hop", 0.05, 3600)
        return cls(window, hop, int(_number(query, "peaks", 0, MOST_PEAKS) or 0))

    def starts(self, duration: float) -> tuple[float, float, list[float]]:
        """Return the length of windows, their hop, and where each starts, all in seconds.

        The last window is the first that reaches the end of the recording, and may be shorter.

        Raises:
            RequestError: if there are more than `MOST_WINDOWS`
        """
        window = WINDOW_SECONDS if self.window is None else self.window
        left = duration - window
        usual = max(HOP_SECONDS, math.ceil(10 * left / (USUAL_WINDOWS - 1)) / 10)
        hop = usual if self.hop is None else self.hop
        if window == 0 or (self.window is None and left < hop):
            return window, hop, []
        n = max(1, min(1 + math.ceil(left / hop - 1e-9), math.ceil(duration / hop - 1e-9)))
        if n > MOST_WINDOWS:
            raise RequestError(
                "LP961",
                f"A window of {window:g} s every {hop:g} s makes {n} windows, over {MOST_WINDOWS}. Send a larger hop.",
                status=400,
            )
        return window, hop, [k * hop for k in range(n)]


def _number(query: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    if name not in query:
        return None
    try:
        value = float(query[name])
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise RequestError("LP961", f"{name} must be a number from {low:g} to {high:g}.", status=400)
    return value


def rate_recording(
    predictor: Predictor,
    content: bytes,
    *,
    max_seconds: float,
    request: RatingRequest,
    unwanted: threading.Event,
) -> dict[str, Any]:
    """Return the ratings of a recording as JSON holds them.

    Args:
        predictor: that rates
        content: of an audio file, in any format that can be decoded in memory
        max_seconds: of a recording
        request: for a trace and a waveform
        unwanted: set from elsewhere when the result is no longer needed

    Raises:
        InvalidAudioError: if it can't be decoded or rated
        RequestError: if it is too long, or of a format that needs a file
        UnwantedError: if the result is no longer needed
    """
    begin = time.perf_counter()
    decoded = decode(content, max_seconds=max_seconds)
    _continue(unwanted)
    recording = make_recording(
        decoded.channels, decoded.rate, sampling_rate=predictor.sampling_rate, reading=predictor.reading
    )
    del decoded
    duration = len(recording.waveform) / predictor.sampling_rate
    window, hop, starts = request.starts(duration)
    _continue(unwanted)
    whole = predictor.rate(predictor.embed(recording.waveform))
    seconds = time.perf_counter() - begin
    trace = list(_trace(predictor, recording.waveform, window=window, starts=starts, unwanted=unwanted))
    return {
        "duration": round(duration, SECONDS_DIGITS),
        "ratings": {target: shown_rating(rating) for target, rating in whole.items()},
        "scales": {target: scale_of(predictor, target) for target in predictor.targets},
        "level": predictor.plan.level,
        "layers": layers_of(predictor),
        "trace": {"window": window, "hop": hop, "windows": trace} if trace else None,
        "peaks": peaks_of(recording.waveform, request.peaks),
        "remarks": [*map(str, recording.remarks), *_unlike(predictor, whole)],
        "seconds": round(seconds, SECONDS_DIGITS),
        "real_time_factor": round(seconds / duration, SECONDS_DIGITS),
        "predictor": predictor.plan.fingerprint,
    }


def decode(content: bytes, *, max_seconds: float) -> Decoded:
    """Decode a recording from memory.

    Its length and its number of samples are known before anything of it is decoded, or counted while it is, so that
    a small file which promises hours takes no memory for them.

    Raises:
        InvalidAudioError: if it can't be decoded
        RequestError: if it is too long, has too many samples, or needs a file to be decoded
    """
    found = foreign_format(content)
    if found is not None and not has_pyav():
        raise RequestError(
            "LP965",
            f"The recording is {found.name}, which this server can't decode in memory. Send it as WAV, FLAC, OGG or "
            "MP3, or start the server after pip install 'layerprobe[media]'.",
            status=422,
        )
    received = ReceivedAudio("the recording", content)
    header = audio_header(received)
    n_channels = 1 if header is None else header.n_channels
    most = max_seconds
    if header is not None and header.rate > 0:
        most = min(max_seconds, max_seconds * SAMPLES_PER_SECOND / (header.rate * n_channels))
    try:
        return decode_audio_file(received, max_duration=most)
    except InvalidAudioError as error:
        if error.code != TOO_LONG:
            raise
        rate = "" if most == max_seconds else f" with {n_channels} channels at its sampling rate"
        raise RequestError(
            "LP962",
            f"The recording is longer than the {most:.4g} s that this server rates{rate}. Send a part of it, or start "
            "the server with a larger --max-seconds.",
            status=413,
        ) from error


def shown_rating(rating: Rating) -> dict[str, float | None]:
    """Return a rating as JSON holds it; a bound that was not calibrated is None."""
    return {name: finite(value) for name, value in rating._asdict().items()}


def scale_of(predictor: Predictor, target: str) -> dict[str, float]:
    """Return the lowest and the highest possible rating of a target."""
    lowest, highest = predictor.saved.scales[target]
    return {"lowest": lowest, "highest": highest}


def layers_of(predictor: Predictor) -> dict[str, list[str]]:
    """Return the layers that each target's head reads."""
    return {head.target: list(head.layers) for head in predictor.heads}


def _unlike(predictor: Predictor, ratings: Mapping[str, Rating]) -> list[str]:
    """Return a remark on ratings outside their scale, which few recordings like those of the corpus have."""
    scales = predictor.saved.scales
    outside = [name for name, one in ratings.items() if not scales[name][0] <= one.value <= scales[name][1]]
    if not outside:
        return []
    lies = "is outside its scale" if len(outside) == 1 else "are outside their scales"
    return [f"{' and '.join(outside)} {lies}: the recording may be unlike those that the predictor was fitted on"]


def peaks_of(waveform: np.ndarray, n: int) -> list[float] | None:
    """Return the largest absolute sample of each of ``n`` equal parts of a waveform; None for 0."""
    if not n:
        return None
    bounds = np.linspace(0, len(waveform), n + 1).astype(int)[:-1]
    values = np.maximum.reduceat(np.abs(waveform), np.minimum(bounds, len(waveform) - 1))
    return [round(float(value), PEAK_DIGITS) for value in values]


def _trace(
    predictor: Predictor, waveform: np.ndarray, *, window: float, starts: list[float], unwanted: threading.Event
) -> Iterator[dict[str, Any]]:
    """Yield the ratings of windows; those of one that is silent, or too short for a frame, are None."""
    rate = predictor.sampling_rate
    for start in starts:
        _continue(unwanted)
        part = waveform[round(start * rate) : round((start + window) * rate)]
        edge = min(round(EDGE_SECONDS * rate), (len(part) - 1) // 2)
        inner = part[edge : len(part) - edge]
        usable = len(part) >= predictor.encoder.minimum_samples and not is_silent(inner.min(), inner.max())
        ratings = predictor.rate(predictor.embed(part)) if usable else dict.fromkeys(predictor.targets)
        yield {
            "start": round(start, SECONDS_DIGITS),
            "end": round(start + len(part) / rate, SECONDS_DIGITS),
            "ratings": {name: None if one is None else shown_rating(one) for name, one in ratings.items()},
        }


def _continue(unwanted: threading.Event) -> None:
    if unwanted.is_set():
        raise UnwantedError


def finite(value: float) -> float | None:
    """Return a number as JSON holds it: None where it is not finite."""
    return float(value) if math.isfinite(value) else None
