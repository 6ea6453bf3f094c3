"""Score against cost: fronts against brute force, joint best sets, and runs of sweeps, fusions and trainings."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import DIM, N_LAYERS, N, manifest_of, store

from layerprobe.analysis.cost.candidates import read_candidates
from layerprobe.analysis.cost.compare import cost
from layerprobe.analysis.cost.file import COST, cost_path, read_cost, write_cost
from layerprobe.analysis.cost.front import front_rate, pareto_front
from layerprobe.analysis.cost.sentences import cost_sentences
from layerprobe.analysis.cost.table import COLUMNS, cost_table
from layerprobe.analysis.layers.sufficient import sufficient_layers
from layerprobe.analysis.statistics.best_set import behind_at_most, best_set
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.study import study
from layerprobe.probe.cost.encoders import EncoderCost
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

MEASURED = {"seconds": 10, "threads": 1, "processor": "abacus"}


def brute_force(scores, costs):
    """Whether no other candidate is at least as good in both and better in one, by a loop over all pairs."""
    n, on = len(scores), []
    for i in range(n):
        known = np.isfinite(scores[i]) and np.isfinite(costs[i])
        beaten = any(
            costs[j] <= costs[i] and scores[j] >= scores[i] and (costs[j] < costs[i] or scores[j] > scores[i])
            for j in range(n)
        )
        on.append(known and not beaten)
    return on


def test_the_front_is_that_of_a_loop_over_all_pairs(rng):
    for _ in range(300):
        n = int(rng.integers(1, 12))
        scores = rng.integers(0, 6, size=(3, n)) / 5  # with ties in both
        costs = rng.integers(1, 6, size=n).astype(float)
        scores[rng.random(scores.shape) < 0.1] = np.nan
        costs[rng.random(n) < 0.1] = np.nan
        found = pareto_front(scores, costs)
        for row, own in zip(scores, found, strict=True):
            assert own.tolist() == brute_force(row, costs)


def test_the_rate_is_the_fraction_of_resamples_and_an_error_is_turned_around(rng):
    resamples, costs = rng.normal(size=(50, 4)), np.array([1.0, 2.0, 3.0, np.nan])
    sample = BootstrapSample(resamples[0], resamples, resamples[:5])
    expected = np.mean([brute_force(row, costs) for row in resamples], axis=0)
    np.testing.assert_allclose(front_rate(sample, costs), expected)
    np.testing.assert_allclose(front_rate(sample.map(np.negative), costs, lower_is_better=True), expected)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Arousal in layer 1 and, with more noise, in layer 0; valence in layer 3; another encoder in another run."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("cost")
    x = rng.normal(size=(N, N_LAYERS, DIM))
    x[:, 0] = x[:, 1] + 0.05 * rng.normal(size=(N, DIM))
    ratings = np.stack([x[:, k] @ rng.normal(size=DIM) for k in (1, 3)], axis=1)
    manifest = manifest_of(ratings + 0.8 * rng.normal(size=ratings.shape), root / "my.csv")
    plan = replace(plan_sweep(manifest, permutations=1, weighted_sum_seeds=1), mix_iterations=5)
    first = store(root / "a.zarr", x, upstream="first")
    other = store(root / "b.zarr", x + 0.1 * rng.normal(size=x.shape), upstream="other")
    sweep([first], manifest, plan, out=root / "first")
    sweep([other], manifest, plan, out=root / "second")
    sweep([first, other], manifest, replace(plan, fused=True), out=root / "fused")
    return root


def costs_of(names, *, unknown=()):
    """Layer k of each encoder costs k + 1; the second encoder costs ten times as much."""
    found = {}
    for n, name in enumerate(names):
        layers = tuple(map(str, range(N_LAYERS)))
        k = np.arange(1.0, N_LAYERS + 1) * 10**n
        values = [np.full(N_LAYERS, np.nan)] * 3 if name in unknown else [1e9 * k, 1e6 * k, 1e-3 * k]
        found[name] = EncoderCost(layers, *values, reason=f"{name} is gone." if name in unknown else "")
    return found


def table_of(folders, *, by="multiply_adds", unknown=(), metric=None):
    candidates = read_candidates(folders, metric)
    return cost_table(candidates, costs_of(candidates.origins, unknown=unknown), by=by, measured=MEASURED)


def row_of(table, **keys):
    for name, value in keys.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


def test_one_run_has_each_layer_and_mix_with_the_scores_and_sets_of_its_study(runs):
    table = table_of([runs / "first"])
    assert list(table) == COLUMNS
    assert len(table) == 2 * (N_LAYERS + 2)
    read = study(runs / "first")
    merged = table.merge(read.table, on=["encoder", "probe", "layer", "target"], suffixes=("", "_study"))
    merged = merged[merged["control"] == "none"]
    assert len(merged) == len(table)
    np.testing.assert_allclose(merged["value"], merged["value_study"], atol=1e-9)
    np.testing.assert_array_equal(merged["ci_low"], merged["ci_low_study"])
    for target, one in sufficient_layers(read, "first").items():
        assert row_of(table, is_smallest_layer=True, target=target)["layer"] == one.layer


def test_layers_mixes_and_heads_cost_what_they_need(runs):
    table = table_of([runs / "first"])
    one = row_of(table, layer="2", target="arousal")
    assert (one["multiply_adds"], one["real_time_factor"], one["needs"]) == (3e9, 3e-3, "first 2")
    assert one["parameters"] == 3e6 + DIM + 1
    mix = row_of(table, probe="weighted_sum", target="arousal")
    assert (mix["multiply_adds"], mix["parameters"]) == (5e9, 5e6 + DIM + 1 + N_LAYERS)


def test_the_best_set_is_joint_over_all_candidates_of_all_runs(runs):
    table = table_of([runs / "first", runs / "second"])
    candidates = read_candidates([runs / "first", runs / "second"])
    assert set(table["encoder"]) == {"first", "other"}
    for target, rows in table.groupby("target"):
        assert len(rows) == 2 * (N_LAYERS + 2)
        assert set(rows["n_candidates"]) == {len(rows)}
        keys = candidates.bootstrap.keys
        scores = candidates.bootstrap.scores[np.flatnonzero(keys["target"] == target)]
        expected = best_set(scores)
        np.testing.assert_array_equal(rows["p_not_best"], expected.p_not_best)
        np.testing.assert_array_equal(rows["behind_at_most"], behind_at_most(scores))
        inside = rows[expected.is_in]
        (cheapest,) = rows[rows["is_cheapest"]].index
        assert cheapest == inside["multiply_adds"].idxmin()
        assert rows["behind_best"].min() == 0
        assert rows["on_front_multiply_adds"].tolist() == brute_force(
            rows["value"].to_numpy(), rows["multiply_adds"].to_numpy()
        )
    assert row_of(table, is_cheapest=True, target="arousal")["layer"] == "0"
    assert row_of(table, is_cheapest=True, target="valence")["layer"] == "3"


def test_a_fused_run_sums_its_encoders_at_the_layers_that_most_folds_selected(runs):
    table = table_of([runs / "fused"])
    weighted = row_of(table, probe="fused_weighted_sum", target="valence")
    assert weighted["needs"] == "first all + other all"
    assert weighted["multiply_adds"] == 5e9 + 50e9
    assert weighted["parameters"] == 55e6 + 1 + 2 * DIM + 2 * N_LAYERS
    ridge = row_of(table, probe="fused_ridge", target="valence")
    selected = study(runs / "fused").cv_selected
    for name, factor in (("first", 1), ("other", 10)):
        folds = selected[(selected["encoder"] == name) & (selected["target"] == "valence")]["layer"]
        most = folds.value_counts()
        assert set(most.index) == {"3"}
        assert f"{name} 3" in ridge["needs"]
        assert factor in (1, 10)
    assert ridge["multiply_adds"] == 4e9 + 40e9


def test_the_fused_run_after_another_keeps_its_fusion_and_a_name_of_its_own(runs):
    table = table_of([runs / "first", runs / "fused"])
    assert set(table["encoder"]) == {"first", "first (fused)", "other", "first + other"}
    assert len(table[table["probe"] == "fused_ridge"]) == 2


def test_an_unknown_cost_stays_in_the_table_and_is_stated(runs):
    table = table_of([runs / "first", runs / "second"], unknown=("first",))
    rows = table[table["encoder"] == "first"]
    assert len(rows) == 2 * (N_LAYERS + 2)
    assert rows["multiply_adds"].isna().all()
    assert not rows["on_front_multiply_adds"].any()
    assert set(rows["reason"]) == {"first is gone."}
    cheapest = table[table["is_cheapest"]]
    assert set(cheapest["encoder"]) <= {"other"}
    text = "\n".join(cost_sentences(table))
    assert "first is gone." in text
    assert "with unknown multiply-adds per second of audio" in text


def test_the_sentence_states_the_numbers_of_the_table(runs):
    table = table_of([runs / "first", runs / "second"])
    row = row_of(table, is_cheapest=True, target="arousal")
    sentence = cost_sentences(table)[0]
    start = f"arousal: layer 0 of first ({row['value']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}], 1.0 G "
    assert sentence.startswith(start + "multiply-adds per second, 1.0 M parameters, RTF .001) is the cheapest of 14 ")
    assert f"difference {row['behind_best']:.2f}, at most {row['behind_at_most']:.2f})" in sentence
    assert "Not significantly worse is not equal" in "\n".join(cost_sentences(table))


def test_another_cost_and_an_error_choose_by_themselves(runs):
    table = table_of([runs / "first"], by="real_time_factor", metric="rmse")
    for _, rows in table.groupby("target"):
        inside = rows[rows["in_best_set"].astype(bool)]
        assert rows["is_cheapest"].idxmax() == inside["real_time_factor"].idxmin()
        assert rows.loc[rows["behind_best"].idxmin(), "value"] == rows["value"].min()
    with pytest.raises(InputError, match="cost 'flops' is unknown; choose one of multiply_adds, "):
        table_of([runs / "first"], by="flops")


def test_the_file_is_read_as_it_was_written_and_only_for_its_run(runs, tmp_path):
    table, path = table_of([runs / "first"]), cost_path(tmp_path, [runs / "first"])
    assert path.name == f"{COST}.csv"
    assert read_cost(path, "a" * 12) is None
    write_cost(table, path, fingerprint="a" * 12)
    pd.testing.assert_frame_equal(read_cost(path, "a" * 12), table, check_dtype=False)
    with pytest.raises(InputError, match="belongs to another run"):
        read_cost(path, "b" * 12)
    text = path.read_text()
    for damaged in (text[:-30], text.replace("multiply_adds", "macs", 1), "no table"):
        path.write_text(damaged)
        with pytest.raises(InputError, match="Make it anew with layerprobe cost"):
            read_cost(path, "a" * 12)
    path.write_text(text.replace(f"{'a' * 12},1", f"{'a' * 12},9"))
    with pytest.raises(InputError, match="has format version 9"):
        read_cost(path, "a" * 12)


def test_the_caches_encoder_is_found_where_a_user_names_it(runs, folders):
    """The stored encoders have layers like a small HuBERT with one block more."""
    found = cost(runs / "first", benchmark=False)
    assert found["reason"].str.contains("whose path is not recorded. Name its folder by --encoder first=FOLDER.").all()
    named = cost(runs / "first", benchmark=False, folders={"first": folders["hubert"]})
    assert named["reason"].str.contains("has the layers 0 to 3, and first in the run 0 to 4").all()
    with pytest.raises(InputError, match="no encoder of the runs is called 'third'; choose one of first"):
        cost(runs / "first", folders={"third": folders["hubert"]})
    with pytest.raises(InputError, match=r"^No run folder was given"):
        cost([])


def test_runs_on_other_ratings_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        cost(tmp_path)
    copy = shutil.copytree(runs / "first", tmp_path / "copy")
    assert read_run(copy).fingerprint == read_run(runs / "first").fingerprint
    assert set(table_of([runs / "first", copy])["encoder"]) == {"first", "first (copy)"}
