"""Control tasks of spans exchange whole series, rotated, and keep their order."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.tasks.span_controls import span_control

LENGTHS = [3, 5, 4, 5, 2, 6]
BLOCKS = np.repeat(np.arange(6), LENGTHS)
GROUPS = np.array([0, 0, 0, 1, 1, 2])[BLOCKS]
RATINGS = np.arange(len(BLOCKS), dtype=float)[:, None] + 100 * BLOCKS[:, None]


def rotated(series, source):
    """Whether a series is some rotation of another, repeated or cut to its length."""
    return any(np.array_equal(series, np.resize(np.roll(source, -k), len(series))) for k in range(len(source)))


@pytest.mark.parametrize("control", ["permuted", "permuted_within_speaker"])
def test_each_utterance_receives_the_rotated_series_of_one_other(control, rng):
    sources = []
    for _ in range(20):
        found = span_control(control, RATINGS, BLOCKS, GROUPS, rng)[:, 0]
        of = [np.unique(found[u == BLOCKS] // 100).astype(int) for u in range(6)]
        assert all(len(u) == 1 for u in of)
        source = [int(u[0]) for u in of]
        assert sorted(source) == list(range(6))
        for u, s in enumerate(source):
            assert rotated(found[u == BLOCKS], RATINGS[s == BLOCKS, 0])
        sources.append(source)
        if control == "permuted_within_speaker":
            speaker = [0, 0, 0, 1, 1, 2]
            assert [speaker[s] for s in source] == speaker
    assert len({tuple(s) for s in sources}) > 3


def test_by_speaker_means_are_permuted_and_deviations_stay_within_speakers(rng):
    means = np.array([RATINGS[g == GROUPS].mean() for g in range(3)])
    found = span_control("permuted_by_speaker", RATINGS, BLOCKS, GROUPS, rng)[:, 0]
    for g in range(3):
        own = RATINGS[g == GROUPS, 0] - means[g]
        candidates = [found[g == GROUPS] - m for m in means]
        assert any(np.isin(np.round(c, 6), np.round(own, 6)).all() for c in candidates)


def test_targets_of_a_span_stay_together(rng):
    both = np.column_stack([RATINGS[:, 0], -RATINGS[:, 0]])
    for control in ("permuted", "permuted_within_speaker"):
        found = span_control(control, both, BLOCKS, GROUPS, rng)
        np.testing.assert_array_equal(found[:, 0], -found[:, 1])


def test_a_random_level_per_speaker_is_one_level(rng):
    found = span_control("random_per_speaker", RATINGS, BLOCKS, GROUPS, rng)
    assert all(len(np.unique(found[g == GROUPS])) == 1 for g in range(3))


def test_series_keep_their_correlation_in_time_which_spans_permuted_alone_lose(rng):
    series = np.repeat(rng.normal(size=40), 5)[:, None]
    blocks, groups = np.repeat(np.arange(10), 20), np.repeat(np.arange(5), 40)

    def adjacent(values):
        same = blocks[1:] == blocks[:-1]
        return np.corrcoef(values[1:, 0][same], values[:-1, 0][same])[0, 1]

    by_series = np.mean([adjacent(span_control("permuted", series, blocks, groups, rng)) for _ in range(20)])
    alone = np.mean([adjacent(series[rng.permutation(200)]) for _ in range(20)])
    assert by_series > 0.6
    assert abs(alone) < 0.1
