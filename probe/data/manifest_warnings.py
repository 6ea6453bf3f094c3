"""Doubtful entries of a manifest that are no errors: each has a name, a message and its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import read_recording
from layerprobe.probe.data.audio_hashes import Row, span_of
from layerprobe.probe.data.audio_reader import Quarantine, read_audio
from layerprobe.probe.data.inputs import MAX_DURATION
from layerprobe.probe.data.manifest.read import NumberedManifest
from layerprobe.probe.data.manifest.schema import Manifest, Target, rater_columns
from layerprobe.probe.data.reading import DEFAULT_READING
from layerprobe.probe.data.remarks import ON_DECODING, Remark
from layerprobe.probe.data.shared_audio import SampledWaveform, copies, equal_waveforms, sample_waveform
from layerprobe.probe.data.stored.locations import file_of, name_of, normal, scheme_of
from layerprobe.probe.identities import similar_names
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.splits import UNKNOWN_SPEAKER

# A mean that was rounded can lie outside its raters' range by this fraction of the scale.
RATING_TOLERANCE = 0.01
THREADS = 4  # that decode audio files
ROWS_SHOWN = 5


@dataclass(frozen=True)
class ManifestWarning:
    """A doubtful entry of a manifest."""

    name: str  # stable, such as "duplicate-audio"
    message: str
    rows: tuple[int, ...]  # as a spreadsheet shows them: the header is row 1

    def __str__(self) -> str:
        """Return ``[name] rows 2, 5: message``, with the first rows where there are many."""
        shown = ", ".join(map(str, self.rows[:ROWS_SHOWN]))
        if len(self.rows) > ROWS_SHOWN:
            shown += f" and {len(self.rows) - ROWS_SHOWN} more"
        return f"[{self.name}] row{'' if len(self.rows) == 1 else 's'} {shown}: {self.message}"


def manifest_warnings(
    numbered: NumberedManifest, *, audio: bool = False, progress: NullProgress | None = None
) -> list[ManifestWarning]:
    """Return all warnings of a manifest, those of one name together.

    ``rating-outside-raters``: a rating outside the range of its raters' own. ``similar-utterance-ids``: utterance ids
    that look alike. ``speaker-gender``: a speaker with several genders. ``duplicate-audio``: several
    utterances from the same span of one file. ``speaker-in-splits``: a speaker in several of training, development
    and test. ``path-outside-corpus``: files outside the manifest's folder. ``undecodable-audio``: audio that
    extraction would quarantine. ``silence-at-ends``, ``channels-cancel-in-part``, ``silent-channel``,
    ``misstated-length``, ``several-audio-streams``, ``audio-begins-late``: audio on which extraction would remark, see
    `probe.data.remarks`. ``same-audio``:
    utterances of several files with the same samples, such as a FLAC and a WAV of one recording.

    Args:
        numbered: a manifest that has been checked, with its row numbers
        audio: whether every audio file is decoded, which takes a while
        progress: receives the progress of decoding
    """
    manifest, numbers = numbered.manifest, numbered.row_numbers
    table = manifest.table
    found = [
        *_ratings_outside_raters(table, manifest.header.targets),
        *_similar_utterance_ids(table["utterance_id"]),
        *_speaker_genders(table),
        *_duplicate_audio(table),
        *_speakers_in_splits(table),
        *_paths_outside(table["path"], manifest.path.absolute().parent),
        *(_decoded_audio(manifest, progress or NullProgress()) if audio else ()),
    ]
    return [ManifestWarning(name, message, tuple(int(n) for n in numbers[rows])) for name, message, rows in found]


# Name and message of a warning, and indices of its rows.
Finding = tuple[str, str, np.ndarray]


def _ratings_outside_raters(table: pd.DataFrame, targets: dict[str, Target]) -> Iterator[Finding]:
    for target, scale in targets.items():
        columns = rater_columns(table, target)
        if not columns:
            continue
        ratings = table[columns]
        low, high = ratings.min(axis=1), ratings.max(axis=1)  # NaN where no rater is known
        slack = RATING_TOLERANCE * (scale.maximum - scale.minimum)
        outside = (table[target] < low - slack) | (table[target] > high + slack)
        for row in np.flatnonzero(outside):
            shown = ", ".join(f"{r:g}" for r in ratings.iloc[row].dropna())
            yield (
                "rating-outside-raters",
                f"{target} is {table[target].iloc[row]:g}, its raters gave {shown}",
                _rows(int(row)),
            )


def _similar_utterance_ids(utterance_ids: pd.Series[str]) -> Iterator[Finding]:
    for similar in similar_names(utterance_ids.tolist()):
        *first, last = map(repr, similar.names)
        message = f"utterance_id {', '.join(first)} and {last} differ only in {similar.difference}"
        yield "similar-utterance-ids", message, np.flatnonzero(utterance_ids.isin(similar.names))


def _speaker_genders(table: pd.DataFrame) -> Iterator[Finding]:
    if "gender" in table:
        stated = table[table["gender"].str.strip() != ""]
        for speaker, genders in _varying(stated, "gender"):
            usual = genders.value_counts(sort=False).sort_values(ascending=False, kind="stable").index
            rows = genders.index[genders != usual[0]].to_numpy()
            yield "speaker-gender", f"speaker {speaker!r} has the genders {' and '.join(map(repr, usual))}", rows


def _duplicate_audio(table: pd.DataFrame) -> Iterator[Finding]:
    start = table["start"].fillna(0.0) if "start" in table else pd.Series(0.0, index=table.index)
    end = table["end"].fillna(np.inf) if "end" in table else pd.Series(np.inf, index=table.index)
    spans = pd.DataFrame({"path": table["path"].map(normal), "start": start, "end": end})
    repeated = spans[spans.duplicated(keep=False)]
    for _, rows in repeated.groupby(["path", "start", "end"], sort=False):
        indices = rows.index.to_numpy()
        ids = ", ".join(map(repr, table["utterance_id"].iloc[indices[:ROWS_SHOWN]]))
        more = f" and {len(indices) - ROWS_SHOWN} more" if len(indices) > ROWS_SHOWN else ""
        name = name_of(str(table["path"].iloc[indices[0]]))
        yield "duplicate-audio", f"utterances {ids}{more} are the same audio, {name}", indices


def _speakers_in_splits(table: pd.DataFrame) -> Iterator[Finding]:
    if "split" in table:
        # Test sets may have speakers in common: none of them is trained on.
        sides = table["split"].str.replace(r"^test\d$", "test", regex=True)
        for speaker, rows in _varying(table.assign(side=sides), "side"):
            shown = " and ".join(table["split"][rows.index].unique())
            yield "speaker-in-splits", f"speaker {speaker!r} is in {shown}", rows.index.to_numpy()


def _paths_outside(paths: pd.Series[str], folder: Path) -> Iterator[Finding]:
    corpus = normal(str(folder))
    files = paths.map(lambda path: normal(file_of(path)))
    inside = files.str.startswith(corpus.rstrip(os.sep) + os.sep) | (files.map(scheme_of) != "")  # a store is no folder
    outside = ~inside.to_numpy(dtype=bool)
    if outside.all():  # the corpus is elsewhere, as when an importer wrote the manifest
        return
    parents = files[outside].map(os.path.dirname)
    for parent, rows in parents.groupby(parents, sort=False):
        message = f"files in {parent} are outside the corpus folder {corpus}"
        yield "path-outside-corpus", message, rows.index.to_numpy()


def _decoded_audio(manifest: Manifest, progress: NullProgress) -> Iterator[Finding]:
    """Yield audio that can't be decoded, remarks on other audio, then files with the same samples."""
    quarantine, table = Quarantine(), manifest.table
    rows: list[Row] = table.to_dict("records")
    decoded: dict[int, SampledWaveform] = {}

    def decode(row: Row) -> tuple[SampledWaveform, tuple[Remark, ...]]:
        path, span = str(row["path"]), span_of(row)
        recording = read_recording(path, sampling_rate=None, max_duration=MAX_DURATION, reading=DEFAULT_READING, **span)
        return sample_waveform(recording.waveform), recording.remarks

    remarked = []
    for k, (sampled, remarks) in read_audio(
        rows, decode, quarantine=quarantine, threads=THREADS, task="decode", progress=progress
    ):
        decoded[k] = sampled
        remarked += [(remark.name, k, str(remark)) for remark in remarks if remark.name not in ON_DECODING]
    positions = {name: k for k, name in enumerate(table["utterance_id"])}
    for name, (path, reason) in quarantine.refused.items():
        yield "undecodable-audio", f"{name_of(path)}: {reason}", _rows(positions[name])
    for name, k, text in sorted(remarked):
        yield name, f"{name_of(str(rows[k]['path']))}: {text}", _rows(k)
    yield from _copied_audio(manifest, decoded)


