"""Cross-corpus splits: training on one corpus of several, with predictions for all held-out utterances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import Split


def corpus_names(manifest: Manifest) -> list[str]:
    """Return the names in the manifest's column ``corpus``, sorted.

    Raises:
        InputError: if there are fewer than two
    """
    names = sorted(set(manifest.table["corpus"]) - {""}) if "corpus" in manifest.table else []
    if len(names) < 2:
        found = f"names {len(names)} in its column corpus" if "corpus" in manifest.table else "has no column corpus"
        raise InputError(
            "LP525", f"{manifest.path} {found}; --cross-corpus needs two or more there. Name them, or leave it out."
        )
    return names


def splits_within(splits: list[Split], corpus: np.ndarray, name: str) -> list[Split]:
    """Return splits that train on the rows of one corpus, inner folds included, and test all rows that they tested.

    A score on the corpus itself is therefore one of unseen speakers, and a score on another corpus is of the same fits.

    Args:
        splits: of all rows
        corpus: ``(n_utterances,)`` the corpus of each utterance
        name: the corpus to train on

    Raises:
        InputError: if a split has fewer than two inner folds with training speakers of it
    """
    within = []
    for split in splits:
        in_corpus = corpus[split.train] == name
        numbers, inner_folds = np.unique(split.inner_folds[in_corpus], return_inverse=True)
        if len(numbers) < 2:
            raise InputError(
                "LP514",
                f"Holding out {split.name} leaves corpus {name!r} training speakers in {len(numbers)} of the "
                f"{len(np.unique(split.inner_folds))} inner folds, and choosing alpha takes two. Ask for more folds, "
                "add speakers, or leave out --cross-corpus.",
            )
        within.append(replace(split, train=split.train[in_corpus], inner_folds=inner_folds))
    return within
