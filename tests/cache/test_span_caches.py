"""Span caches: rows are spans of utterances, and an utterance counts only with all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.cache_rows import DIM, PLAN, fill
from helpers.documented_formats import differences, fields_of
from helpers.span_rows import SPAN_PLAN, write_spans

from layerprobe.probe.cache.compact import compact
from layerprobe.probe.cache.layout import block_file, open_group
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import NUMBERS, SPAN_ARRAYS, Spans, in_whole_utterances, n_spans_in, spans_content
from layerprobe.probe.cache.storage import StorageOverflowError
from layerprobe.probe.cache.store import BLOCK, CacheMismatchError, open_cache
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.span_ids import span_ids

PARENTS, STARTS, ENDS = ["b", "a", "b", "a", "a"], [0.5, 1.0, 0.0, 0.0, 2.0], [1.0, 2.0, 0.5, 1.0, 2.5]
LABELS, DURATIONS = ["x", "", "ü y", "x", "z"], [1.0, 3.0, 1.0, 3.0, 3.0]


def values(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3, 2, DIM)).astype(np.float32)


def five(path, **choices):
    embeddings = values(5)
    return write_spans(path, PARENTS, STARTS, ENDS, LABELS, DURATIONS, embeddings, **choices), embeddings


def windows(path, parent, n, seed=0, label=""):
    """Write ``n`` windows of 1 s as the spans of one utterance."""
    starts = np.arange(n, dtype=float)
    embeddings = values(n, seed)
    write_spans(path, [parent] * n, starts, starts + 1, [label] * n, [float(n)] * n, embeddings)
    return embeddings


def in_order(cache):
    """Numbers of the rows of a cache by their ids."""
    return np.argsort(cache.utterance_ids.astype(str))


def test_spans_come_back_with_their_parents_times_and_labels(tmp_path):
    ids, embeddings = five(tmp_path / "a.zarr")
    assert ids == ["b#0001", "a#0001", "b#0000", "a#0000", "a#0002"]
    cache = open_cache(tmp_path / "a.zarr")
    at = [ids.index(name) for name in cache.utterance_ids]
    np.testing.assert_array_equal(cache.read_rows(np.arange(5)), embeddings[at])
    for name, expected in (
        ("parent", PARENTS), ("start", STARTS), ("end", ENDS), ("label", LABELS), ("duration", DURATIONS)
    ):  # fmt: skip
        assert getattr(cache.spans, name).tolist() == [expected[k] for k in at]
    assert (len(cache.spans), cache.spans.n_parents) == (5, 2)
    assert "5 spans of 2 utterances" in repr(cache)


def test_every_array_of_a_span_cache_is_described_in_the_formats(tmp_path):
    five(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    names = [*group.array_keys(), *(f"attributes.{name}" for name in group.attrs)]
    names += [f"attributes.plan.{name}" for name in group.attrs["plan"]]
    assert differences("NAME.zarr", names) == {"undocumented": [], "missing": []}
    fields = fields_of("NAME.zarr")
    assert {name: fields[name].type for name in SPAN_ARRAYS} == {
        name: f"{'float64' if name in NUMBERS else 'text'} (utterance)" for name in SPAN_ARRAYS
    }
    assert all(fields[name].optional for name in SPAN_ARRAYS)


def test_a_cache_of_utterances_has_no_spans_and_the_plan_of_earlier_versions(tmp_path):
    fill(tmp_path / "a.zarr", 2)
    cache = open_cache(tmp_path / "a.zarr")
    assert cache.spans is None
    assert "spans" not in json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["plan"]
    assert sorted(p.name for p in (tmp_path / "a.zarr").iterdir() if p.is_dir()) == [
        "audio_hash", "embeddings", "extraction", "layer", "pooling", "utterance_id",
    ]  # fmt: skip
    # of the version before spans
    assert PLAN.fingerprint() == "04d65f2717b6"
    assert ExtractionPlan.from_json(PLAN.to_json()) == PLAN
    assert ExtractionPlan.from_json(SPAN_PLAN.to_json()) == SPAN_PLAN


def test_a_span_cache_is_never_resumed_as_one_of_utterances(tmp_path):
    five(tmp_path / "a.zarr")
    fill(tmp_path / "b.zarr", 1)
    plan = open_cache(tmp_path / "a.zarr").plan
    with pytest.raises(CacheMismatchError, match=r"spans 'given intervals; .*', not '' \(whole utterances\)"):
        CacheWriter(tmp_path / "a.zarr", replace(plan, spans=""), dim=DIM).__enter__()
    with pytest.raises(CacheMismatchError, match=r"spans '' \(whole utterances\), not 'given"):
        CacheWriter(tmp_path / "b.zarr", SPAN_PLAN, dim=DIM).__enter__()
    with CacheWriter(tmp_path / "a.zarr", plan, dim=DIM) as writer, pytest.raises(ValueError, match="are spans"):
        writer.append("c", "hash", values(1)[0])
    with CacheWriter(tmp_path / "b.zarr", PLAN, dim=DIM) as writer, pytest.raises(ValueError, match="are utterances"):
        writer.append("c", "hash", values(1)[0], open_cache(tmp_path / "a.zarr").spans[0])


def test_zarr_and_xarray_find_the_spans_as_coordinates(tmp_path):
    xarray = pytest.importorskip("xarray")
    five(tmp_path / "a.zarr")
    cache = open_cache(tmp_path / "a.zarr")
    opened = xarray.open_zarr(tmp_path / "a.zarr", consolidated=True)
    assert opened["embeddings"].coords["start"].values.tolist() == cache.spans.start.tolist()
    array = cache.to_xarray()
    chosen = array[(array.parent == "a").values & (array.label == "x").values]
    assert chosen.utterance_id.values.tolist() == ["a#0000"]
    table = cache.frame("1", pooling="mean")
    assert table.index.names == ["utterance_id", "parent", "start", "end", "label", "duration"]
    assert table.xs("b#0001", level="utterance_id").index[0] == ("b", 0.5, 1.0, "x", 1.0)
    np.testing.assert_array_equal(table.to_numpy(), cache.read_layer("1", pooling="mean"))


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_an_utterance_of_which_a_span_is_missing_is_not_in_the_cache(tmp_path, n_blocks):
    path, n = tmp_path / "a.zarr", (n_blocks - 1) * BLOCK + 100
    windows(path, "whole", 3)
    spans = [(f"p#{k:04d}", float(k), float(k + 1), "") for k in range(n)]
    content = spans_content("hash", spans)
    embeddings = values(n)
    columns = [np.array(c) for c in (np.arange(n, dtype=float), np.arange(1.0, n + 1))]
    of_p = Spans(np.full(n, "p", object), *columns, np.full(n, "", object), np.full(n, float(n)))
    plan = open_cache(path).plan
    with CacheWriter(path, plan, dim=DIM) as writer:  # as a process that is killed before its last span
        for k in range(n - 1):
            writer.append(spans[k][0], content, embeddings[k], of_p[k])
        assert set(writer.cached) == {"whole"}
    assert set(open_cache(path).spans.parent) == {"whole"}
    with CacheWriter(path, plan, dim=DIM) as writer:
        assert set(writer.cached) == {"whole"}
        writer.append_spans(content, [name for name, *_ in spans], embeddings, of_p)
        assert writer.cached["p"] == content
    cache = open_cache(path)
    assert cache.n_rows == n + 3  # rows of the first attempt were used again
    of = cache.spans.parent == "p"
    np.testing.assert_array_equal(cache.read_rows(np.flatnonzero(of)), embeddings)


def test_spans_that_changed_replace_all_rows_of_their_utterance(tmp_path):
    path = tmp_path / "a.zarr"
    windows(path, "p", 5)
    before = windows(path, "q", 4, seed=1)
    windows(path, "p", 3, seed=2, label="later")
    cache = open_cache(path)
    assert cache.utterance_ids.tolist() == ["p#0000", "p#0001", "p#0002", *(f"q#{k:04d}" for k in range(4))]
    assert cache.spans.label.tolist() == ["later"] * 3 + [""] * 4
    assert (cache.n_rows, cache.n_removed) == (9, 2)
    np.testing.assert_array_equal(cache.read_rows(np.arange(7)), np.concatenate([values(3, 2), before]))
    assert not verify(path)
    more = windows(path, "p", 6, seed=3)  # more than there are rows
    cache = open_cache(path)
    at = [f"p#{k:04d}" for k in range(6)]
    rows = np.array([cache.utterance_ids.tolist().index(name) for name in at])
    np.testing.assert_array_equal(cache.read_rows(rows), more)


def test_removal_compaction_and_resumption_keep_the_spans_of_the_others(tmp_path):
    path = tmp_path / "a.zarr"
    windows(path, "p", BLOCK - 10)
    kept = windows(path, "q", 30, seed=1)
    plan = open_cache(path).plan
    with CacheWriter(path, plan, dim=DIM) as writer:
        writer.drop(["p"])
        writer.refuse("r", "r.wav", "too short")
        assert set(writer.cached) == {"q"}
    cache = open_cache(path)
    assert (cache.n_utterances, cache.n_removed) == (30, BLOCK - 10)
    assert cache.quarantine["utterance_id"].tolist() == ["r"]
    group = zarr.open_group(path, mode="r")
    assert np.isnan(group["start"][: BLOCK - 10]).all()
    assert set(group["parent"][: BLOCK - 10]) == {""}
    assert not verify(path)
    compact(path)
    cache = open_cache(path)
    assert (cache.n_rows, cache.spans.start.tolist()) == (30, [float(k) for k in range(30)])
    np.testing.assert_array_equal(cache.read_rows(np.arange(30)), kept)
    with CacheWriter(path, plan, dim=DIM) as writer:
        writer.refuse("q", "q.wav", "silent")
    assert open_cache(path).n_utterances == 0


@pytest.mark.parametrize("name", ["parent", "start", "end", "label", "duration"])
def test_a_damaged_array_of_spans_is_found_and_never_read(tmp_path, name):
    path = tmp_path / "a.zarr"
    five(path)
    file = block_file(path, name, 0)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    (damage,) = verify(path)
    assert (damage.array, damage.layers, len(damage.utterance_ids)) == (name, (), 5)
    with pytest.raises(InputError, match=f"{name} of block 0 is not what was written"):
        open_cache(path)


def test_a_span_that_overflows_writes_no_row_of_its_utterance(tmp_path):
    plan = replace(SPAN_PLAN, storage_dtype="float16")
    embeddings = values(5)
    embeddings[3, 0, 0, 0] = 1e6  # of a
    with pytest.raises(StorageOverflowError):
        write_spans(tmp_path / "a.zarr", PARENTS, STARTS, ENDS, LABELS, DURATIONS, embeddings, plan=plan)
    assert set(open_cache(tmp_path / "a.zarr").spans.parent) == {"b"}
    assert open_group(tmp_path / "a.zarr", "r")["embeddings"].dtype == np.float16


def test_rows_of_whole_utterances_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    contents = {
        p: spans_content(p, [(f"{p}#{k}", k, k + 1, "") for k in range(n)])
        for p, n in zip("abcd", (1, 2, 3, 4), strict=True)
    }
    parents = np.array(list("abbcccddddccab"), dtype=object)
    for _ in range(50):
        part = rng.random(len(parents)) < 0.8
        of = parents[part]
        texts = np.array([contents[p] if rng.random() < 0.9 else contents[p] + "f" for p in of], dtype=object)
        expected = [
            len({t for q, t in zip(of, texts, strict=True) if q == p}) == 1 and sum(of == p) == n_spans_in(text)
            for p, text in zip(of, texts, strict=True)
        ]
        assert in_whole_utterances(of, texts).tolist() == expected
    assert in_whole_utterances(np.array([], dtype=object), np.array([], dtype=object)).tolist() == []


def test_ids_are_numbered_by_time_whatever_the_order():
    parents = ["p"] * 12
    starts = np.arange(12)[::-1].astype(float)
    assert span_ids(parents, starts, starts + 1) == [f"p#{k:04d}" for k in range(12)][::-1]
    assert Path(span_ids(["p"] * 12_000, np.arange(12_000.0), np.arange(12_000.0))[-1]).name == "p#11999"
