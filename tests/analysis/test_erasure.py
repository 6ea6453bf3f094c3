"""What a concept removes, by slow arithmetic on predictions; its uncertainty, by hand and in simulations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.erased_run import CONCEPTS, EMPTY, LAYERS, column
from scipy.stats import t as student

from layerprobe.analysis.erasure.removed import COLUMNS, Erased, _fractions, beyond_random, concepts_of, random_names
from layerprobe.analysis.erasure.tables import ERASURE_COLUMNS, chance_p_values, decodable
from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES, resample_speakers
from layerprobe.analysis.statistics.bootstrap_scores import SEED
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.study import study
from layerprobe.probe.metrics import METRICS, r2
from layerprobe.probe.results.run_folder import read_predictions, read_run

REPEATS = [f"random {k} of duration" for k in range(5)]


@pytest.fixture(scope="module")
def kept(without_concepts):
    return read_predictions(without_concepts)


@pytest.fixture(scope="module", params=["pearson", "rmse"])
def found(request, without_concepts):
    return study(without_concepts, metric=request.param)


def ratings(kept, target):
    return kept.ratings[:, kept.targets.tolist().index(target)]


def row_of(table, **keys):
    rows = table
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    (row,) = rows.to_dict("records")
    return row


def test_every_concept_layer_and_target_has_a_row(found):
    table = found.erasure
    assert list(table.columns) == ERASURE_COLUMNS
    assert set(COLUMNS) <= set(table.columns)
    assert table["concept"].unique().tolist() == list(CONCEPTS)
    assert len(table) == len(CONCEPTS) * len(LAYERS) * len(found.targets)
    assert not table.duplicated(["target", "concept", "layer"]).any()


@pytest.mark.parametrize(("target", "layer"), [("arousal", "2"), ("valence", "1"), ("arousal", EMPTY)])
def test_scores_and_differences_are_those_of_the_predictions(found, kept, target, layer):
    metric, truth = METRICS[found.metric], ratings(kept, target)
    plain, erased, *random = (
        metric(truth, column(kept, encoder="hubert", target=target, layer=layer, erased=name))
        for name in ("", "duration", *REPEATS)
    )
    row = row_of(found.erasure, target=target, concept="duration", layer=layer)
    sign = -1 if found.metric == "rmse" else 1  # removed: by how much it is worse
    assert row["n_random"] == len(random)
    for name, value in {
        "plain": plain,
        "erased": erased,
        "random": np.mean(random),
        "random_min": min(random),
        "random_max": max(random),
        "removed": sign * (plain - erased),
        "removed_random": sign * (plain - np.mean(random)),
        "beyond_random": sign * (np.mean(random) - erased),
    }.items():
        assert row[name] == pytest.approx(value, abs=1e-6), name


def test_a_fraction_is_of_r2_and_not_of_noise(found, kept):
    table, truth = found.erasure, ratings(kept, "arousal")
    plain, erased, *random = (
        r2(truth, column(kept, encoder="hubert", target="arousal", layer="2", erased=name))
        for name in ("", "duration", *REPEATS)
    )
    row = row_of(table, target="arousal", concept="duration", layer="2")
    assert row["plain_r2"] == pytest.approx(plain, abs=1e-6)
    assert row["fraction"] == pytest.approx(1 - erased / plain, abs=1e-6)
    assert row["fraction_random"] == pytest.approx(1 - np.mean(random) / plain, abs=1e-6)
    assert row["fraction_ci_low"] < row["fraction"] < row["fraction_ci_high"]
    chance = table[table["layer"] == EMPTY]
    assert not chance["is_above_chance"].any()
    assert chance[["fraction", "fraction_ci_low", "fraction_ci_high", "fraction_random"]].isna().all(axis=None)
    assert table[table["target"].isin(["arousal", "valence"]) & (table["layer"] != EMPTY)]["is_above_chance"].all()


def test_differences_are_paired_over_resamples_of_the_speakers(without_concepts, kept):
    of = study(without_concepts, metric="rmse")
    truth, groups = ratings(kept, "arousal"), np.unique(kept.speaker_id, return_inverse=True)[1]
    plain, erased = (
        column(kept, encoder="hubert", target="arousal", layer="2", erased=name) for name in ("", "duration")
    )
    counts = resample_speakers(24, n_resamples=N_RESAMPLES, rng=np.random.default_rng(SEED))
    removed = []
    for times in counts:
        rows = np.concatenate([np.repeat(np.flatnonzero(groups == g), int(n)) for g, n in enumerate(times)])
        removed.append(METRICS["rmse"](truth[rows], erased[rows]) - METRICS["rmse"](truth[rows], plain[rows]))
    row = row_of(of.erasure, target="arousal", concept="duration", layer="2")
    low, high = np.quantile(removed, student.cdf([-2.5, 2.5], 1e9))
    assert low < row["removed_ci_low"] < np.quantile(removed, 0.1)  # BCa with expanded percentiles, by about as much
    assert np.quantile(removed, 0.9) < row["removed_ci_high"] < high


def test_what_is_planted_is_found_and_what_is_not_is_not(found):
    table = found.erasure
    layers = table["layer"] != EMPTY
    of_arousal = table[(table["target"] == "arousal") & layers]
    of_concept = of_arousal["concept"].str.contains("duration")
    assert (of_arousal.loc[of_concept, "fraction"] > 0.95).all()
    assert (of_arousal.loc[of_arousal["concept"] == "duration", "p_adjusted"] <= 0.05).all()
    assert (of_arousal.loc[~of_concept, "fraction"] < 0.1).all()
    of_valence = table[(table["target"] == "valence") & layers]
    assert (of_valence["fraction"] < 0.1).all()
    assert not ((of_valence["p_adjusted"] <= 0.05) & (of_valence["beyond_random"] > 0)).any()


def test_concepts_alone_and_what_is_left_of_them_are_in_the_table(found, without_concepts, kept):
    scores = read_run(without_concepts).scores
    alone = METRICS[found.metric](
        ratings(kept, "arousal"),
        column(kept, encoder="", target="arousal", layer="", baseline="concept_only", erased="duration"),
    )
    rows = found.erasure[(found.erasure["concept"] == "duration") & (found.erasure["target"] == "arousal")]
    assert rows["concept_alone"].tolist() == pytest.approx([alone] * len(LAYERS), abs=1e-6)
    pooled = scores[(scores["fold"] == "pooled") & (scores["layer"] == "2") & (scores["erased"] == "duration+gender")]
    row = row_of(found.erasure, target="valence", concept="duration+gender", layer="2")
    for name in ("concept_r_before", "concept_r", "concept_r_refit", "concept_rank"):
        values = pooled[pooled["metric"] == name]["value"]
        assert len(values) == 2  # of duration and of gender
        assert row[name] == values.max()
    assert row["concept_r_before"] > 0.5
    assert row["concept_r"] <= 0.02
    assert row["concept_rank"] == 2


def test_classes_have_scores_but_no_fraction(without_concepts):
    table = study(without_concepts, metric="uar").erasure
    assert set(table["target"]) == {"emotion"}
    row = row_of(table, concept="duration", layer="2")
    assert row["removed"] > 0.2
    assert row["is_above_chance"]
    assert np.isnan(row["fraction"])


def test_a_run_without_erasures_has_an_empty_table(reported):
    table = study(reported).erasure
    assert table.empty
    assert list(table.columns) == ERASURE_COLUMNS


def test_names_of_random_directions_are_ordered_by_their_number():
    names = [f"random {k} of a+b" for k in (10, 2, 0)]
    keys = pd.DataFrame({"erased": ["", "a+b", "a", *names, "random 1 of a"]})
    assert concepts_of(keys) == ["a+b", "a"]
    assert random_names(keys, "a+b") == names[::-1]
    assert random_names(keys, "a") == ["random 1 of a"]


def test_too_few_permutations_judge_no_layer():
    table = pd.DataFrame({"encoder": "e", "target": ["t", "u"], "layer": "0", "p_permutation": [0.05, 0.1]})
    assert chance_p_values(table.assign(n_permutations=[19, 9])) == {("e", "t", "0"): 0.05}


def test_the_best_decoded_of_several_concepts_counts():
    rows = [
        {
            "encoder": "e",
            "layer": "0",
            "erased": "a+b",
            "target": target,
            "fold": fold,
            "metric": "concept_r",
            "value": r,
        }
        for target, fold, r in (("a", "pooled", 0.01), ("b", "pooled", 0.3), ("b", "0", 0.9))
    ]
    (row,) = decodable(pd.DataFrame(rows)).to_dict("records")
    assert (row["concept"], row["concept_r"]) == ("a+b", 0.3)
    assert np.isnan(row["concept_r_refit"])


def sample_of(estimate, rng, *, error, n_speakers=20, n_resamples=2000):
    """A score of one layer whose resamples and jackknife have a standard error."""
    resamples = estimate + error * rng.normal(size=(n_resamples, 1))
    left_out = estimate + error * np.linspace(-1, 1, n_speakers)[:, None] / n_speakers
    return BootstrapSample(np.array([estimate]), resamples, left_out)


def shifted(sample, by):
    return replace(
        sample, estimate=sample.estimate + by, resamples=sample.resamples + by, left_out=sample.left_out + by
    )


@pytest.mark.parametrize(("error", "is_known"), [(0.005, True), (0.01, False)])
def test_a_fraction_of_an_r2_that_is_not_three_errors_above_0_is_not_known(rng, error, is_known):
    plain = sample_of(0.025, rng, error=error)
    erased = sample_of(0.01, rng, error=error)
    found = _fractions(Erased(plain, erased, (erased,) * 5), [0.01])
    assert np.isfinite(found["fraction"]).all() == np.isfinite(found["fraction_ci_low"]).all() == is_known
    assert found["is_above_chance"].all()


def test_the_variance_over_random_directions_adds_to_that_over_speakers(rng):
    base = sample_of(0.5, rng, error=0.01)
    random = tuple(shifted(base, by) for by in (0.03, -0.03, 0.0, 0.01, -0.01))
    erased = sample_of(0.4, rng, error=0.01)
    found = beyond_random(Erased(base, erased, random))
    of_repeats = np.var([0.03, -0.03, 0.0, 0.01, -0.01], ddof=1) * 1.2  # 1 + 1 / 5
    of_speakers = np.var(base.resamples - erased.resamples)
    assert found.estimate[0] == pytest.approx(0.1)
    assert found.resamples.std() ** 2 == pytest.approx(of_repeats + of_speakers, rel=0.1)
    freedom = (of_repeats + of_speakers) ** 2 / (of_speakers**2 / 19 + of_repeats**2 / 4)
    assert found.counted[0] == pytest.approx(1 + freedom, rel=1e-6)


def test_random_directions_that_are_alike_leave_the_variance_over_speakers(rng):
    base, erased = sample_of(0.5, rng, error=0.01), sample_of(0.4, rng, error=0.02)
    found = beyond_random(Erased(base, erased, (base,) * 5))
    np.testing.assert_allclose(found.resamples, base.resamples - erased.resamples)
    assert found.counted[0] == pytest.approx(20)


def test_one_repeat_of_random_directions_is_no_test(rng):
    base = sample_of(0.5, rng, error=0.01)
    found = beyond_random(Erased(base, sample_of(0.1, rng, error=0.01), (base,))).one()
    assert found.estimate == pytest.approx(0.4)
    assert np.isnan([found.ci_low, found.p_value]).all()


def test_a_concept_that_is_one_more_random_direction_differs_at_its_rate():
    rng, n, rejected, by_speakers_alone = np.random.default_rng(0), 300, 0, 0
    for _ in range(n):
        base = sample_of(0.5, rng, error=0.002, n_resamples=400)
        *repeats, concept = (shifted(base, by) for by in 0.02 * rng.normal(size=6))
        noisy = replace(concept, resamples=concept.resamples + 0.001 * rng.normal(size=(400, 1)))
        scores = Erased(base, noisy, tuple(repeats))
        rejected += beyond_random(scores).one().p_value <= 0.05
        by_speakers_alone += (scores.random_mean - scores.erased).one().p_value <= 0.05
    assert rejected / n <= 0.08  # .05 and three standard errors of 300 corpora are .088
    assert by_speakers_alone / n > 0.5