def _copied_audio(manifest: Manifest, decoded: dict[int, SampledWaveform]) -> Iterator[Finding]:
    indices = np.array(list(decoded), dtype=int)
    for members in copies(equal_waveforms(list(decoded.values()))):
        same = indices[members]
        paths = manifest.table["path"].iloc[same]
        if len({normal(path) for path in paths}) > 1:  # else `_duplicate_audio` has it
            yield "same-audio", _same_audio(manifest, same), same


def _same_audio(manifest: Manifest, rows: np.ndarray) -> str:
    """Return which utterances have the same samples, and in which columns they differ."""
    part = manifest.table.iloc[rows]
    ids = ", ".join(map(repr, part["utterance_id"].iloc[:ROWS_SHOWN]))
    more = f" and {len(part) - ROWS_SHOWN} more" if len(part) > ROWS_SHOWN else ""
    columns = ("speaker_id", "split", *manifest.targets, *manifest.header.nominal)
    values = {c: part[c].drop_duplicates().tolist() for c in columns if c in part}
    differ = [f"{c} {' and '.join(map(str, found[:ROWS_SHOWN]))}" for c, found in values.items() if len(found) > 1]
    return f"utterances {ids}{more} have the same samples" + (f", but {', '.join(differ)}" if differ else "")


def _varying(table: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.Series[str]]]:
    """Yield each identified speaker with several values in a column, and these; by the speakers' first rows."""
    known = table[table["speaker_id"] != UNKNOWN_SPEAKER]
    n_values = known.groupby("speaker_id", sort=False)[column].transform("nunique")
    for speaker, rows in known[n_values > 1].groupby("speaker_id", sort=False):
        yield str(speaker), rows[column]


def _rows(row: int) -> np.ndarray:
    return np.array([row])
