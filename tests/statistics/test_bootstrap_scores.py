"""Scores in bootstrap resamples: equal to a plain loop, around the scores that a run wrote, paired between runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.held_out import CONDITION, predictions_of

from layerprobe.analysis.layers.scores import layer_scores, with_intervals
from layerprobe.analysis.statistics.bootstrap import METRICS, resample_speakers
from layerprobe.analysis.statistics.bootstrap_scores import KEYS, SEED, bootstrap_scores
from layerprobe.analysis.statistics.class_counts import COUNTED_METRICS
from layerprobe.probe import metrics

PLAIN = {**metrics.METRICS, "ccc_matched": metrics.ccc, **metrics.CLASS_METRICS}


def run_of(rng, *, n_speakers=30, seeds=1, each=10):
    """Two layers, a mix of some seeds and a layer's classes; raw predictions lie a point below the matched ones."""
    n = n_speakers * each
    speakers = rng.permutation(np.repeat([f"s{i}" for i in range(n_speakers)], each))
    ratings = {"arousal": rng.normal(4, 1, size=n), "valence": rng.normal(4, 1, size=n)}
    codes = rng.integers(0, 3, size=n).astype(float)
    labels = [{"layer": "0"}, {"layer": "1", "target": "valence"}]
    labels += [{"probe": "weighted_sum", "layer": "all", "seed": s} for s in range(seeds)]
    own = [ratings[label.get("target", "arousal")] for label in labels]
    matched = [0.6 * values + rng.normal(size=n) for values in own]
    guessed = np.where(rng.random(n) < 0.5, codes, rng.integers(0, 3, size=n))
    columns = [*zip(labels, [m - 1 for m in matched], strict=True), ({"target": "emotion"}, guessed)]
    return predictions_of({**ratings, "emotion": codes}, columns, speakers, matched=[*matched, np.full(n, np.nan)])


def truth_of(run, target):
    return run.ratings[:, list(run.targets).index(target)]


@pytest.mark.parametrize("metric", [*METRICS, *COUNTED_METRICS])
def test_resamples_equal_a_plain_loop_over_utterances_and_seeds(rng, metric):
    run = run_of(rng, n_speakers=8, seeds=3)
    found = bootstrap_scores(run, metric=metric, n_resamples=30)
    targets = ["emotion"] if metric in COUNTED_METRICS else ["arousal", "valence", "arousal"]
    assert found.keys["target"].tolist() == targets
    values = (run.matched if metric == "ccc_matched" else run.prediction).astype(float)
    _names, groups = np.unique(run.speaker_id, return_inverse=True)
    sampled = resample_speakers(8, n_resamples=30, rng=np.random.default_rng(SEED)).astype(int)
    whole, without = np.ones((1, 8), dtype=int), 1 - np.eye(8, dtype=int)
    parts = ((whole, found.scores.estimate[None]), (sampled, found.scores.resamples), (without, found.scores.left_out))
    for counts, scores in parts:
        assert len(scores) == len(counts)
        for row, of_resample in zip(counts, scores, strict=True):
            rows = np.concatenate([np.flatnonzero(groups == s) for s in np.repeat(np.arange(8), row)])
            for k, key in enumerate(found.keys.to_dict("records")):
                own = (run.columns[KEYS] == pd.Series(key)).all(axis=1)
                truth = truth_of(run, key["target"])
                plain = [PLAIN[metric](truth[rows], values[rows, c]) for c in np.flatnonzero(own)]
                assert len(plain) == (3 if key["layer"] == "all" else 1)
                assert of_resample[k] == pytest.approx(np.mean(plain), abs=1e-6)  # predictions are kept in float32


