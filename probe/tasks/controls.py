"""Control tasks: ratings whose scores measure chance or speaker identity in place of emotion."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

Control = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def permuted(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001 - a Control
    """Permute ratings over all utterances: chance, if utterances of one speaker are no more alike than others.

    Args:
        ratings: ``(n_utterances, n_targets)``
        groups: ``(n_utterances,)``, a number per speaker
        rng: of the permutation

    Returns:
        permuted ratings, ``(n_utterances, n_targets)``
    """
    return np.asarray(ratings[rng.permutation(len(ratings))])


def permuted_within_speaker(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute ratings within each speaker, which leaves speaker identity; arguments as of `permuted`."""
    shuffled = rng.permutation(len(ratings))
    order, source = np.argsort(groups, kind="stable"), shuffled[np.argsort(groups[shuffled], kind="stable")]
    permutation = np.empty_like(ratings)
    permutation[order] = ratings[source]
    return permutation


def random_per_speaker(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one random rating per speaker, with the ratings' mean and standard deviation (Hewitt and Liang, 2019).

    A probe can predict it for training speakers, by their voices, and for unseen speakers only by chance, whose scores
    vary more than those of permuted ratings because there are fewer speakers than utterances. Arguments as of
    `permuted`.
    """
    levels = rng.normal(size=(int(groups.max()) + 1, ratings.shape[1]))[groups]
    return np.asarray(ratings.mean(axis=0) + ratings.std(axis=0) * levels)


def random_class_per_speaker(codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one random class per speaker, with the probabilities of the classes in ``codes``.

    Args:
        codes: ``(n_utterances, n_targets)`` of nominal targets
        groups: ``(n_utterances,)``, a number per speaker
        rng: of the random classes
    """
    return np.asarray(codes[rng.integers(len(codes), size=int(groups.max()) + 1)[groups]])


def permuted_by_speaker(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute mean ratings over speakers, and the deviations from them within each speaker.

    It is chance if utterances of one speaker are alike: the variance between and within speakers is kept, and the
    permuted units are those that are held out. Whole levels of a nested design are exchanged (Anderson and ter Braak,
    2003, Permutation tests for multi-factorial analysis of variance). It is exact if speakers are exchangeable, of
    equal size and of equal variance around their means, and otherwise approximate: a mean of few ratings varies more,
    and may be given to a speaker of many. If every speaker has one utterance, as unknown speakers have, it equals
    `permuted`. Arguments as there.
    """
    counts = np.bincount(groups)
    means = np.empty((len(counts), ratings.shape[1]))
    for k, column in enumerate(ratings.T):
        means[:, k] = np.bincount(groups, weights=column) / np.maximum(counts, 1)
    present = np.flatnonzero(counts)
    permuted_means = means.copy()
    permuted_means[present] = means[rng.permutation(present)]
    return np.asarray(permuted_means[groups] + permuted_within_speaker(ratings - means[groups], groups, rng))


def classes_by_speaker(codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute classes over speakers, as `permuted_by_speaker` does ratings: each speaker receives those of another.

    They are in random order. If the other speaker has more utterances, some of its classes are used; if fewer, they are
    repeated until there are enough.

    Args:
        codes: ``(n_utterances, n_targets)`` of nominal targets, which stay together within an utterance
        groups: ``(n_utterances,)``, a number per speaker
        rng: of the permutations
    """
    order = np.argsort(groups, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    present = [rows for rows in rows_of if len(rows)]
    permutation = np.empty_like(codes)
    for rows, source in zip(present, rng.permutation(len(present)), strict=True):
        permutation[rows] = codes[np.resize(rng.permutation(present[source]), len(rows))]
    return permutation


CONTROLS: dict[str, Control] = {
    "permuted": permuted,
    "permuted_within_speaker": permuted_within_speaker,
    "random_per_speaker": random_per_speaker,
    "permuted_by_speaker": permuted_by_speaker,  # the last, so that random numbers of the others stay what they were
}
DEFAULT_CONTROLS = ("permuted", "permuted_by_speaker")  # without speakers only the first
WITHOUT_SPEAKERS = ("permuted",)
CHANCE = ("permuted_by_speaker", "permuted")  # those that estimate chance, the preferred one first
MOST_OF_OTHERS = 49  # permutations of the other controls, of which a mean and a range are shown
MOST_OF_SECOND = 9  # of `permuted` where `permuted_by_speaker` estimates chance: its mean is shown, and nothing tested


def n_permutations_of(control: str, controls: Collection[str], n_permutations: int) -> int:
    """Return how many permutations a control has: all if it estimates chance, else a few.

    Args:
        control: one of ``controls``
        controls: keys of `CONTROLS`
        n_permutations: of the control that estimates chance

    >>> [n_permutations_of(c, ("permuted", "permuted_by_speaker"), 239) for c in ("permuted", "permuted_by_speaker")]
    [9, 239]
    """
    if control == next((c for c in CHANCE if c in controls), None):
        return n_permutations
    return min(n_permutations, MOST_OF_SECOND if control in CHANCE else MOST_OF_OTHERS)
