"""Training on one corpus of several, while every held-out utterance is predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from layerprobe.probe.data.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import Split


def corpora_of(manifest: Manifest) -> list[str]:
    """The names in the manifest's column ``corpus``, in their order.

    Raises:
        InputError: if there are fewer than two
    """
    names = sorted(set(manifest.table["corpus"]) - {""}) if "corpus" in manifest.table else []
    if len(names) < 2:
        found = f"names {len(names)} in its column corpus" if "corpus" in manifest.table else "has no column corpus"
        raise InputError(
            f"{manifest.path} {found}; --cross-corpus needs two or more there. Name them, or leave it out."
        )
    return names


def splits_within(splits: list[Split], corpus: np.ndarray, name: str) -> list[Split]:
    """Splits that train on the rows of one corpus, inner folds and all, and test what they did.

    So a score on the corpus itself is one of speakers never heard, and one on another corpus comes from the same fits.

    Args:
        splits: of all rows
        corpus: ``(n_utterances,)`` the corpus of each
        name: the one that trains

    Raises:
        InputError: if some split has not two inner folds with training speakers of it
    """
    within = []
    for split in splits:
        own = corpus[split.train] == name
        numbers, inner_folds = np.unique(split.inner_folds[own], return_inverse=True)
        if len(numbers) < 2:
            raise InputError(
                f"Holding out {split.name} leaves corpus {name!r} training speakers in {len(numbers)} of the "
                f"{len(np.unique(split.inner_folds))} inner folds, and choosing alpha takes two. Ask for more folds, "
                "add speakers, or leave --cross-corpus."
            )
        within.append(replace(split, train=split.train[own], inner_folds=inner_folds))
    return within
