"""Stage: rate recordings with a predictor or a trained regressor, each rating with its prediction interval."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.asr import Recogniser, load_recogniser, transcribe
from layerprobe.probe.data.audio import audio_header
from layerprobe.probe.data.audio_hashes import Row, records, span_of
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.prediction.raters import Rater, load_rater, model_digest, model_folder
from layerprobe.probe.prediction.rating import Outcome, rate_in_order
from layerprobe.probe.prediction.recordings import Inputs, collect_recordings
from layerprobe.probe.prediction.saved_ratings import SavedRatings
from layerprobe.probe.prediction.segments import Segment, SegmentReader, refused
from layerprobe.probe.prediction.settings import PredictionOptions
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import choose_device

NAN = float("nan")


@dataclass(frozen=True)
class Prediction:
    """Result of `run_prediction`."""

    table: pd.DataFrame  # see `predict`
    targets: tuple[str, ...]
    level: float  # of the prediction intervals, in (0, 1)
    fingerprint: str  # hash of the model's files
    n_recordings: int
    n_resumed: int  # recordings or windows whose ratings an interrupted prediction had saved
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of targets, as far as they are known


def predict(
    model: Path | str,
    inputs: Inputs,
    *,
    window: float | None = None,
    hop: float | None = None,
    asr: str | None = None,
    device: str | None = None,
    jobs: int | None = None,
    progress: NullProgress | None = None,
) -> pd.DataFrame:
    """Rate recordings with a predictor or a trained regressor, whole or in windows.

    A recording that can't be used has no rating and a reason, and the others are rated. Each is rated alone, so that no
    rating depends on what else is. A whole recording that is long is encoded in overlapping chunks, as in extraction.
    The regressor of each seed rates, and their mean is the rating.

    With windows, window ``k`` begins ``k * hop`` seconds after the beginning of the recording, or of its span. The
    last is the first window that reaches the end, and may be shorter; a recording shorter than a window is one. Each
    window is rated as if it were a recording of its own. Files are read in blocks and resampled as a whole,
    so that memory does not grow with their length.

    Args:
        model: folder of a predictor (`layerprobe deploy`) or of a trained regressor (`layerprobe train`)
        inputs: a table (.csv, .parquet, or a manifest's) with ``utterance_id``, ``path`` and, for spans, ``start`` and
            ``end`` in seconds; an audio file, or the address or URL of one; a folder, searched for audio files; or
            several of these
        window: seconds of a window; None rates each recording as a whole
        hop: seconds from the beginning of a window to that of the next; None for ``window``
        asr: speech recogniser, a hub name or a folder, for a model that reads text where there are no transcripts
        device: cpu or cuda; None takes a GPU where there is one
        jobs: recordings or windows that are rated at once; None for one per core, or one on a GPU
        progress: receives the progress

    Returns:
        one row per recording, in the order of ``inputs``: ``utterance_id``, of a file its name and of what is in a
        folder its path below that; ``path``; ``duration`` in seconds of the audio that was rated; for each target the
        rating in its own unit and the bounds of its prediction interval, ``<target>_low`` and ``<target>_high`` (split
        conformal: Lei et al., 2018); ``reason`` why there is no rating, '' where there is one. With windows one
        row per window: ``utterance_id``; ``start`` and ``end`` in seconds from the beginning of the file; the
        ratings, and ``reason``; one row without ``start`` and ``end`` of a recording that can't be used

    Raises:
        InputError: if ``model`` is neither, if ``inputs`` hold nothing or two recordings of one name, if the model
            reads text and there is none, or if a choice is unknown
    """
    options = PredictionOptions(window, hop, asr, None, jobs)
    return run_prediction(model, inputs, options, device=choose_device(device), progress=progress).table


def run_prediction(
    model: Path | str,
    inputs: Inputs,
    options: PredictionOptions,
    *,
    device: str,
    resume_file: Path | None = None,
    progress: NullProgress | None = None,
) -> Prediction:
    """Rate recordings as `predict` does, with what the command line shows and resumes.

    Args:
        model: see `predict`
        inputs: see `predict`
        options: windows, recogniser and threads
        device: cpu or cuda
        resume_file: where ratings are saved at once; the caller deletes it, and the file of transcripts next to it
            (`transcripts_file`), once the table is written. None saves nothing
        progress: receives the progress

    Raises:
        InputError: as `predict`
    """
    progress, windows, folder = progress or NullProgress(), options.windows(), model_folder(model)
    rater = load_rater(folder, device=device)
    table = collect_recordings(inputs, text_column=rater.text_column)
    recogniser = _recogniser(rater, table, options, device=device)
    reasons: dict[str, str] = {}
    if recogniser is not None and windows is None:
        table, reasons = _transcribed(table, recogniser, rater, resume_file, progress)
    fingerprint = model_digest(folder)
    header = {
        "model": fingerprint,
        "device": device,
        "window": options.window,
        "hop": None if windows is None else windows.hop,
        "asr": "" if recogniser is None else recogniser.label,
    }
    with SavedRatings(resume_file, header) as saved, _without_wavlms_warning():
        if saved.discarded:
            progress.log(f"{resume_file}: of another model or other options, so nothing of it is used.")
        n_resumed = len(saved)
        reader = SegmentReader(rater, saved, windows=windows, recogniser=recogniser)
        segments = _read_all(table, reader, rater, reasons)
        outcomes = rate_in_order(segments, rater, saved, jobs=options.jobs)
        by_time = windows is not None
        rows = [
            _row(outcome, table, rater.targets, by_time=by_time)
            for outcome in _reported(outcomes, table, progress, by_time=by_time)
        ]
    reader.reader.log_remarks(progress)
    found = pd.DataFrame(rows, columns=_columns(rater.targets, by_time=by_time))
    return Prediction(found, rater.targets, rater.level, fingerprint, len(table), n_resumed, rater.scales)


@contextmanager
def _without_wavlms_warning() -> Iterator[None]:
    """Ignore what `probe.training.branches` ignores, for all threads: each would restore another's filters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
        yield


def transcripts_file(resume_file: Path) -> Path:
    """Return the file in which transcripts of an interrupted prediction are saved, next to its ratings."""
    return resume_file.with_suffix(".asr-progress.jsonl")


def _recogniser(rater: Rater, table: pd.DataFrame, options: PredictionOptions, *, device: str) -> Recogniser | None:
    """Return the recogniser where one is needed.

    Raises:
        InputError: if the model reads text, and there is neither a transcript nor a recogniser
    """
    column = rater.text_column
    if not column:
        return None
    if options.asr is not None:
        return load_recogniser(options.asr, device=device, language=options.language)
    if options.window is not None:
        raise InputError(
            "LP946",
            "the model reads text, and the transcript of a recording does not state what is in a window. Give --asr "
            "RECOGNISER, which transcribes each window.",
        )
    if n := int(table[column].isna().sum()):
        raise InputError(
            "LP946",
            f"the model reads text, and {n} of {len(table)} recordings have no column {column!r}. Give --asr "
            "RECOGNISER, or a table with that column, as layerprobe transcribe writes it.",
        )
    return None


def _transcribed(
    table: pd.DataFrame, recogniser: Recogniser, rater: Rater, resume_file: Path | None, progress: NullProgress
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the table with the transcripts that it lacks, and the reasons of recordings that have none."""
    column = rater.text_column
    with tempfile.TemporaryDirectory() as folder:
        file = transcripts_file(Path(folder, "ratings") if resume_file is None else resume_file)
        done = transcribe(
            table.assign(**{column: table[column].fillna("")}),
            recogniser,
            column=column,
            progress_file=file,
            reading=rater.reading,
            progress=progress,
        )
    reasons = dict(zip(done.quarantine["utterance_id"], done.quarantine["reason"], strict=True))
    return done.table, reasons


def _read_all(table: pd.DataFrame, reader: SegmentReader, rater: Rater, reasons: dict[str, str]) -> Iterator[Segment]:
    for number, row in enumerate(records(table)):
        if reason := reasons.get(str(row["utterance_id"])):
            yield refused(number, reason)
            continue
        text = row.get(rater.text_column) if rater.text_column else ""
        yield from reader.read(number, row, str(text or "").strip())


def _reported(
    outcomes: Iterator[Outcome], table: pd.DataFrame, progress: NullProgress, *, by_time: bool
) -> Iterator[Outcome]:
    """Yield outcomes and report the progress, in recordings or, where they are cut, in seconds of audio."""
    lengths = [_seconds(row) if by_time else 1.0 for row in records(table)]
    progress.begin("predict", sum(lengths), "s of audio" if by_time else "recordings")
    n_refused, done = 0, 0.0
    try:
        for outcome in outcomes:
            n_refused += bool(outcome.reason)
            segment = outcome.segment
            if segment.is_last:
                amount, done = lengths[segment.recording] - done, 0.0
            else:
                reached = min(
                    lengths[segment.recording], segment.end - span_of(_row_at(table, segment)).get("start", 0.0)
                )
                amount, done = reached - done, reached
            progress.advance(amount, f"{n_refused} without a rating" if n_refused else "")
            yield outcome
    finally:
        progress.end()


def _row_at(table: pd.DataFrame, segment: Segment) -> Row:
    return {"start": table["start"].iloc[segment.recording]}


def _seconds(row: Row) -> float:
    """Return the length of a recording in seconds, as far as it is known without decoding; 0 where it isn't."""
    span = span_of(row)
    if "end" in span:
        return max(0.0, span["end"] - span.get("start", 0.0))
    header = audio_header(str(row["path"]))
    return 0.0 if header is None or header.duration is None else max(0.0, header.duration - span.get("start", 0.0))


def _row(outcome: Outcome, table: pd.DataFrame, targets: Sequence[str], *, by_time: bool) -> list[Any]:
    segment = outcome.segment
    name, path = (table[column].iloc[segment.recording] for column in ("utterance_id", "path"))
    ratings = outcome.rated.ratings if outcome.rated is not None else [(NAN, NAN, NAN)] * len(targets)
    values = [value for rating in ratings for value in rating]
    if by_time:
        return [name, round(segment.start, 6), round(segment.end, 6), *values, outcome.reason]
    return [name, path, round(segment.end - segment.start, 6), *values, outcome.reason]


def _columns(targets: Sequence[str], *, by_time: bool) -> list[str]:
    rated = [name for target in targets for name in (target, f"{target}_low", f"{target}_high")]
    return ["utterance_id", *(("start", "end") if by_time else ("path", "duration")), *rated, "reason"]
