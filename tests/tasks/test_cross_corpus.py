"""Training on one corpus: the same speakers are held out, and no other corpus is used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import assert_disjoint, fold_splits
from layerprobe.probe.tasks.cross_corpus import corpus_names, splits_within

N = 120
GROUPS = np.arange(N) // 5
CORPUS = np.where(GROUPS % 3 == 0, "acted", np.where(GROUPS == 1, "", "called"))


def test_only_rows_of_the_corpus_train_and_all_rows_are_tested(rng):
    splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=rng)
    for name in ("acted", "called"):
        for split, whole in zip(splits_within(splits, CORPUS, name), splits, strict=True):
            assert_disjoint(split, GROUPS)
            np.testing.assert_array_equal(split.test, whole.test)
            np.testing.assert_array_equal(split.train, [r for r in whole.train if CORPUS[r] == name])
            fold_of = dict(zip(whole.train, whole.inner_folds, strict=True))
            pairs = {(own, fold_of[row]) for own, row in zip(split.inner_folds, split.train, strict=True)}
            assert len(pairs) == len({own for own, _ in pairs}) == len({fold for _, fold in pairs}) >= 2


def test_a_corpus_with_training_speakers_in_one_inner_fold_is_refused(rng):
    splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=rng)
    corpus = np.where(np.isin(np.arange(N), splits[0].test), "small", "large")
    with pytest.raises(
        InputError,
        match=r"^Holding out 0 leaves corpus 'small' training speakers in 0 of the 3 inner folds, and choosing alpha "
        r"takes two\. Ask for more folds, add speakers, or leave out --cross-corpus\. \[LP\d{3}\]$",
    ):
        splits_within(splits, corpus, "small")


def test_fewer_than_two_corpora_are_refused(tmp_path):
    header = Header("two", "1", "none", {"arousal": Target(1, 7)})
    table = pd.DataFrame({"utterance_id": ["a", "b", "c"], "corpus": ["x", "", "y"]})
    assert corpus_names(Manifest(tmp_path / "my.csv", header, table)) == ["x", "y"]
    with pytest.raises(
        InputError, match=r"my\.csv names 1 in its column corpus; --cross-corpus needs two or more there\."
    ):
        corpus_names(Manifest(tmp_path / "my.csv", header, table.assign(corpus="x")))
    with pytest.raises(InputError, match=r"my\.csv has no column corpus; --cross-corpus needs two or more there\."):
        corpus_names(Manifest(tmp_path / "my.csv", header, table.drop(columns="corpus")))
