"""Rows of erased embeddings are a table of their own, and change no other, in runs of today and of before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.planted import manifest_of, quick, store

from layerprobe.analysis.study import study
from layerprobe.probe.results.display import best_layers
from layerprobe.probe.results.run_folder import read_predictions, read_run, write_run
from layerprobe.probe.results.score_table import SCORES_PARQUET, is_plain, read_scores
from layerprobe.probe.results.selection import chosen_layers
from layerprobe.probe.sweep.sweep import sweep

N = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("erased"), np.random.default_rng(0)
    embeddings = rng.normal(size=(N, 5, 6)).astype(np.float32)
    manifest = manifest_of(embeddings[:, 2, :2] + 0.5 * rng.normal(size=(N, 2)), folder / "m.csv")
    plan = quick(manifest, weighted_sum_seeds=0)
    return sweep([store(folder / "c.zarr", embeddings)], manifest, plan, out=folder / "run")


@pytest.fixture
def erased(run, tmp_path):
    """The run with every ridge row a second time, with loudness erased, better scores and other predictions."""
    ridge = run.scores[run.scores["probe"] == "ridge"]
    better = ridge.assign(erased="loudness", value=ridge["value"].where(ridge["metric"] != "inner_cv_rmse", 0.0) + 0.01)
    kept = read_predictions(run.path)
    columns = pd.concat([kept.columns, kept.columns.assign(erased="loudness")], ignore_index=True)
    twice = {name: np.hstack([getattr(kept, name), -getattr(kept, name)]) for name in ("prediction", "matched")}
    written = replace(run, scores=pd.concat([run.scores, better], ignore_index=True), path=tmp_path / "erased")
    write_run(written, replace(kept, columns=columns, **twice))
    return read_run(written.path)


def test_erased_rows_change_no_other_table(run, erased):
    plain, both = study(run), study(erased)
    pd.testing.assert_frame_equal(both.scores, plain.scores)
    pd.testing.assert_frame_equal(both.table, plain.table)
    pd.testing.assert_frame_equal(both.permutations, plain.permutations)
    pd.testing.assert_frame_equal(chosen_layers(erased.scores), chosen_layers(run.scores))
    pd.testing.assert_frame_equal(best_layers(erased.scores), best_layers(run.scores))


def test_erased_rows_are_a_table_of_their_own(run, erased):
    assert study(run).erased is None
    tables = study(erased).erased
    assert set(tables.scores["erased"]) == set(tables.predictions.columns["erased"]) == {"loudness"}
    np.testing.assert_array_equal(tables.predictions.prediction, -read_predictions(run.path).prediction)


def test_an_older_run_without_the_column_has_nothing_erased(run, tmp_path):
    table = pq.read_table(run.path / SCORES_PARQUET)
    pq.write_table(table.drop_columns(["erased"]), tmp_path / "old.parquet")
    pd.testing.assert_frame_equal(read_scores(tmp_path / "old.parquet"), run.scores)
    assert is_plain(run.scores.drop(columns="erased")).all()
