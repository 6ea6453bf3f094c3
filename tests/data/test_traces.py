"""Ratings of spans by traces, and agreement of raters: against loops, pandas and numbers worked out by hand."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from helpers.mutated_bytes import mutated

from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.data.traces.agreement import Agreement, AgreementSums, on_grid
from layerprobe.probe.data.traces.registry import read_trace_source
from layerprobe.probe.data.traces.source import RaterTrace, TargetTraces, within_scale
from layerprobe.probe.data.traces.span_ratings import span_means
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import ccc


def trace(rater, times, ratings):
    return RaterTrace(rater, np.array(times, dtype=float), np.array(ratings, dtype=float))


def random_raters(rng, n=4, *, seconds=20):
    """Raters at times of their own, with gaps; the last one gave nothing."""
    found = []
    for k in range(n):
        times = np.sort(np.round(rng.uniform(0, seconds, size=int(rng.integers(50, 200))), 3))
        ratings = np.where(rng.random(len(times)) < 0.2, np.nan, rng.normal(k, 1, size=len(times)))
        found.append(RaterTrace(f"r{k}", times, ratings))
    return (*found, trace("silent", [1.0, 2.0], [np.nan, np.nan]))


def slowly(raters, start, end):
    """Rating, number of samples and number of raters of one span by pandas."""
    long = pd.concat([pd.DataFrame({"rater": t.rater, "time": t.times, "rating": t.ratings}) for t in raters])
    inside = long[(long["time"] >= start) & (long["time"] < end)].dropna()
    means = inside.groupby("rater")["rating"].mean()
    return means.mean() if len(means) else np.nan, len(inside), len(means)


def test_a_rating_is_the_mean_over_raters_of_the_means_of_their_samples(rng):
    raters = random_raters(rng)
    starts = np.round(rng.uniform(-1, 19, size=60), 2)
    ends = starts + np.round(rng.uniform(0.01, 2, size=60), 2)
    found = span_means(TargetTraces(raters), starts, ends)
    for row, start, end in zip(found, starts, ends, strict=True):
        np.testing.assert_allclose(row, slowly(raters, start, end), rtol=1e-9)
    assert (found[:, 1] == 0).any()
    assert 0 < (found[:, 2] == 4).sum() < 60  # else means over raters and over samples would not differ


def test_a_span_has_its_first_moment_and_not_its_last_one():
    raters = (trace("a", [0.0, 0.1, 0.2, 0.3], [1, 2, 4, 8]),)
    found = span_means(TargetTraces(raters), np.array([0.0, 0.1, 0.1 + 0.2]), np.array([0.2, 0.1 + 0.2, 0.4]))
    # 0.1 + 0.2 is 0.30000000000000004, which must not move the sample at 0.3 into the span before
    assert found[:, 0].tolist() == [1.5, 3.0, 8.0]
    assert found[:, 1].tolist() == [2, 2, 1]


def test_a_gap_is_not_filled():
    raters = (trace("a", [0, 1, 2, 3], [1, np.nan, np.nan, 1]), trace("b", [0, 1, 2, 3], [3, 5, np.nan, np.nan]))
    found = span_means(TargetTraces(raters), np.arange(4.0), np.arange(4.0) + 1)
    np.testing.assert_array_equal(found, [[2, 2, 2], [5, 1, 1], [np.nan, 0, 0], [1, 1, 1]])


def test_a_consensus_is_the_rating_and_its_raters_are_counted():
    raters = (trace("a", [0, 1], [1, np.nan]), trace("b", [0, 1], [3, 5]))
    found = span_means(TargetTraces(raters, trace("gold", [0, 1], [9, 7])), np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert found.tolist() == [[9, 1, 2], [7, 1, 1]]
    alone = span_means(TargetTraces((), trace("gold", [0, 1], [9, 7])), np.array([0.0]), np.array([2.0]))
    assert alone.tolist() == [[8, 2, 1]]


def test_ratings_outside_of_the_scale_are_left_out_and_counted():
    traces = TargetTraces((trace("a", [0, 1, 2], [1, 1.0000000001, 1.1]),), trace("g", [0], [-2]))
    kept, n = within_scale(traces, Target(-1, 1))
    assert n == 2
    np.testing.assert_array_equal(kept.raters[0].ratings, [1, 1.0000000001, np.nan])
    assert np.isnan(kept.consensus.ratings[0])
    assert within_scale(traces, None) == (traces, 0)


def test_agreement_at_common_times_is_that_of_the_formula(rng):
    """Two recordings, of which one rater has a gap and another one is missing in the second."""
    shared = rng.normal(size=(2, 300))
    matrix = np.stack([[s + 0.5 * k * rng.normal(size=300) + 0.3 * k for s in shared] for k in range(4)])
    matrix[1, 0, 50:120] = np.nan
    matrix[3, 1] = np.nan
    times = np.arange(300) * 0.04
    sums = AgreementSums()
    for recording in range(2):
        sums.add([RaterTrace(f"r{k}", times, matrix[k, recording]) for k in range(4) if k < 3 or recording == 0])
    found = sums.result()
    flat = pd.DataFrame(matrix.reshape(4, -1).T)
    pairs = [ccc(*flat[[a, b]].dropna().to_numpy().T) for a, b in combinations(range(4), 2)]
    others = []
    for k in range(4):
        both = pd.DataFrame({"own": flat[k], "others": flat.drop(columns=k).mean(axis=1)}).dropna()
        others.append(ccc(both["own"].to_numpy(), both["others"].to_numpy()))
    assert (found.n_raters, found.n_pairs) == (4, 6)
    assert found.pairwise == pytest.approx(np.mean(pairs), rel=1e-9)
    assert found.with_others == pytest.approx(sorted(others), rel=1e-9)
    assert max(others) - min(others) > 0.1


def test_raters_at_other_times_are_compared_on_a_grid(rng):
    """One has a sample every 40 ms, the other one every 60 ms with jitter: both follow one slow curve."""
    a = np.arange(0, 60, 0.04)
    b = np.sort(np.arange(0, 60, 0.06) + rng.uniform(-0.02, 0.02, size=1000))
    curve = np.sin
    sums = AgreementSums()
    sums.add([RaterTrace("a", a, curve(a)), RaterTrace("b", b, curve(b))])
    assert sums.result().pairwise > 0.999
    grid = on_grid([RaterTrace("a", a, curve(a)), RaterTrace("b", b, curve(b))])
    assert (
        np.isfinite(grid).all(axis=0).sum() > 800
    )  # of 1,000: jitter puts two samples into one step, and none into another


def test_the_grid_keeps_gaps_and_averages_samples_of_one_step():
    grid = on_grid(
        [trace("a", [0, 0.04, 0.08, 0.12], [1, np.nan, 3, 4]), trace("b", [0, 0.01, 0.2, 0.21], [5, 7, 9, 11])]
    )
    np.testing.assert_array_equal(grid, [[1, 3, 4, np.nan], [6, np.nan, np.nan, 10]])


def test_one_rater_and_constant_raters_have_no_agreement():
    sums = AgreementSums()
    sums.add([trace("a", [0, 1], [1, 2])])
    assert str(sums.result()) == "one rater, so there is no agreement"
    sums.add([trace("b", [5], [1])])
    assert str(sums.result()) == "no agreement, as no two raters rated the same moment"
    sums.add([trace("b", [0, 1, 2], [1, 1, 1]), trace("c", [0, 1, 2], [1, 1, 1])])
    assert sums.result().n_pairs == 0
    sums.add([])
    assert sums.result().n_raters == 3


def test_agreement_is_described_in_a_clause():
    text = str(Agreement(3, 3, 0.414, (0.4, 0.5, 0.6)))
    assert text == "CCC 0.41 (mean of 3 pairs of raters), of a rater with the mean of the others 0.50 (0.40 to 0.60)"


MUTATED = {
    "table": ("t.csv", b"utterance_id,time,joy_r1,joy_r2\nu1,0,1,3\nu1,0.5,2,\nu2,0.25,5,6\n"),
    "recola": ("arousal/u1.csv", b"time;FM1 ;FM2 \n0.00;0.1;0.2\n0.04;;0.3\n0.08;0.2;0.1\n"),
}


@pytest.mark.parametrize("trace_format", MUTATED)
def test_a_mutated_file_of_traces_is_read_or_refused_in_words(tmp_path, trace_format):
    name, raw = MUTATED[trace_format]
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    rng = random.Random(trace_format)
    outcomes = Counter()
    for _ in range(60):
        path.write_bytes(mutated(raw, rng))
        try:
            source = read_trace_source(trace_format, path if trace_format == "table" else tmp_path / "in")
            for recording in source.recordings:
                for traces in source.load(recording).values():
                    found = span_means(traces, np.arange(3) / 4, np.arange(1, 4) / 4)
                    AgreementSums().add(traces.raters)
                    assert (np.isfinite(found[:, 0]) == (found[:, 1] > 0)).all()
            outcomes["read"] += 1
        except InputError as error:
            outcomes[error.code] += 1
    assert outcomes["read"] > 2
    assert len(outcomes) > 2
