"""A cache as users read it: by layer and pooling, with numpy, pandas, xarray and plain zarr."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr
from helpers.cache_rows import DIM, PLAN, fill, rows
from helpers.command_line import script_environment

from layerprobe.probe.cache.journal import FILES, JOURNAL, read_journal
from layerprobe.probe.cache.layout import block_file
from layerprobe.probe.cache.lease import LEASE
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError

xarray = pytest.importorskip("xarray")


def remove(path, *utterance_ids):
    with CacheWriter(path, PLAN, dim=DIM) as writer:
        writer.drop(utterance_ids)


def all_embeddings(n):
    """As `helpers.cache_rows.fill` writes them, ``(n, n_layers, n_poolings, dim)``."""
    return np.stack([embeddings for *_, embeddings in rows(n)])


@pytest.fixture
def path(tmp_path):
    fill(tmp_path / "a.zarr", 5)
    return tmp_path / "a.zarr"


@pytest.fixture
def removed(path):
    """Of five utterances the second and the last are removed."""
    remove(path, "ü1", "ü4")
    return path


def test_zarr_lists_the_members_without_a_warning(removed):
    shutil.copy(removed / JOURNAL, removed / FILES / "precision_error.csv")
    (removed / FILES / "lease.json").write_text("{}")
    names = {"embeddings", "utterance_id", "audio_hash", "layer", "pooling", "extraction"}
    for use_consolidated in (None, False):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            group = zarr.open_group(removed, mode="r", use_consolidated=use_consolidated)
            assert {name for name, _ in group.members(max_depth=None)} == names
            assert {name for name, _ in group.arrays()} == names
            assert list(group.groups()) == []
            assert "embeddings (5, 3, 2, 4) float32" in str(group.tree())
            assert group["layer"][:].tolist() == ["0", "1", "2"]
            assert group["pooling"][:].tolist() == ["mean", "std"]
            assert group["extraction"][()] == 0


def test_no_file_lies_where_zarr_would_look_for_a_member(removed):
    names = {entry.name for entry in removed.iterdir()}
    assert names == {"zarr.json", "embeddings", "utterance_id", "audio_hash", "layer", "pooling", "extraction"}


@pytest.mark.parametrize("choices", [{}, {"consolidated": False}, {"consolidated": True}, {"chunks": None}])
def test_xarray_opens_a_cache_without_a_warning_and_finds_its_labels(path, choices):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(path, **choices).load(scheduler="synchronous")  # whatever cluster another test has left
    assert data["embeddings"].dims == ("utterance", "layer", "pooling", "feature")
    assert set(data.coords) == {"utterance_id", "audio_hash", "layer", "pooling"}
    assert data["utterance_id"].dims == data["audio_hash"].dims == ("utterance",)
    assert data.attrs["format_version"] == 2
    assert "layerprobe_format" not in data.attrs
    np.testing.assert_array_equal(data["embeddings"].sel(layer="1", pooling="std"), all_embeddings(5)[:, 1, 1])


def test_a_plain_reader_sees_removed_rows_as_nan_without_an_id(removed):
    data = xarray.open_zarr(removed, chunks=None).load()
    live = data["utterance_id"] != ""
    assert live.values.tolist() == [True, False, True, True, False]
    assert (data["audio_hash"] != "").values.tolist() == live.values.tolist()
    missing = np.isnan(data["embeddings"])
    assert missing.all(("layer", "pooling", "feature")).values.tolist() == (~live).values.tolist()
    np.testing.assert_array_equal(data["embeddings"][live.values], all_embeddings(5)[[0, 2, 3]])


def test_removed_rows_of_a_full_block_are_nan_too(tmp_path, monkeypatch):
    for module in ("create", "store", "writer", "verify"):
        monkeypatch.setattr(f"layerprobe.probe.cache.{module}.BLOCK", 4)
    fill(tmp_path / "a.zarr", 10)
    remove(tmp_path / "a.zarr", "ü2", "ü9")
    remove(tmp_path / "a.zarr", "ü3")  # of a block that has a removed row already
    assert verify(tmp_path / "a.zarr") == []
    stored = zarr.open_group(tmp_path / "a.zarr", mode="r")["embeddings"][:]
    assert np.flatnonzero(np.isnan(stored).all(axis=(1, 2, 3))).tolist() == [2, 3, 9]
    kept = [0, 1, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(open_cache(tmp_path / "a.zarr").read_rows(np.arange(7)), all_embeddings(10)[kept])
    block_file(tmp_path / "a.zarr", "embeddings", 0).unlink()
    (damage,) = verify(tmp_path / "a.zarr")
    assert damage.utterance_ids == ("ü0", "ü1")


class Killed(BaseException):
    """Stands for a kill at a chosen moment."""


@pytest.mark.parametrize("n_writes", [0, 1, 2, 3])
@pytest.mark.parametrize("gone", ["ü1", "ü5"])
def test_at_no_moment_of_a_removal_has_an_utterance_a_row_of_nan(tmp_path, monkeypatch, n_writes, gone):
    """The first is in a full block, the second in the last one."""
    for module in ("create", "store", "writer", "verify"):
        monkeypatch.setattr(f"layerprobe.probe.cache.{module}.BLOCK", 4)
    fill(tmp_path / "a.zarr", 6)
    left, set_item = [n_writes], zarr.Array.__setitem__

    def write(array, key, value):
        if not left[0]:
            raise Killed
        left[0] -= 1
        set_item(array, key, value)

    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.drop([gone])
        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "__setitem__", write)
            with pytest.raises(Killed):
                writer.flush()
        with pytest.raises(InputError, match="can't be read while another process replaces or removes utterances"):
            open_cache(tmp_path / "a.zarr")
        shutil.copytree(tmp_path / "a.zarr", tmp_path / "killed.zarr")
        (tmp_path / "killed.zarr" / LEASE).unlink()  # as when its owner is dead
        cache = open_cache(tmp_path / "killed.zarr")
        assert (gone in cache.utterance_ids) == (n_writes == 0)
        assert np.isfinite(cache.read_rows(np.arange(len(cache)))).all()
    assert gone not in open_cache(tmp_path / "a.zarr").utterance_ids
    assert verify(tmp_path / "a.zarr") == []


def test_consolidated_metadata_promise_no_row_that_is_not_in_the_journal(tmp_path, monkeypatch):
    """As after a kill between the writing of a block and its entry in the journal."""
    fill(tmp_path / "a.zarr", 5)

    def killed(*_):
        raise Killed

    with CacheWriter(tmp_path / "a.zarr", PLAN, dim=DIM) as writer:
        writer.append(*list(rows(6))[5])
        with monkeypatch.context() as patch:
            patch.setattr("layerprobe.probe.cache.writer.digest_of", killed)
            with pytest.raises(Killed):
                writer.flush()
        content = json.loads((tmp_path / "a.zarr" / "embeddings" / "zarr.json").read_text())
        assert content["shape"][0] == 6
        assert sum(line.rows for line in read_journal(tmp_path / "a.zarr").values()) == 5
        assert zarr.open_group(tmp_path / "a.zarr", mode="r")["embeddings"].shape[0] == 5
    assert zarr.open_group(tmp_path / "a.zarr", mode="r")["embeddings"].shape[0] == 6


def test_a_cache_counts_its_utterances_and_its_removed_rows(removed):
    cache = open_cache(removed)
    assert (cache.n_utterances, len(cache), cache.n_rows, cache.n_removed) == (3, 3, 5, 2)
    assert cache.layers == ("0", "1", "2")
    assert cache.poolings == ("mean", "std")
    assert "3 utterances (2 removed rows on disk)" in repr(cache)


@pytest.mark.parametrize("layer", ["1", 1, np.int64(1), np.uint8(1)])
def test_a_layer_is_named_or_numbered(path, layer):
    expected = all_embeddings(5)[:, 1]
    np.testing.assert_array_equal(open_cache(path).read_layer(layer), expected.reshape(5, -1))
    np.testing.assert_array_equal(open_cache(path).read_layer(layer, pooling="std"), expected[:, 1])
    chosen = np.array([4, 0])
    np.testing.assert_array_equal(open_cache(path).read_layer(layer, chosen, pooling="mean"), expected[chosen, 0])


@pytest.mark.parametrize("layer", [-1, 3, "12", "-1", "final", 1.0, True, None, "01"])
def test_an_unknown_layer_is_refused_with_those_that_there_are(path, layer):
    cache = open_cache(path)
    message = f"{path} has no layer {layer!r}; layers are counted from 0: 0 to 2."
    for read in (cache.read_layer, cache.frame):
        with pytest.raises(InputError) as caught:
            read(layer)
        assert str(caught.value) == f"{message} [LP345]"


def test_the_final_norm_and_features_have_names_of_their_own(tmp_path):
    with_norm = replace(PLAN, layers=("0", "1", "final"))
    fill(tmp_path / "a.zarr", 2, plan=with_norm)
    np.testing.assert_array_equal(
        open_cache(tmp_path / "a.zarr").read_layer("final"), all_embeddings(2)[:, 2].reshape(2, -1)
    )
    with pytest.raises(
        InputError, match=r"has no layer 2; layers are counted from 0: 0 to 1 and 'final'\. \[LP\d{3}\]$"
    ):
        open_cache(tmp_path / "a.zarr").read_layer(2)
    fill(tmp_path / "b.zarr", 2, plan=replace(PLAN, layers=("log_mel", "f0", "duration")))
    with pytest.raises(
        InputError, match=r"has no layer 0; its layers are the features log_mel, f0, duration\. \[LP\d{3}\]$"
    ):
        open_cache(tmp_path / "b.zarr").read_layer(0)
    assert "3 features (log_mel, f0, duration)" in repr(open_cache(tmp_path / "b.zarr"))


def test_an_unknown_pooling_is_refused_with_those_that_there_are(path):
    cache = open_cache(path)
    for read in (cache.read_layer, cache.frame):
        with pytest.raises(InputError, match=r"a\.zarr has no pooling 'max'; it has mean, std\. \[LP\d{3}\]$"):
            read(0, pooling="max")


def test_a_frame_is_labelled_by_utterance_pooling_and_feature(removed):
    cache, expected = open_cache(removed), all_embeddings(5)[[0, 2, 3], 1]
    table = cache.frame(1)
    assert table.index.name == "utterance_id"
    assert table.index.tolist() == ["ü0", "ü2", "ü3"]
    assert table.columns.tolist() == [f"{pooling}_{k}" for pooling in ("mean", "std") for k in range(DIM)]
    np.testing.assert_array_equal(table[["std_0", "std_3"]], expected[:, 1, [0, 3]])
    one = cache.frame(layer="1", pooling="std")
    assert one.columns.tolist() == list(range(DIM))
    pd.testing.assert_series_equal(one[3], table["std_3"], check_names=False)


def test_the_labelled_array_reads_what_is_selected_and_nothing_else(removed, monkeypatch):
    cache, expected = open_cache(removed), all_embeddings(5)[[0, 2, 3]]
    read = []
    read_layer = type(cache).read_layer
    monkeypatch.setattr(type(cache), "read_layer", lambda self, *args: read.append(args[0]) or read_layer(self, *args))
    data = cache.to_xarray()
    assert data.dims == ("utterance_id", "layer", "pooling", "feature")
    assert data.shape == (3, 3, 2, DIM)
    assert "embeddings" in repr(data)
    assert "embeddings" in data._repr_html_()
    assert read == []
    assert data["utterance_id"].values.tolist() == ["ü0", "ü2", "ü3"]
    assert data["audio_hash"].sel(utterance_id="ü2").item() == "hash2"
    np.testing.assert_array_equal(data.sel(layer="1", pooling="std"), expected[:, 1, 1])
    assert read == ["1"]
    np.testing.assert_array_equal(data.sel(utterance_id=["ü3", "ü0"], layer="2"), expected[[2, 0], 2])
    np.testing.assert_array_equal(
        data.isel(utterance_id=[1, 1, 0], feature=slice(None, None, -1)), expected[[1, 1, 0], ..., ::-1]
    )
    np.testing.assert_array_equal(
        data.isel(utterance_id=-1, layer=[2, 0], feature=[3, 1]), expected[-1][[2, 0]][..., [3, 1]]
    )
    np.testing.assert_array_equal(data, expected)
    np.testing.assert_allclose(data.mean("utterance_id"), expected.mean(axis=0), rtol=1e-6)
    assert data.attrs == {"encoder": "test", "fingerprint": PLAN.fingerprint()}


def test_a_missing_xarray_is_named_with_the_way_to_install_it(path):
    code = (
        "import sys\nsys.modules['xarray'] = None\n"
        "from layerprobe.probe.cache.store import open_cache\n"
        "cache = open_cache(sys.argv[1])\nprint(cache.frame(0).shape)\ncache.to_xarray()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=script_environment())
    assert done.stdout == f"(5, {2 * DIM})\n"
    assert "InputError: Cache.to_xarray needs the package xarray: pip install 'layerprobe[xarray]'" in done.stderr


def test_a_cache_is_shown_in_one_line_and_in_a_notebook_as_a_table(tmp_path):
    path = tmp_path / "<i>a.zarr"
    fill(path, 5, plan=replace(PLAN, upstream="<b>hubert", random_init=3))
    cache = open_cache(path)
    began = time.process_time()
    shown, table = repr(cache), cache._repr_html_()
    assert time.process_time() - began < 0.2  # processor time, which a busy machine does not lengthen
    fingerprint = cache.plan.fingerprint()
    assert shown == (
        f"<Cache {str(path)!r}: <b>hubert, random weights, 5 utterances, 3 layers (0 to 2), mean and std pooling, "
        f"dim 4, float32, 0.0 MB, fingerprint {fingerprint}>"
    )
    assert "<b>" not in table
    assert "<i>" not in table
    assert "&lt;b&gt;hubert, random weights" in table
    assert fingerprint in table


def test_a_cache_of_the_first_format_is_refused_with_the_way_to_make_it_anew(path):
    """Its journal lay at the top of the group."""
    group = zarr.open_group(path, mode="r+")
    group.attrs["layerprobe_format"] = 1
    del group.attrs["format_version"]
    (path / JOURNAL).rename(path / "journal.jsonl")
    for use in (open_cache, verify, lambda path: fill(path, 1)):
        with pytest.raises(InputError) as caught:
            use(path)
        assert str(caught.value) == (
            f"{path} has format 1, but this version of layerprobe reads format 2: make the cache anew with layerprobe "
            "extract and another --out. [LP402]"
        )
