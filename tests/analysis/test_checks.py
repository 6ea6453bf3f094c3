"""The checks of a study: each has a code, a page, and an outcome that follows from the numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.checks import objections
from scipy.stats import chi2

from layerprobe.analysis.checks.probes import heterogeneity
from layerprobe.analysis.checks.records import STATES
from layerprobe.analysis.checks.run import CHECKS, run_checks
from layerprobe.analysis.checks.utterances import check_classes, check_dominant_speaker, check_values
from layerprobe.analysis.statistics.permutation import holm, least_adjusted_p, max_statistic_p
from layerprobe.analysis.study import study
from layerprobe.probe.code_pages import read_page
from layerprobe.probe.results.run_folder import Predictions

SWEEP = {"speakers": True, "nominal": ["emotion"], "classes": [["calm", "fear"]]}


@pytest.fixture(scope="module")
def shown(reported):
    return study([reported])


def with_plan(shown, **tables):
    """The study with other values in tables of its plan."""
    plan = shown.runs[0].plan
    changed = {k: {**plan[k], **v} if isinstance(v, dict) and k in plan else v for k, v in tables.items()}
    return replace(shown, runs=[replace(shown.runs[0], plan={**plan, **changed})])


def state_of(shown, code):
    (state,) = {outcome.state for outcome in CHECKS[code](shown)}
    return state


def test_every_check_is_run_under_the_title_of_its_page(shown):
    found = run_checks(shown)
    assert {c.code for c in found} == set(CHECKS)
    assert [STATES.index(c.state) for c in found] == sorted(STATES.index(c.state) for c in found)
    for c in found:
        assert re.fullmatch(r"LP\d{3}", c.code)
        assert c.title == read_page(c.code).title
        assert c.sentence.endswith(".")
        assert bool(c.advice) == (c.state in ("issue", "tip"))
        assert not re.search(r"\bnan\b", c.sentence + c.advice)
    assert {c.state for c in found} == set(STATES)


@pytest.mark.parametrize(
    ("code", "passes", "fails", "text"),
    [
        ("LP002", {}, {"encoders": [{"name": "e", "random_init": 1, "layers": ["0"]}]}, "The weights of e are untr"),
        ("LP003", {}, {"sweep": {"speakers": False}}, "No speakers were given: "),
        ("LP004", {"corpus": {"n_speakers": 20}}, {"corpus": {"n_speakers": 19}}, "Only 19 speakers: "),
        (
            "LP009",
            {"folds": [{"n_test_utterances": n, "n_test_speakers": 5, "n_train_utterances": 90} for n in (20, 40)]},
            {"folds": [{"n_test_utterances": n, "n_test_speakers": 5, "n_train_utterances": 90} for n in (20, 41)]},
            "The folds are unbalanced: they hold out 20 to 41 utterances",
        ),
        ("LP012", {"sweep": {"alphas": [-1.0, -2.0]}}, {"sweep": {"alphas": [-1.0, 1.0]}}, "Alpha lies at the upper"),
        (
            "LP013",
            {"folds": [{"n_test_utterances": 9, "n_test_speakers": 5, "n_train_utterances": n} for n in (7, 6)]},
            {"folds": [{"n_test_utterances": 9, "n_test_speakers": 5, "n_train_utterances": n} for n in (7, 5)]},
            "Layers of hubert have 6 features (mean), and the smallest training set has 5 utterances: with fewer",
        ),
        ("LP019", {}, {"corpus": {"n_not_cached": 3}}, "3 utterances of the manifest were left out: not in the cache."),
    ],
)
def test_a_check_fails_beyond_its_bound_and_passes_at_it(shown, code, passes, fails, text):
    assert state_of(with_plan(shown, **passes), code) == "passed"
    sentences = objections(with_plan(shown, **fails), code)
    assert sentences
    assert sentences[-1].startswith(text)


def test_folds_of_one_speaker_each_are_as_large_as_these(shown):
    folds = [{"n_test_utterances": n, "n_test_speakers": 1, "n_train_utterances": 90} for n in (10, 90)]
    for n_units, state in ((2, "not applicable"), (3, "issue")):
        assert state_of(with_plan(shown, folds=folds, held_out={"n_units": n_units}), "LP009") == state


def test_a_target_that_few_rate_has_fewer_training_rows(shown):
    folds = [{"n_test_utterances": 60, "n_test_speakers": 5, "n_train_utterances": 180}]
    for n, state in ((8, "passed"), (7, "issue")):  # of 240 rated utterances 8 leave 6 for training
        counts = [{"name": "valence", "n_utterances": n, "n_speakers": 5, "n_not_rated": 240 - n}]
        assert state_of(with_plan(shown, folds=folds, target_counts=counts), "LP013") == state


def test_permutations_are_enough_if_the_best_of_all_tests_can_be_significant(shown):
    # the least p of 3 tests is 1 / (n + 1), and Holm multiplies it by 3: 60 is the least n + 1 that reaches .05
    for n, reaches in ((59, True), (58, False)):
        p = max_statistic_p(np.array([2.0]), np.zeros((n, 1)))
        assert least_adjusted_p(n, 3) == pytest.approx(holm(np.repeat(p, 3))[0])
        assert (least_adjusted_p(n, 3) <= 0.05) == reaches
    n_tests = len(shown.permutations[["encoder", "target"]].drop_duplicates())
    (found,) = [c for c in run_checks(shown) if c.code == "LP014"]
    assert (found.state, n_tests) == ("issue", 7)
    assert f"corrected for {n_tests} pairs of encoder and target, can be below {n_tests / 20:.2f}." in found.sentence
    assert found.advice == f"Sweep with --permutations {20 * n_tests - 1} or more."


def ratings_of(shown, dominance):
    own = shown.predictions
    ratings = own.ratings.copy()
    ratings[:, own.targets.tolist().index("dominance")] = dominance
    return replace(shown, predictions=replace(own, ratings=ratings))


def test_a_target_repeats_another_where_r_is_above_the_root_of_one_half(shown):
    own = shown.predictions
    arousal = own.ratings[:, own.targets.tolist().index("arousal")]
    z = (arousal - arousal.mean()) / arousal.std()
    other = np.random.default_rng(0).normal(size=len(z))
    other -= other.mean() + z * (z @ other) / len(z)
    other /= other.std()
    for r, n in ((0.52, 0), (0.70, 0), (0.72, 1), (-0.72, 1)):
        found = objections(ratings_of(shown, r * z + np.sqrt(1 - r * r) * other), "LP018")
        assert len(found) == n
        assert all(f"(r = {r:.2f}".replace("-", "−") in text for text in found)
    assert "52 % of the variance" in found[0]


def test_the_scale_of_layers_is_read_from_the_cache(tmp_path, shown):
    from helpers.planted import store

    x = np.random.default_rng(0).normal(size=(30, 5, 6))
    for factor, n in ((9.0, 0), (11.0, 1)):
        x[:, 3] = factor * x[:, 1]
        cache = store(tmp_path / f"{factor}.zarr", np.where(np.arange(5)[:, None] == 3, x, x[:, [1]]))
        encoder = {**shown.runs[0].plan["encoders"][0], "path": str(cache.path), "name": "e"}
        own = with_plan(shown, encoders=[{**encoder, "fingerprint": cache.plan.fingerprint()}])
        found = objections(own, "LP016")
        assert len(found) == n
        assert state_of(with_plan(shown, encoders=[encoder | {"fingerprint": "another"}]), "LP016") == "not applicable"
    assert found[0].startswith("Embeddings of layer 3 of e are 11 times as large as those of layer 0; ")


def test_folds_differ_where_they_vary_more_than_the_speakers_explain():
    # by hand: interval of ±.196 over 4 folds, so the standard error of all is .1, and that of a fold .2
    scores = np.array([0.2, 0.4, 0.6, 0.8])
    assert heterogeneity(scores, 2 * 0.19599639845) == pytest.approx(chi2.sf(0.2 / 0.04, 3))
    assert np.isnan(heterogeneity(scores[:1], 0.4))
    assert np.isnan(heterogeneity(scores, float("nan")))


def test_scores_of_a_fold_that_is_harder_than_the_others_are_named(shown):
    assert objections(shown, "LP017") == []
    scores = shown.scores.copy()
    own = (scores["metric"] == shown.metric) & (scores["fold"] == "2") & (scores["target"] == "arousal")
    scores.loc[own & (scores["control"] == "none"), "value"] = -0.5
    (text,) = objections(replace(shown, scores=scores), "LP017")
    assert text.startswith("For arousal, scores of layer 1 of hubert depend on the fold: −0.50 (fold 2) to ")
    assert text.endswith("more than the speakers of a fold explain (Cochran's Q, p < .001).")


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


def one(outcomes):
    (outcome,) = outcomes
    return outcome


def test_an_even_corpus_passes(even):
    assert one(check_dominant_speaker(even.speaker_id, speakers=True)).state == "passed"
    assert one(check_classes(even, SWEEP)).state == "passed"
    assert one(check_values(even)).state == "passed"


@pytest.mark.parametrize(
    ("speakers", "state"),
    [
        (["s1"] * 4 + ["s2", "s2", "s3", "s3"], "passed"),
        (["s1"] * 5 + ["s2", "s2", "s3"], "issue"),
        (["Unknown"] * 6 + ["s2", "s3"], "passed"),  # each a speaker of its own
        (["s1"] * 8, "not applicable"),
    ],
)
def test_a_speaker_of_more_than_half_of_the_utterances_is_named(speakers, state):
    found = one(check_dominant_speaker(np.array(speakers), speakers=True))
    assert found.state == state
    assert found.sentence.startswith("Speaker s1 spoke 5 of the 8 held-out utterances") == (state == "issue")
    assert one(check_dominant_speaker(np.array(speakers), speakers=False)).state == "not applicable"


def test_a_class_of_one_speaker_alone_is_named(even):
    found = one(check_classes(rated(even, "emotion", [0, 1, 0, 0, 0, 0, 0, 0]), SWEEP))
    assert found.sentence.startswith("Class 'fear' of emotion has 1 held-out utterance, all of speaker s1")
    assert one(check_classes(rated(even, "emotion", 0), SWEEP)).state == "passed"
    assert one(check_classes(even, SWEEP | {"speakers": False})).state == "not applicable"


@pytest.mark.parametrize("values", [[3, 3, 3, 3, 1, 2, 3, 4], [np.nan, 5, np.nan, np.nan, 1, 2, 3, 4]])
def test_a_fold_in_which_a_target_has_one_value_is_named(even, values):
    found = one(check_values(rated(even, "arousal", values)))
    assert found.sentence.startswith(
        "Arousal has fewer than two different values in the held-out utterances of fold 1, where "
    )
    assert one(check_values(rated(even, "arousal", [np.nan, 5, 4, np.nan, 1, 2, 3, 4]))).state == "passed"
