"""Ratings that say less than they seem to: what a probe reaches on them is not what listeners heard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Control = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def permuted(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001 - a Control
    """Ratings dealt to other utterances: chance, where utterances do not resemble each other by their speaker.

    Args:
        ratings: ``(n_utterances, n_targets)``
        groups: ``(n_utterances,)``, a number per speaker
        rng: deals

    Returns:
        as many ratings, of the same targets
    """
    return np.asarray(ratings[rng.permutation(len(ratings))])


def permuted_within_speaker(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ratings dealt among the utterances of one speaker: what is left is who speaks. Arguments as in `permuted`."""
    shuffled = rng.permutation(len(ratings))
    order, source = np.argsort(groups, kind="stable"), shuffled[np.argsort(groups[shuffled], kind="stable")]
    dealt = np.empty_like(ratings)
    dealt[order] = ratings[source]
    return dealt


def random_per_speaker(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random rating for all utterances of a speaker, with the ratings' mean and spread (Hewitt and Liang, 2019).

    A probe can predict it of speakers that it has heard, by their voices; of others only by chance, which is wider than
    that of permuted ratings because there are fewer speakers than utterances. Arguments as in `permuted`.
    """
    drawn = rng.normal(size=(int(groups.max()) + 1, ratings.shape[1]))[groups]
    return np.asarray(ratings.mean(axis=0) + ratings.std(axis=0) * drawn)


def random_class_per_speaker(codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random class for all utterances of a speaker, as often as each class is chosen.

    Args:
        codes: ``(n_utterances, n_targets)`` of nominal targets
        groups: ``(n_utterances,)``, a number per speaker
        rng: draws
    """
    return np.asarray(codes[rng.integers(len(codes), size=int(groups.max()) + 1)[groups]])


def permuted_by_speaker(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speakers' mean ratings dealt to other speakers, and what is left of each rating dealt within its speaker.

    Chance where utterances of one speaker resemble each other: ratings differ between and within speakers as much as
    they did, and a draw differs from the ratings in the units that are held out. Whole levels of a nested design are
    exchanged as Anderson and ter Braak (2003, Permutation tests for multi-factorial analysis of variance) have it. It
    is exact where speakers are exchangeable, equally large, and spread alike around their means; else approximate: a
    mean of few ratings varies more, and may go to a speaker of many. Where every speaker has one utterance, as unknown
    ones have, it is `permuted`. Arguments as there.
    """
    counts = np.bincount(groups)
    means = np.empty((len(counts), ratings.shape[1]))
    for k, column in enumerate(ratings.T):
        means[:, k] = np.bincount(groups, weights=column) / np.maximum(counts, 1)
    present = np.flatnonzero(counts)
    dealt = means.copy()
    dealt[present] = means[rng.permutation(present)]
    return np.asarray(dealt[groups] + permuted_within_speaker(ratings - means[groups], groups, rng))


def classes_by_speaker(codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A speaker takes the classes of another speaker: the counterpart of `permuted_by_speaker` for nominal targets.

    They come in random order, some of them where the other has more utterances; where it has fewer, all of them again
    and again until there are enough.

    Args:
        codes: ``(n_utterances, n_targets)`` of nominal targets, of one utterance kept together
        groups: ``(n_utterances,)``, a number per speaker
        rng: deals
    """
    order = np.argsort(groups, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    present = [rows for rows in rows_of if len(rows)]
    dealt = np.empty_like(codes)
    for rows, source in zip(present, rng.permutation(len(present)), strict=True):
        dealt[rows] = codes[np.resize(rng.permutation(present[source]), len(rows))]
    return dealt


CONTROLS: dict[str, Control] = {
    "permuted": permuted,
    "permuted_within_speaker": permuted_within_speaker,
    "random_per_speaker": random_per_speaker,
    "permuted_by_speaker": permuted_by_speaker,  # the last, so that draws of the others stay what they were
}
DEFAULT_CONTROLS = ("permuted", "permuted_by_speaker")  # without speakers the first alone
WITHOUT_SPEAKERS = ("permuted",)