def test_an_interval_lies_about_its_own_score(rng):
    run = run_of(rng)
    table = bootstrap_scores(run, metric="ccc_matched").table().set_index(["probe", "layer"])
    labels = (("ridge", "0", "arousal"), ("ridge", "1", "valence"), ("weighted_sum", "all", "arousal"))
    for k, (probe, layer, target) in enumerate(labels):
        score = metrics.ccc(truth_of(run, target), run.matched[:, k].astype(float))
        low, high, estimate = table.loc[(probe, layer), ["ci_low", "ci_high", "estimate"]]
        assert estimate == pytest.approx(score)
        assert low < score < high
        assert high - low < 0.3
    raw = bootstrap_scores(run, metric="ccc").table().set_index(["probe", "layer"])
    assert raw.loc[("ridge", "0"), "ci_high"] < table.loc[("ridge", "0"), "ci_high"]  # raw ones are off by one point


def test_fewer_speakers_give_wider_intervals_and_two_give_none(rng):
    few, many = (bootstrap_scores(run_of(rng, n_speakers=n), metric="pearson").table() for n in (8, 120))
    assert (few["ci_high"] - few["ci_low"]).min() > 1.5 * (many["ci_high"] - many["ci_low"]).max()
    two = bootstrap_scores(run_of(rng, n_speakers=2), metric="pearson").table()
    assert two["estimate"].notna().all()
    assert two[["ci_low", "ci_high", "p_value"]].isna().all(axis=None)


def test_runs_of_the_same_speakers_have_the_same_resamples(rng):
    """Scores of one column in two runs, at another index and among others, so that a difference is paired."""
    run = run_of(rng)
    order = [1, 0, 2]
    other = replace(
        run,
        columns=run.columns.loc[order].assign(encoder="other").reset_index(drop=True),
        prediction=run.prediction[:, order],
        matched=run.matched[:, order],
    )
    first, second = bootstrap_scores(run, metric="ccc"), bootstrap_scores(other, metric="ccc")
    both = first.joined(second)
    assert len(both.keys) == len(both.scores.estimate) == 6
    of = {"control": "none", "probe": "ridge", "target": "arousal"}
    mine, theirs = (both.of(["0"], encoder=e, **of) for e in ("e", "other"))
    assert set(np.ravel((mine - theirs).resamples)) == {0.0}
    again = bootstrap_scores(run, metric="ccc")
    pd.testing.assert_frame_equal(first.table(), again.table())


def test_layers_come_in_the_requested_order_and_not_at_all_where_one_is_missing(rng):
    run = run_of(rng)
    relabelled = replace(run, columns=run.columns.assign(target=["arousal", "arousal", "arousal", "emotion"]))
    found = bootstrap_scores(relabelled, metric="rmse")
    of = {"encoder": "e", "control": "none", "probe": "ridge", "target": "arousal"}
    forward, back = found.of(["0", "1"], **of), found.of(["1", "0"], **of)
    np.testing.assert_array_equal(forward.resamples, back.resamples[:, ::-1])
    assert forward.estimate[0] != forward.estimate[1]
    assert found.of(["0", "2"], **of) is None
    assert found.of(["0"], **{**of, "encoder": "x"}) is None


def test_columns_that_do_not_predict_every_utterance_are_left_out(rng):
    run = run_of(rng)
    run.prediction[5, 0] = np.nan
    found = bootstrap_scores(run, metric="ccc")
    assert found.keys["layer"].tolist() == ["1", "all"]
    assert bootstrap_scores(run, metric="ccc_matched").keys["layer"].tolist() == ["0", "1", "all"]


@pytest.mark.parametrize("metric", ["ccc", "uar"])
def test_a_mask_scores_its_utterances_alone_while_the_same_speakers_are_resampled(rng, metric):
    run = run_of(rng, n_speakers=12)
    women = np.isin(run.speaker_id, [f"s{i}" for i in range(5)])
    mask = women & (rng.random(len(women)) < 0.5)
    found = bootstrap_scores(run, metric=metric, n_resamples=40, rows=mask)
    _names, groups = np.unique(run.speaker_id, return_inverse=True)
    sampled = resample_speakers(12, n_resamples=40, rng=np.random.default_rng(SEED)).astype(int)
    column = 3 if metric == "uar" else 0
    truth, values = truth_of(run, found.keys["target"][0]), run.prediction[:, column].astype(float)
    assert found.scores.estimate[0] == pytest.approx(PLAIN[metric](truth[mask], values[mask]), abs=1e-6)
    for row, score in zip(sampled, found.scores.resamples[:, 0], strict=True):
        rows = np.concatenate([np.flatnonzero((groups == s) & mask) for s in np.repeat(np.arange(12), row)])
        assert score == pytest.approx(PLAIN[metric](truth[rows], values[rows]), abs=1e-6)
    assert found.n_speakers == len(found.scores.left_out) == 5
    first = mask & (run.speaker_id != "s0")
    assert found.scores.left_out[0, 0] == pytest.approx(PLAIN[metric](truth[first], values[first]), abs=1e-6)


