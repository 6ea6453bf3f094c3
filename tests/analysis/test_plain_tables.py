"""Tables of whole utterances and of spans in time are kept separate, in runs of today and of before."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.planted import manifest_of, quick, store

from layerprobe.analysis.runs import read_side_by_side
from layerprobe.analysis.study import study
from layerprobe.probe.results.display import best_layers
from layerprobe.probe.results.run_files import PREDICTIONS, describe_file, read_files, write_plan
from layerprobe.probe.results.run_folder import Predictions, read_predictions, read_run, write_run
from layerprobe.probe.results.score_table import SCORES_PARQUET, is_plain, read_scores
from layerprobe.probe.results.selection import chosen_layers
from layerprobe.probe.sweep.sweep import sweep

N = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("plain"), np.random.default_rng(0)
    embeddings = rng.normal(size=(N, 5, 6)).astype(np.float32)
    ratings = embeddings[:, 2, :2] + 0.5 * rng.normal(size=(N, 2))
    manifest = manifest_of(ratings, folder / "m.csv")
    plan = quick(manifest, weighted_sum_seeds=0)
    return sweep([store(folder / "c.zarr", embeddings)], manifest, plan, out=folder / "run")


def with_bins(run, folder):
    """Write the run with every ridge row a second time as one of a bin, with better scores and other predictions."""
    ridge = run.scores[run.scores["probe"] == "ridge"]
    better = ridge.assign(bin="0.0–0.5", value=ridge["value"].where(ridge["metric"] != "inner_cv_rmse", 0.0) + 0.01)
    kept = read_predictions(run.path)
    columns = pd.concat([kept.columns, kept.columns.assign(bin="0.0–0.5")], ignore_index=True)
    twice = {
        name: np.concatenate([getattr(kept, name), -getattr(kept, name)], axis=1) for name in ("prediction", "matched")
    }
    both: Predictions = replace(kept, columns=columns, **twice)
    written = replace(run, scores=pd.concat([run.scores, better], ignore_index=True), path=folder / "binned")
    write_run(written, both)
    return read_run(written.path)


def test_rows_of_bins_change_no_table_of_whole_utterances(run, tmp_path):
    binned = with_bins(run, tmp_path)
    plain, both = study(run), study(binned)
    pd.testing.assert_frame_equal(both.scores, plain.scores)
    pd.testing.assert_frame_equal(both.table, plain.table)
    pd.testing.assert_frame_equal(both.permutations, plain.permutations)
    pd.testing.assert_frame_equal(chosen_layers(binned.scores), chosen_layers(run.scores))
    pd.testing.assert_frame_equal(best_layers(binned.scores), best_layers(run.scores))


def test_rows_of_bins_are_a_table_of_their_own(run, tmp_path):
    binned = with_bins(run, tmp_path)
    assert study(run).bins is None
    bins = study(binned).bins
    assert set(bins.scores["bin"]) == set(bins.predictions.columns["bin"]) == {"0.0–0.5"}
    assert len(bins.scores) + len(run.scores) == len(binned.scores)
    np.testing.assert_array_equal(bins.predictions.prediction, -read_predictions(run.path).prediction)


def test_an_older_run_without_the_column_reads_as_whole_utterances(run, tmp_path):
    table = pq.read_table(run.path / SCORES_PARQUET)
    pq.write_table(table.drop_columns(["bin"]), tmp_path / "old.parquet")
    pd.testing.assert_frame_equal(read_scores(tmp_path / "old.parquet"), run.scores)
    assert is_plain(run.scores.drop(columns="bin")).all()


def test_older_predictions_without_the_column_read_as_whole_utterances(run, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(run.path, folder)
    with np.load(folder / PREDICTIONS) as file:
        older = {name: file[name] for name in file if name != "column_bin"}
    np.savez(folder / PREDICTIONS, **older)
    files = [f for f in read_files(folder, run.fingerprint).values() if f.name != PREDICTIONS]
    files.append(describe_file(folder / PREDICTIONS, rows=N))
    write_plan(folder, run.plan, run.fingerprint, files)
    old = read_predictions(folder)
    pd.testing.assert_frame_equal(old.columns, read_predictions(run.path).columns, check_dtype=False)
    assert set(old.columns["bin"]) == {""}


def test_side_by_side_names_encoders_of_bins_as_those_of_whole_utterances(run, tmp_path):
    binned = with_bins(run, tmp_path)
    joined = read_side_by_side([binned.path, binned.path], [binned, replace(binned)])
    assert list(dict.fromkeys(joined.bins.scores["encoder"])) == list(joined.layers)
