"""Ratings that say less than they seem to: what a probe reaches on them is not what listeners heard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Control = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def permuted(ratings: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ratings dealt to other utterances: chance.

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


CONTROLS: dict[str, Control] = {
    "permuted": permuted,
    "permuted_within_speaker": permuted_within_speaker,
    "random_per_speaker": random_per_speaker,
}
DEFAULT_CONTROLS = ("permuted",)
