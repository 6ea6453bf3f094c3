"""Splits that hold out whole speakers, or whole units of speakers and other groups: which utterances train and test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import is_unknown, normalise_names


@dataclass(frozen=True)
class Split:
    """One held-out set, and the inner folds of its training utterances, over which settings are chosen."""

    name: str  # the outer fold's number, or the manifest's split
    train: np.ndarray  # (n_train,) row numbers
    test: np.ndarray  # (n_test,) row numbers
    inner_folds: np.ndarray  # (n_train,) fold number of each training row; no speaker or unit is in two


def speaker_groups(speaker_ids: np.ndarray) -> np.ndarray:
    """Return a number per speaker, ``(n_utterances,)``; each utterance of an unknown speaker is a group by itself.

    Args:
        speaker_ids: ``(n_utterances,)`` strings
    """
    names = np.asarray(speaker_ids, dtype=object).astype(str)
    unknown = names == UNKNOWN_SPEAKER
    keys = np.where(unknown, [f"unknown {i}" for i in range(len(names))], np.char.add("speaker ", names))
    return np.unique(keys, return_inverse=True)[1]


def check_speakers_known(speaker_ids: np.ndarray) -> None:
    """Check that some speaker is known, as speaker-disjoint folds need.

    Args:
        speaker_ids: ``(n_utterances,)`` strings

    Raises:
        InputError: if all are unknown
    """
    if len(speaker_ids) and all(name == UNKNOWN_SPEAKER for name in speaker_ids):
        raise InputError(
            "LP510",
            f"All {len(speaker_ids)} utterances have the speaker_id {UNKNOWN_SPEAKER}, so one voice can be in training "
            "and test data. Name the speakers in the manifest, or accept that scores may be too optimistic with "
            "--no-speakers (in Python: speakers=False).",
        )


def joined_units(*labels: np.ndarray) -> np.ndarray:
    """Return the connected components of utterances: two with a label in common, directly or over others, are in one.

    Args:
        labels: of each kind (speaker, session, audio) a number per utterance, ``(n_utterances,)`` int

    Returns:
        ``(n_utterances,)`` a number per unit; the first labels themselves where the others join none of them

    >>> joined_units(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    first = labels[0]
    codes = [np.unique(values, return_inverse=True)[1] for values in labels]
    units, before = np.arange(len(first)), None
    while before is None or (units != before).any():  # each pass hands the lowest number one label further
        before = units
        for code in codes:
            lowest = np.full(len(units), len(units))
            np.minimum.at(lowest, code, units)
            units = lowest[code]
    units = np.unique(units, return_inverse=True)[1]
    return np.asarray(first if len(np.unique(first)) == len(np.unique(units)) else units)


def speaker_folds(groups: np.ndarray, *, n_folds: int, rng: np.random.Generator, unit: str = "speaker") -> np.ndarray:
    """Assign whole speakers to folds of nearly equal numbers of utterances.

    Speakers are taken in random order, sorted by falling size, each into the fold that is smallest so far.

    Args:
        groups: ``(n_utterances,)`` a number per speaker, or per unit of `joined_units`
        n_folds: at least 2
        rng: orders speakers of equal size
        unit: what a group is, for messages

    Returns:
        ``(n_utterances,)`` fold numbers 0 … n_folds - 1; no speaker is in two

    Raises:
        InputError: if there are fewer speakers than folds
    """
    speakers, counts = np.unique(groups, return_counts=True)
    if n_folds < 2:
        raise InputError("LP530", f"{n_folds} folds leave nothing to train on. Ask for 2 or more.")
    if len(speakers) < n_folds:
        raise InputError(
            "LP512",
            f"{len(speakers)} {unit}{'s' * (len(speakers) > 1)} with {len(groups)} utterances can't be split into "
            f"{n_folds} {unit}-disjoint folds. Ask for fewer folds, or add {unit}s.",
        )
    shuffled = rng.permutation(len(speakers))
    by_size = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    sizes = np.zeros(n_folds, dtype=int)
    fold_of = np.empty(len(speakers), dtype=int)
    for speaker in by_size:
        fold_of[speaker] = np.argmin(sizes)
        sizes[fold_of[speaker]] += counts[speaker]
    return fold_of[np.searchsorted(speakers, groups)]


def fold_splits(
    groups: np.ndarray,
    *,
    n_folds: int,
    n_inner_folds: int,
    rng: np.random.Generator,
    unit: str = "speaker",
    inner_groups: np.ndarray | None = None,
) -> list[Split]:
    """Hold out each outer fold in turn; the other outer folds are its inner folds, so that fits can be shared.

    With two outer folds only one remains to train on, which is split into ``n_inner_folds`` inner folds.

    Args:
        groups: ``(n_utterances,)`` a number per speaker, or per unit of `joined_units`
        n_folds: outer folds, at least 2
        n_inner_folds: inner folds where there are two outer ones
        rng: orders speakers of equal size
        unit: what a group is, for messages
        inner_groups: ``(n_utterances,)`` what inner folds hold out where one group alone is left to train on; None
            where that is refused

    Raises:
        InputError: if the speakers do not suffice for the outer or the inner folds
    """
    outer = speaker_folds(groups, n_folds=n_folds, rng=rng, unit=unit)
    splits = []
    for k in range(n_folds):
        train, test = np.flatnonzero(outer != k), np.flatnonzero(outer == k)
        if n_folds == 2:
            splits.append(_split(str(k), train, test, groups, n_inner_folds, rng, unit, inner_groups))
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
    """Return the split that the manifest states: train on ``train``, hold out ``test``.

    Args:
        groups: ``(n_utterances,)`` a number per speaker
        splits: ``(n_utterances,)`` the manifest's split of each utterance
        speaker_ids: ``(n_utterances,)`` strings, for messages
        test: the split that is held out
        n_inner_folds: of the training speakers
        rng: orders speakers of equal size

    Raises:
        InputError: if either is empty, or a speaker is in both
    """
    train, held_out = np.flatnonzero(splits == "train"), np.flatnonzero(splits == test)
    for name, rows in (("train", train), (test, held_out)):
        if len(rows) == 0:
            raise InputError(
                "LP516", f"split {name!r} has no rated utterance in the cache. Choose another, or use --folds."
            )
    both = np.intersect1d(groups[train], groups[held_out])
    if len(both):
        names = sorted({str(s) for s in speaker_ids[np.isin(groups, both)]})
        raise InputError(
            "LP517",
            f"{len(both)} speakers are in both train and {test}, {names[0]} first. Correct the split, or use --folds.",
        )
    return [_split(test, train, held_out, groups, n_inner_folds, rng)]


def _split(
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    groups: np.ndarray,
    n_inner: int,
    rng: np.random.Generator,
    unit: str = "speaker",
    inner_groups: np.ndarray | None = None,
) -> Split:
    inner = groups if inner_groups is None or len(np.unique(groups[train])) > 1 else inner_groups
    n_groups = len(np.unique(inner[train]))
    if n_groups < 2:
        raise InputError(
            "LP514", f"Holding out {name} leaves one {unit} to train on, and choosing alpha takes two. Add {unit}s."
        )
    split = Split(name, train, test, speaker_folds(inner[train], n_folds=min(n_inner, n_groups), rng=rng))
    assert_disjoint(split, groups, inner_groups=inner)
    return split


def assert_disjoint(split: Split, groups: np.ndarray, *, inner_groups: np.ndarray | None = None) -> None:
    """Check a split on every run; ``python -O`` does not switch it off.

    Args:
        split: outer and inner folds
        groups: ``(n_utterances,)`` a number per speaker or unit
        inner_groups: ``(n_utterances,)`` what inner folds hold out; None for the same

    Raises:
        AssertionError: if a speaker is in train and test, or in two inner folds
    """
    if np.intersect1d(groups[split.train], groups[split.test]).size:
        raise AssertionError("a speaker trains and tests")
    inner = groups if inner_groups is None else inner_groups
    pairs = np.unique(np.stack([inner[split.train], split.inner_folds]), axis=1)
    if len(np.unique(pairs[0])) != pairs.shape[1]:
        raise AssertionError("a speaker is in two inner folds")


class SpeakerKFold:
    """Speaker-independent k-fold cross-validation as a scikit-learn splitter, for its ``cv`` arguments.

    The folds are those of a sweep with the same number of folds, seed and utterances. Speakers are given as ``groups``;
    each utterance of the speaker ``"Unknown"`` is a group by itself, so only the folds of such utterances depend on the
    order of rows (a sweep sorts them by utterance id).

    Args:
        n_splits: folds, at least 2
        seed: orders speakers of equal size

    >>> speakers = np.array(["a", "a", "b", "b", "c"])
    >>> [test.tolist() for _, test in SpeakerKFold(n_splits=3).split(speakers, groups=speakers)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, n_splits: int = 5, *, seed: int = 0) -> None:
        self.n_splits = n_splits
        self.seed = seed

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # noqa: N803
        """Yield for each fold the row numbers to train on, ``(n_train,)``, and to test on, ``(n_test,)``.

        Args:
            X: whatever has ``n_utterances`` rows; its values are not read
            y: not used
            groups: ``(n_utterances,)`` the speaker of each row

        Raises:
            InputError: if groups are missing, of another length than X or hold a missing speaker, or if there are fewer
                speakers than folds
        """
        del y
        if groups is None:
            raise InputError("LP570", "SpeakerKFold needs the speaker of each row: give groups=frame['speaker_id'].")
        speaker_ids = np.asarray(groups, dtype=object)
        if speaker_ids.ndim != 1:
            raise InputError(
                "LP570", f"groups has shape {speaker_ids.shape}; give one speaker per row, in one dimension."
            )
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if len(speaker_ids) != n_rows:
            raise InputError(
                "LP570", f"groups has {len(speaker_ids)} entries and X has {n_rows} rows; give one speaker per row."
            )
        names = normalise_names(["" if s is None else str(s) for s in speaker_ids])
        missing = [k for k, name in enumerate(names) if name != UNKNOWN_SPEAKER and is_unknown(name)]
        if missing:
            raise InputError(
                "LP571",
                f"groups lacks the speaker of {len(missing)} rows, the first at position {missing[0]}; write "
                f"{UNKNOWN_SPEAKER!r} where a speaker is not known.",
            )
        rng = np.random.default_rng(self.seed)
        groups = speaker_groups(np.array(names, dtype=object))
        folds = speaker_folds(groups, n_folds=self.n_splits, rng=rng)
        for k in range(self.n_splits):
            yield np.flatnonzero(folds != k), np.flatnonzero(folds == k)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803
        """Return the number of folds; the arguments are scikit-learn's and not used."""
        del X, y, groups
        return self.n_splits

    def get_metadata_routing(self) -> Any:
        """Return the request for ``groups``, which scikit-learn reads if metadata routing is enabled."""
        from sklearn.utils.metadata_routing import MetadataRequest

        request = MetadataRequest(owner=self)
        request.split.add_request(param="groups", alias=True)
        return request

    def __repr__(self) -> str:
        return f"SpeakerKFold(n_splits={self.n_splits}, seed={self.seed})"


UNKNOWN_SPEAKER = "Unknown"  # as MSP-Podcast writes it for a speaker who was not identified
