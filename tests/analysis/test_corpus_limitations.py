"""The report names what the held-out utterances can't show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from layerprobe.analysis.findings.corpus_limitations import corpus_limitations
from layerprobe.probe.results.run_folder import Predictions

SWEEP = {"speakers": True, "nominal": ["emotion"], "classes": [["calm", "fear"]]}


@pytest.fixture
def even():
    """Eight utterances of four speakers in two folds; every speaker has both classes."""
    return Predictions(
        utterance_id=np.array([f"u{k}" for k in range(8)]),
        speaker_id=np.repeat(["s1", "s2", "s3", "s4"], 2),
        fold=np.repeat(["1", "2"], 4),
        targets=np.array(["arousal", "emotion"]),
        ratings=np.stack([np.arange(8.0), np.tile([0.0, 1.0], 4)], axis=1),
        columns=pd.DataFrame(),
        prediction=np.empty((8, 0)),
        matched=np.empty((8, 0)),
    )


def rated(predictions, target, values):
    ratings = predictions.ratings.copy()
    ratings[:, list(predictions.targets).index(target)] = values
    return replace(predictions, ratings=ratings)


def test_an_even_corpus_has_none(even):
    assert corpus_limitations(even, SWEEP) == []


def test_a_speaker_of_more_than_half_of_the_utterances_is_named(even):
    half = replace(even, speaker_id=np.array(["s1"] * 4 + ["s2", "s2", "s3", "s3"]))
    assert corpus_limitations(half, SWEEP) == []
    more = replace(even, speaker_id=np.array(["s1"] * 5 + ["s2", "s2", "s3"]))
    (sentence,) = [s for s in corpus_limitations(more, SWEEP) if "voice" in s]
    assert sentence.startswith("Speaker s1 spoke 5 of the 8 held-out utterances")
    assert corpus_limitations(more, SWEEP | {"speakers": False}) == []
    unknown = replace(even, speaker_id=np.array(["Unknown"] * 6 + ["s2", "s3"]))  # each a speaker of its own
    assert not any("voice" in s for s in corpus_limitations(unknown, SWEEP))


def test_a_class_of_one_speaker_alone_is_named(even):
    of_one = rated(even, "emotion", [0, 1, 0, 0, 0, 0, 0, 0])
    found = corpus_limitations(of_one, SWEEP)
    assert [s for s in found if s.startswith("Class 'fear' of emotion has 1 held-out utterance, all of speaker s1")]
    assert not [s for s in found if "'calm'" in s]
    no_fear = rated(even, "emotion", [0, 0, 0, 0, 0, 0, 0, 0])
    assert not [s for s in corpus_limitations(no_fear, SWEEP) if "Class" in s]


@pytest.mark.parametrize("values", [[3, 3, 3, 3, 1, 2, 3, 4], [np.nan, 5, np.nan, np.nan, 1, 2, 3, 4]])
def test_a_fold_in_which_a_target_has_one_value_is_named(even, values):
    (sentence,) = corpus_limitations(rated(even, "arousal", values), SWEEP)
    assert sentence.startswith(
        "Arousal has fewer than two different values in the held-out utterances of fold 1, where "
    )
    gaps = rated(even, "arousal", [np.nan, 5, 4, np.nan, 1, 2, 3, 4])
    assert corpus_limitations(gaps, SWEEP) == []
