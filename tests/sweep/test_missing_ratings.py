"""Targets with missing ratings: each is fitted and scored on its own ratings, as if it were swept alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.checks import objections
from helpers.planted import Log, quick, store
from sklearn.linear_model import Ridge

from layerprobe.analysis.model_comparison import compare
from layerprobe.analysis.runs import read_similarity
from layerprobe.analysis.similarity.compare_layers import compare_layers
from layerprobe.analysis.study import study
from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import POOLED, read_predictions
from layerprobe.probe.solvers.leave_group_out import LEAVE_GROUP_OUT
from layerprobe.probe.splits import Split
from layerprobe.probe.sweep.data.rated_parts import restricted
from layerprobe.probe.sweep.sweep import sweep

SIZE, WIDTH, LAYERS = 84, 4, ("0", "1")
NAMES = ("arousal", "valence", "dominance")
KEYS = ["encoder", "probe", "layer", "target", "control", "baseline", "covariates", "seed", "metric"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Seven speakers; valence has gaps everywhere, dominance none of one speaker, emotion others; u05 has nothing."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("gaps")
    x = rng.normal(size=(SIZE, 2, WIDTH)).astype(np.float32)
    ids = [f"u{i:02d}" for i in range(SIZE)]
    table = pd.DataFrame({"utterance_id": ids, "speaker_id": [f"s{i % 7}" for i in range(SIZE)], "path": "x.wav"})
    for k, name in enumerate(NAMES):
        table[name] = 4 + 0.5 * x[:, k % 2, k] + 0.5 * rng.normal(size=SIZE)
    table["emotion"] = np.where(x[:, 1, 0] > 0, "happy", "sad")
    table.loc[rng.random(SIZE) < 0.25, "valence"] = np.nan
    table.loc[table["speaker_id"] == "s3", "dominance"] = np.nan
    table.loc[rng.random(SIZE) < 0.2, "emotion"] = ""
    table.loc[5, list(NAMES)], table.loc[5, "emotion"] = np.nan, ""
    header = Header(
        "gaps", "1", "none", {t: Target(-100, 100) for t in NAMES}, nominal={"emotion": Nominal(("happy", "sad"))}
    )
    return store(folder / "a.zarr", x, ids=ids, layers=LAYERS), Manifest(folder / "my.csv", header, table)


def swept(corpus, out, manifest=None, **options):
    cache, everything = corpus
    manifest = manifest or everything
    log = Log()
    plan = quick(manifest, folds="speakers", permutations=2, **options)
    plan = replace(plan, inner_selection=LEAVE_GROUP_OUT)  # of seven folds the default, of six, for one target, not
    return sweep([cache], manifest, plan, out=out, jobs=1, progress=log), log.lines


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    return swept(corpus, tmp_path_factory.mktemp("together") / "run", probes=("logistic", "mdl"))


def pooled(run, target):
    rows = run.scores[(run.scores["fold"] == POOLED) & (run.scores["target"] == target)]
    return rows.set_index(KEYS)["value"].sort_index()


@pytest.mark.parametrize("target", ["valence", "dominance", "emotion"])
def test_a_target_with_gaps_has_the_scores_of_a_sweep_of_its_rated_utterances_alone(corpus, run, tmp_path, target):
    """Speakers are held out one by one, so that the folds of a smaller table are the same but for their names."""
    table = corpus[1].table
    rated = table[(table[target] != "") & table[target].notna()].reset_index(drop=True)
    probes = ("logistic",) if target == "emotion" else ("mdl",)
    alone, _ = swept(corpus, tmp_path / "run", replace(corpus[1], table=rated), targets=(target,), probes=probes)
    expected, found = pooled(alone, target), pooled(run[0], target)
    assert len(expected) > 20
    pd.testing.assert_series_equal(found, expected, rtol=2e-4, atol=2e-5)  # sums in another order, in float32


def test_a_residual_takes_the_utterances_that_rate_all_of_its_targets(corpus, run, tmp_path):
    table = corpus[1].table
    rated = table[table[list(NAMES)].notna().all(axis=1)].reset_index(drop=True)
    options = {"targets": NAMES, "weighted_sum_seeds": 0}
    alone, _ = swept(corpus, tmp_path / "run", replace(corpus[1], table=rated), **options)
    expected = pooled(alone, "dominance_residual")
    pd.testing.assert_series_equal(pooled(run[0], "dominance_residual"), expected, rtol=2e-4, atol=2e-5)


def test_predictions_are_those_of_ridge_regression_on_the_rated_utterances(corpus, run):
    (cache, manifest), predictions = corpus, read_predictions(run[0].path)
    x = cache.read_layer("1", np.arange(SIZE)).astype(np.float64)
    order = pd.Index(manifest.table["utterance_id"]).get_indexer(pd.Index(predictions.utterance_id))
    x, y = x[order], predictions.ratings[:, list(predictions.targets).index("valence")]
    where = {"target": "valence", "layer": "1", "probe": "ridge", "control": "none"}
    (column,) = np.flatnonzero((predictions.columns[list(where)] == pd.Series(where)).all(axis=1))
    alphas = run[0].scores.query("metric == 'alpha' and target == 'valence' and layer == '1' and probe == 'ridge'")
    rated = np.isfinite(y)
    assert np.isnan(predictions.prediction[~rated, column]).all()
    for fold, alpha in zip(alphas["fold"], alphas["value"], strict=True):
        train, test = rated & (predictions.fold != fold), rated & (predictions.fold == fold)
        mean, std = x[train].mean(axis=0), x[train].std(axis=0)
        # standardised features have the mean eigenvalue n of their Gram matrix
        ridge = Ridge(alpha * train.sum()).fit((x[train] - mean) / std, y[train])
        expected = ridge.predict((x[test] - mean) / std)
        np.testing.assert_allclose(predictions.prediction[test, column], expected, rtol=1e-5)


def test_a_run_states_how_many_utterances_rate_each_target(corpus, run):
    (_, manifest), (done, lines) = corpus, run
    table, corpus_counts = manifest.table, done.plan["corpus"]
    assert (corpus_counts["n_utterances"], corpus_counts["n_not_rated"]) == (SIZE - 1, 1)
    counts = {row["name"]: row for row in done.plan["target_counts"]}
    assert list(counts) == ["arousal", "valence", "dominance", "dominance_residual", "emotion"]
    n_valence = int(table["valence"].notna().sum())
    expected = {"name": "valence", "n_utterances": n_valence, "n_speakers": 7, "n_not_rated": SIZE - 1 - n_valence}
    assert counts["valence"] == expected
    assert counts["dominance"]["n_speakers"] == 6
    sentence = f"valence: {n_valence} of {SIZE - 1} utterances are rated; it is trained and scored on these."
    assert sentence in lines
    assert not any(line.startswith("arousal") for line in lines)


def test_intervals_of_a_target_count_the_speakers_who_have_ratings_of_it(run):
    shown = study(run[0].path)
    n_speakers = dict(zip(shown.bootstrap.keys["target"], shown.bootstrap.scores.counted.tolist(), strict=True))
    assert (n_speakers["arousal"], n_speakers["dominance"]) == (7, 6)
    pooled_scores = shown.scores.query("fold == 'pooled' and metric == 'ccc_matched' and control == 'none'")
    expected = pooled_scores.query("probe == 'ridge' and baseline == ''").set_index(["target", "layer"])["value"]
    rows = shown.table.query("probe == 'ridge' and control == 'none' and encoder != ''").set_index(["target", "layer"])
    for key, value in expected.items():
        assert rows.loc[key, "value"] == pytest.approx(value)
        assert rows.loc[key, "ci_low"] < value < rows.loc[key, "ci_high"]
    estimates = dict(
        zip(zip(*(shown.bootstrap.keys[k] for k in ("probe", "target", "layer")), strict=True),
            shown.bootstrap.scores.estimate.tolist(), strict=True)
    )  # fmt: skip
    assert estimates["ridge", "valence", "1"] == pytest.approx(expected["valence", "1"], abs=1e-6)
    assert {"valence", "dominance"} <= set(shown.cv_selected["target"])
    assert (shown.bootstrap.keys["layer"] == "cv_selected").sum() == 4
    texts = objections(shown)
    assert any(text.startswith("dominance is scored on 71 of 83 utterances") for text in texts)


def test_a_speaker_and_a_comparison_count_rated_utterances_alone(run):
    shown = study(run[0].path)
    by_speaker = shown.by_speaker
    ratings = pd.DataFrame(shown.predictions.ratings, columns=shown.predictions.targets)
    rated = ratings.notna().groupby(shown.predictions.speaker_id).sum()
    for row in by_speaker.to_dict("records"):
        assert row["n"] == rated.loc[row["speaker_id"], row["target"]] >= 10
    assert "s3" not in set(by_speaker[by_speaker["target"] == "dominance"]["speaker_id"])
    table = compare([run[0].path]).groupby("target")[["n_utterances", "n_speakers"]].first()
    assert table.loc["dominance"].tolist() == [71, 6]
    assert table.loc["arousal"].tolist() == [83, 7]


def test_layers_of_a_run_with_gaps_are_compared_on_the_utterances_that_rate_every_target(run):
    folder = compare_layers(run[0].path).parent
    table = read_similarity(folder, run[0].fingerprint)
    assert table is not None
    assert table.query("measure == 'cka'")["value"].notna().all()


def test_class_scores_leave_out_utterances_without_a_class(run):
    shown = study(run[0].path, metric="uar")
    scores = run[0].scores.query("fold == 'pooled' and metric == 'uar' and control == 'none'")
    expected = scores.set_index(["probe", "layer"])["value"]
    keys = shown.bootstrap.keys[["probe", "layer"]].itertuples(index=False, name=None)
    for key, estimate in zip(keys, shown.bootstrap.scores.estimate, strict=True):
        if key in expected:
            assert estimate == pytest.approx(expected[key])


def test_a_target_that_one_fold_alone_rates_is_refused_by_name(corpus, tmp_path):
    table = corpus[1].table.copy()
    table.loc[table["speaker_id"] != "s1", "valence"] = np.nan
    with pytest.raises(InputError, match=r"leaves speakers with ratings of valence in \d of the \d inner folds"):
        swept(corpus, tmp_path / "run", replace(corpus[1], table=table), targets=("arousal", "valence"))


def test_rows_keep_their_folds_and_a_fold_without_a_rating_is_left_out():
    splits = [
        Split("0", np.array([2, 3, 4, 5]), np.array([0, 1]), np.array([0, 0, 1, 1])),
        Split("1", np.array([0, 1, 4, 5]), np.array([2, 3]), np.array([0, 0, 1, 1])),
    ]
    (found,) = restricted(splits, np.array([0, 3, 4]), 6, "valence")[:1]
    assert (found.train.tolist(), found.test.tolist(), found.inner_folds.tolist()) == ([1, 2], [0], [0, 1])
    with pytest.raises(InputError, match=r"^No held-out utterance has a rating of valence\."):
        restricted([splits[0]], np.array([2, 4]), 6, "valence")
