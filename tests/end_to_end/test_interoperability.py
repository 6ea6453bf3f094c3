"""What a run leaves behind opens in other libraries, with the same numbers and without warnings of theirs."""

from __future__ import annotations

import json
import tomllib
import warnings

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.results.run_folder import CONDITIONS, SCORE_COLUMNS, read_run

LAYER = "3"


@pytest.fixture(scope="module")
def cache(folders, ten_voices, tmp_path_factory):
    path = tmp_path_factory.mktemp("caches") / "hubert.zarr"
    return extract(ten_voices, load_encoder(str(folders["hubert"]), precision="float32"), path)


@pytest.fixture(scope="module")
def scores(reported):
    """The scores as layerprobe itself reads them."""
    return read_run(reported).scores


def mean_of_layer(scores):
    rows = scores[(scores["layer"] == LAYER) & (scores["fold"] == "pooled") & (scores["metric"] == "ccc")]
    return float(rows["value"].mean())


def test_pandas_finds_a_layer_by_its_name_and_by_its_number(reported, scores):
    table = pd.read_parquet(reported / "scores.parquet")
    assert list(table)[: len(SCORE_COLUMNS)] == list(SCORE_COLUMNS)
    assert table["layer_index"].dtype.kind in "iuf" or str(table["layer_index"].dtype).startswith("Int")
    by_name, by_number = table[table["layer"] == LAYER], table[table["layer_index"] == int(LAYER)]
    assert len(by_name) == len(by_number) > 0
    assert mean_of_layer(table) == mean_of_layer(scores)
    assert np.isnan(table.loc[table["layer"] == "all", "layer_index"].astype(float)).all()


def test_the_csv_holds_the_same_rows_as_the_parquet_file(reported):
    text = {name: str for name in ("encoder", "layer", "fold", *CONDITIONS)}
    csv = pd.read_csv(reported / "scores.csv", dtype=text, keep_default_na=False, na_values={"value": [""]})
    parquet = pd.read_parquet(reported / "scores.parquet")
    assert csv["layer"].tolist() == parquet["layer"].tolist()
    np.testing.assert_array_equal(csv["value"].to_numpy(), parquet["value"].to_numpy(dtype=float))


def test_polars_reads_scores_with_types(reported, scores):
    table = pl.read_parquet(reported / "scores.parquet")
    assert table.schema["layer"] == pl.String
    assert table.schema["layer_index"].is_integer()
    rows = table.filter(
        (pl.col("layer_index") == int(LAYER)) & (pl.col("fold") == "pooled") & (pl.col("metric") == "ccc")
    )
    assert rows["value"].mean() == pytest.approx(mean_of_layer(scores), rel=1e-12)


def test_duckdb_queries_scores(reported, scores):
    query = (
        f"select avg(value) from '{reported / 'scores.parquet'}' "
        f"where layer_index = {LAYER} and fold = 'pooled' and metric = 'ccc'"
    )
    ((found,),) = duckdb.sql(query).fetchall()
    assert found == pytest.approx(mean_of_layer(scores), rel=1e-12)


def test_pyarrow_reads_the_fingerprint_and_the_version(reported):
    metadata = pq.read_schema(reported / "scores.parquet").metadata
    assert metadata[b"fingerprint"].decode() == read_run(reported).fingerprint
    assert metadata[b"format_version"] == b"1"


def test_datasets_loads_scores(reported, scores, tmp_path):
    import datasets

    datasets.disable_progress_bars()
    table = datasets.Dataset.from_parquet(str(reported / "scores.parquet"), cache_dir=str(tmp_path / "cache"))
    assert table.num_rows == len(scores)
    assert mean_of_layer(table.to_pandas()) == mean_of_layer(scores)


def test_predictions_and_findings_are_plain_numpy_and_json(reported):
    with np.load(reported / "predictions.npz", allow_pickle=False) as file:
        assert int(file["format_version"]) == 1
        assert file["prediction"].shape == (len(file["utterance_id"]), len(file["column_encoder"]))
    content = json.loads((reported / "findings.json").read_text())
    assert content["format_version"] == 1
    assert {"name", "encoder", "target", "estimate", "ci_low", "ci_high"} <= set(content["findings"][0])
    assert tomllib.loads((reported / "plan.toml").read_text())["format_version"] == 1


def test_xarray_opens_a_cache_with_names_for_its_dimensions(cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_zarr(cache.path, consolidated=False)
    assert data["embeddings"].dims == ("utterance", "layer", "pooling", "feature")
    mean = data["embeddings"].sel(layer=LAYER, pooling="mean")
    rows = mean.values[[data["utterance_id"].values.tolist().index(i) for i in cache.utterance_ids]]
    np.testing.assert_array_equal(rows, cache.read_layer(3, pooling="mean"))


def test_zarr_lists_a_cache_without_warnings(cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(cache.path, mode="r")
        names = {name for name, _ in group.members()}
    assert {"embeddings", "utterance_id", "audio_hash", "layer", "pooling"} <= names
    assert group["embeddings"].shape[1:] == (len(cache.layers), len(cache.poolings), cache.dim)


def test_a_cache_becomes_a_table_and_a_labelled_array(cache):
    frame, array = cache.frame(layer=3, pooling="mean"), cache.to_xarray()
    assert frame.index.tolist() == list(cache.utterance_ids)
    np.testing.assert_array_equal(frame.to_numpy(), cache.read_layer("3", pooling="mean"))
    np.testing.assert_array_equal(array.sel(layer="3", pooling="mean").values, frame.to_numpy())
    assert open_cache(cache.path).frame(layer=0).shape == (10, len(cache.poolings) * cache.dim)
