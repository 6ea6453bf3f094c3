"""Word errors compared with a slow obvious oracle, and word error rates with intervals over speakers."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest

from layerprobe.analysis.statistics.bootstrap import resample_speakers
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.statistics.word_error_rate import SEED, error_rates
from layerprobe.probe.data.word_errors import WordErrors, tokenise_transcript, word_error_table, word_errors


def least_edits(a, b):
    """Return the edit distance by recursion, as it is defined."""

    @functools.cache
    def edits(i, j):
        if not i or not j:
            return i + j
        if a[i - 1] == b[j - 1]:
            return edits(i - 1, j - 1)
        return 1 + min(edits(i - 1, j - 1), edits(i - 1, j), edits(i, j - 1))

    return edits(len(a), len(b))


def test_edits_are_the_least_of_all(rng):
    for _ in range(200):
        a, b = (list(rng.choice(list("abc"), size=rng.integers(0, 9))) for _ in range(2))
        found = word_errors(a, b)
        assert found.substitutions + found.deletions + found.insertions == least_edits(tuple(a), tuple(b))
        assert found.n_words == len(a)
        assert len(a) - found.deletions + found.insertions == len(b)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "the cat sat", WordErrors(3, 0, 0, 0)),
        ("the cat sat", "the bat sat", WordErrors(3, 1, 0, 0)),
        ("the cat sat", "the sat", WordErrors(3, 0, 1, 0)),
        ("the cat sat", "the big cat sat", WordErrors(3, 0, 0, 1)),
        ("the cat sat", "", WordErrors(3, 0, 3, 0)),
        ("", "oh no", WordErrors(0, 0, 0, 2)),
        ("a b", "b c", WordErrors(2, 2, 0, 0)),  # two edits either way; substitutions are preferred
    ],
)
def test_kinds_by_hand(reference, hypothesis, expected):
    assert word_errors(reference.split(), hypothesis.split()) == expected


def test_punctuation_case_and_the_sign_of_an_apostrophe_are_no_errors():
    a, b = (tokenise_transcript(t) for t in ("Don’t – she CALLED, “go”.", "don't she called go"))
    assert a == b == ["don't", "she", "called", "go"]
    assert tokenise_transcript("...!") == []


def pooled_rate(table):
    """Return all errors divided by the length of all references."""
    return table[["substitutions", "deletions", "insertions"]].to_numpy().sum() / table["n_words"].sum()


def table_of(rows):
    return pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "transcript", "asr_transcript"])


def test_the_rate_is_pooled_over_utterances_and_empty_references_are_left_out():
    rows = [("u1", "a", "one two three four", "one too three"), ("u2", "b", "five", "five six"), ("u3", "a", "", "x")]
    table = word_error_table(table_of(rows), reference="transcript", hypothesis="asr_transcript")
    assert table["utterance_id"].tolist() == ["u1", "u2"]
    rates = error_rates(table)
    assert rates["word error rate"].estimate == pytest.approx(0.6)  # one wrong, one missing, one too many, of five
    assert [rates[k].estimate for k in ("substitutions", "deletions", "insertions")] == pytest.approx([0.2] * 3)


def test_the_interval_is_that_of_rates_of_each_bootstrap_resample_and_without_each_speaker(rng):
    """The slow way: utterances of the resampled speakers concatenated, and those of all but one speaker."""
    rows = [
        {"utterance_id": f"u{s}_{k}", "speaker_id": f"s{s}", "n_words": int(rng.integers(1, 20)),
         "substitutions": int(rng.poisson(3 if s == 0 else 1)), "deletions": int(rng.poisson(0.5)), "insertions": 0}
        for s in range(6) for k in range(int(rng.integers(2, 8)))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    speakers = sorted(set(table["speaker_id"]))
    counts = resample_speakers(len(speakers), n_resamples=300, rng=np.random.default_rng(SEED))
    resampled = [
        pooled_rate(pd.concat([table[table["speaker_id"] == s] for s in np.repeat(speakers, row.astype(int))]))
        for row in counts
    ]
    without = [pooled_rate(table[table["speaker_id"] != s]) for s in speakers]
    slow = BootstrapSample(
        np.array([pooled_rate(table)]), np.array(resampled)[:, None], np.array(without)[:, None]
    ).one()
    found = error_rates(table, n_resamples=300)["word error rate"]
    assert (found.estimate, found.ci_low, found.ci_high) == pytest.approx((slow.estimate, slow.ci_low, slow.ci_high))


def test_an_interval_over_speakers_holds_the_truth_where_speakers_differ(rng):
    """Speakers whose word error rates vary around .2; over utterances the interval would be too narrow."""
    inside = []
    for _ in range(150):
        of_speaker = np.clip(rng.normal(0.2, 0.08, size=20), 0.01, 0.6)
        rows = [
            {"utterance_id": f"u{s}_{k}", "speaker_id": f"s{s}", "n_words": 10, "substitutions": rng.binomial(10, p),
             "deletions": 0, "insertions": 0}
            for s, p in enumerate(of_speaker) for k in range(5)
        ]  # fmt: skip
        rate = error_rates(pd.DataFrame(rows), n_resamples=500)["word error rate"]
        inside.append(rate.ci_low <= 0.2 <= rate.ci_high)
    assert 0.88 <= np.mean(inside) <= 0.99
