"""Speaker-disjoint splits: which utterances train, which test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.exceptions import InputError


@dataclass(frozen=True)
class Split:
    """One held-out set, and how its training utterances are divided again to choose settings."""

    name: str  # the outer fold's number, or the manifest's split
    train: np.ndarray  # (n_train,) row numbers
    test: np.ndarray  # (n_test,) row numbers
    inner_folds: np.ndarray  # (n_train,) fold number of each training row, speaker-disjoint


def speaker_groups(speaker_ids: np.ndarray) -> np.ndarray:
    """A number per speaker, ``(n_utterances,)``; every utterance of an unknown speaker is a group of its own.

    Args:
        speaker_ids: ``(n_utterances,)`` strings
    """
    names = np.asarray(speaker_ids, dtype=object).astype(str)
    alone = names == UNKNOWN_SPEAKER
    keys = np.where(alone, [f"unknown {i}" for i in range(len(names))], np.char.add("speaker ", names))
    return np.unique(keys, return_inverse=True)[1]


def speaker_folds(groups: np.ndarray, *, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal whole speakers into folds of nearly equal numbers of utterances.

    Speakers come in random order, then by falling size, each into the fold that is smallest so far.

    Args:
        groups: ``(n_utterances,)`` a number per speaker
        n_folds: at least 2
        rng: orders speakers of equal size

    Returns:
        ``(n_utterances,)`` fold numbers 0 … n_folds - 1; no speaker is in two

    Raises:
        InputError: if there are fewer speakers than folds
    """
    speakers, counts = np.unique(groups, return_counts=True)
    if n_folds < 2:
        raise InputError(f"{n_folds} folds leave nothing to train on. Ask for 2 or more.")
    if len(speakers) < n_folds:
        raise InputError(
            f"{len(speakers)} speaker{'s' * (len(speakers) > 1)} with {len(groups)} utterances can't be dealt into "
            f"{n_folds} speaker-disjoint folds. Ask for fewer folds, or add speakers."
        )
    shuffled = rng.permutation(len(speakers))
    by_size = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    sizes = np.zeros(n_folds, dtype=int)
    fold_of = np.empty(len(speakers), dtype=int)
    for speaker in by_size:
        fold_of[speaker] = np.argmin(sizes)
        sizes[fold_of[speaker]] += counts[speaker]
    return fold_of[np.searchsorted(speakers, groups)]


def fold_splits(groups: np.ndarray, *, n_folds: int, n_inner_folds: int, rng: np.random.Generator) -> list[Split]:
    """Each outer fold held out in turn; the other outer folds are its inner folds, so that fits can be shared.

    Of two outer folds one remains, which is dealt into ``n_inner_folds`` of its own.

    Raises:
        InputError: if the speakers do not suffice for the outer or the inner folds
    """
    outer = speaker_folds(groups, n_folds=n_folds, rng=rng)
    splits = []
    for k in range(n_folds):
        train, test = np.flatnonzero(outer != k), np.flatnonzero(outer == k)
        if n_folds == 2:
            splits.append(_split(str(k), train, test, groups, n_inner_folds, rng))
        else:
            splits.append(Split(str(k), train, test, np.unique(outer[train], return_inverse=True)[1]))
            assert_disjoint(splits[-1], groups)
    return splits


def manifest_split(
    groups: np.ndarray,
    splits: np.ndarray,
    speaker_ids: np.ndarray,
    *,
    test: str,
    n_inner_folds: int,
    rng: np.random.Generator,
) -> list[Split]:
    """The manifest's own split: train on ``train``, hold out ``test``.

    Raises:
        InputError: if either is empty, or a speaker is on both sides
    """
    train, held_out = np.flatnonzero(splits == "train"), np.flatnonzero(splits == test)
    for name, rows in (("train", train), (test, held_out)):
        if len(rows) == 0:
            raise InputError(f"split {name!r} has no rated utterance in the cache. Choose another, or use --folds.")
    both = np.intersect1d(groups[train], groups[held_out])
    if len(both):
        names = sorted({str(s) for s in speaker_ids[np.isin(groups, both)]})
        raise InputError(
            f"{len(both)} speakers are in both train and {test}, {names[0]} first. Correct the split, or use --folds."
        )
    return [_split(test, train, held_out, groups, n_inner_folds, rng)]


def _split(
    name: str, train: np.ndarray, test: np.ndarray, groups: np.ndarray, n_inner: int, rng: np.random.Generator
) -> Split:
    n_speakers = len(np.unique(groups[train]))
    if n_speakers < 2:
        raise InputError(
            f"Holding out {name} leaves one speaker to train on, and choosing alpha takes two. Add speakers."
        )
    inner = speaker_folds(groups[train], n_folds=min(n_inner, n_speakers), rng=rng)
    split = Split(name, train, test, inner)
    assert_disjoint(split, groups)
    return split


def assert_disjoint(split: Split, groups: np.ndarray) -> None:
    """Stop if a speaker is on both sides, outer or inner: a mistake of ours, checked on every run."""
    assert not np.intersect1d(groups[split.train], groups[split.test]).size, "a speaker trains and tests"
    pairs = np.unique(np.stack([groups[split.train], split.inner_folds]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1], "a speaker is in two inner folds"


UNKNOWN_SPEAKER = "Unknown"  # MSP-Podcast's word for a talker whom nobody has identified