def test_resamples_without_a_speaker_of_the_mask_have_no_score(rng):
    run = run_of(rng, n_speakers=12)
    for metric in (*METRICS, *COUNTED_METRICS):
        resamples = bootstrap_scores(run, metric=metric, n_resamples=200, rows=run.speaker_id == "s3").scores.resamples[
            :, 0
        ]
        # (11 / 12)^12 = .352 of resamples, with a standard deviation of .034
        assert np.isnan(resamples).mean() == pytest.approx(0.352, abs=0.12)


def test_unknown_speakers_are_resampled_one_by_one(rng):
    run = run_of(rng, n_speakers=4)
    unknown = replace(run, speaker_id=np.where(run.speaker_id == "s0", "Unknown", run.speaker_id))
    assert bootstrap_scores(run, metric="ccc").n_speakers == 4
    assert bootstrap_scores(unknown, metric="ccc").n_speakers == 3 + 10


def test_an_unknown_metric_is_refused(rng):
    with pytest.raises(
        ValueError, match=r"^metric 'ccd' is unknown; choose one of ccc, ccc_matched, .*, uar, macro_f1$"
    ):
        bootstrap_scores(run_of(rng), metric="ccd")


def test_a_run_without_classes_has_no_columns_of_a_class_metric(rng):
    run = run_of(rng)
    rated = replace(run, columns=run.columns[:3], prediction=run.prediction[:, :3], matched=run.matched[:, :3])
    found = bootstrap_scores(rated, metric="uar")
    assert found.keys.empty
    assert found.table().empty


def test_scores_without_an_interval_keep_their_range_over_folds():
    rows = [
        {"encoder": "e", "probe": "ridge", "layer": layer, "target": "a", "control": c, "fold": fold, "seed": 0,
         "metric": "ccc", "value": 0.5 + 0.1 * (fold == "1")} | CONDITION
        for layer in "01" for c in ("none", "permuted") for fold in ("0", "1", "pooled")
    ]  # fmt: skip
    table = layer_scores(pd.DataFrame(rows), metric="ccc")
    own = {
        "encoder": "e",
        "probe": "ridge",
        "layer": "1",
        "target": "a",
        "control": "none",
        "ci_low": 0.1,
        "ci_high": 0.9,
    }
    both = with_intervals(table, pd.DataFrame([own | CONDITION])).set_index(["control", "layer"])
    assert both.loc[("none", "1"), ["ci_low", "ci_high", "interval"]].tolist() == [0.1, 0.9, "bca_95_speakers"]
    assert both.loc[("none", "0"), ["fold_min", "fold_max", "interval"]].tolist() == [0.5, pytest.approx(0.6), ""]
    assert both.loc["none"][["fold_min", "fold_max", "seed_min", "seed_max"]].notna().all(axis=None)
    assert both.loc[("none", "0"), ["ci_low", "ci_high", "draw_min", "draw_max"]].isna().all()
    assert (
        both.loc["permuted"][["fold_min", "fold_max", "seed_min", "seed_max", "ci_low", "ci_high"]]
        .isna()
        .all(axis=None)
    )
    assert both.loc[("permuted", "1"), ["draw_min", "draw_max", "interval"]].tolist() == [0.5, 0.5, ""]
    assert len(both) == len(table)
