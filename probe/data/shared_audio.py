"""Utterances with the same audio under different ids: how many there are, and in what they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

DUPLICATES = {
    "group": "all utterances with the same audio are in the same fold",
    "drop": "the first utterance of each recording is kept",
    "error": "the sweep stops, and names them",
}
EXAMPLES = 3  # pairs that are named
N_VALUES, ROUNDING = 256, 2 / 32_768  # samples of a waveform, and the largest difference of copies in 16 bits


@dataclass(frozen=True)
class SharedAudio:
    """Counts of the utterances that have the audio of another utterance."""

    n_utterances: int
    n_recordings: int  # different ones among them
    n_across_speakers: int  # utterances whose copies are of several speakers, or of one who is not known
    n_other_ratings: int  # utterances whose copies have other ratings or classes
    examples: tuple[str, ...]  # "a and b", those across speakers first

    def __str__(self) -> str:
        """Return the counts and the first example as the first half of a sentence."""
        facts = [
            f"{n} of them {what}"
            for n, what in (
                (self.n_across_speakers, "under several speakers"),
                (self.n_other_ratings, "with other ratings"),
            )
            if n
        ]
        recordings = f"{self.n_recordings} recording{'' if self.n_recordings == 1 else 's'}"
        counts = "; ".join([f"{recordings}, first {self.examples[0]}", *facts])
        return f"{self.n_utterances} utterances have the same audio as another one ({counts})"


def handled_text(policy: str, n_left_out: int) -> str:
    """Return what a key of `DUPLICATES` did, with the number of utterances that were left out."""
    return DUPLICATES[policy] + (f", {n_left_out} were left out" if n_left_out else "")


@dataclass(frozen=True)
class SampledWaveform:
    """A waveform by its length and some of its samples, by which copies are recognised."""

    n_samples: int
    values: np.ndarray  # (`N_VALUES`,) at positions that follow from the length


def sample_waveform(waveform: np.ndarray) -> SampledWaveform:
    """Return the length and some samples of ``(n_samples,)`` at least one, full scale -1 to 1."""
    n = len(waveform)
    return SampledWaveform(n, waveform[np.random.default_rng(n).integers(n, size=N_VALUES)].astype(np.float64))


def equal_waveforms(waveforms: list[SampledWaveform]) -> np.ndarray:
    """Return a number per recording, ``(n_waveforms,)``: equal ones differ by the rounding to 16 bits at most.

    A FLAC and a WAV that were written of the same float samples differ by one step, for they are scaled differently.
    """
    pairs = []
    lengths = np.array([w.n_samples for w in waveforms], dtype=int)
    for rows in copies(lengths):
        values = np.stack([waveforms[k].values for k in rows])
        close = cKDTree(values).query_pairs(ROUNDING, p=np.inf, output_type="ndarray")
        peaks = np.abs(values[close]).max(axis=(1, 2)) if len(close) else np.empty(0)
        # of waveforms near the rounding only equal samples are evidence
        exact = np.array([np.array_equal(values[a], values[b]) for a, b in close], dtype=bool)
        pairs.append(rows[close[exact | (peaks > 50 * ROUNDING)]])
    joined = np.concatenate([np.empty((0, 2), dtype=int), *pairs])
    n = len(waveforms)
    return np.asarray(connected_components(coo_array((np.ones(len(joined)), tuple(joined.T)), shape=(n, n)), False)[1])


def copies(recordings: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each recording that has several, in the order of their first rows.

    Args:
        recordings: ``(n_utterances,)`` a number per recording; equal ones mean the same audio
    """
    order = np.argsort(recordings, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(recordings[order])) + 1)
    return sorted((rows for rows in parts if len(rows) > 1), key=lambda rows: int(rows[0]))


def count_shared(
    recordings: np.ndarray, utterance_ids: np.ndarray, speakers: np.ndarray, ratings: np.ndarray
) -> SharedAudio | None:
    """Return what utterances with the same audio differ in; None where there are none.

    Args:
        recordings: ``(n_utterances,)`` a number per recording
        utterance_ids: ``(n_utterances,)`` strings, for examples
        speakers: ``(n_utterances,)`` a number per speaker, each unknown one by itself
        ratings: ``(n_utterances, n_targets)`` ratings and codes of classes, NaN where there is none
    """
    found = copies(recordings)
    if not found:
        return None
    across = [len(np.unique(speakers[rows])) > 1 for rows in found]
    other = [have_other_ratings(ratings[rows]) for rows in found]
    order = sorted(range(len(found)), key=lambda k: (not across[k], not other[k], k))
    return SharedAudio(
        n_utterances=sum(map(len, found)),
        n_recordings=len(found),
        n_across_speakers=sum(len(rows) for rows, is_so in zip(found, across, strict=True) if is_so),
        n_other_ratings=sum(len(rows) for rows, is_so in zip(found, other, strict=True) if is_so),
        examples=tuple(" and ".join(map(str, utterance_ids[found[k][:2]])) for k in order[:EXAMPLES]),
    )


def have_other_ratings(ratings: np.ndarray) -> bool:
    """Return whether any column of ``(n_copies, n_targets)`` has two values; a missing rating differs from none."""
    with np.errstate(invalid="ignore"):
        low, high = (np.fmin.reduce(ratings, axis=0), np.fmax.reduce(ratings, axis=0))
    return bool((high > low).any())
