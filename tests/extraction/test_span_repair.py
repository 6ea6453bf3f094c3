"""A repair of a span cache removes nothing that it can't bring back, and one that was cut short is finished later."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.documented_formats import differences
from helpers.voices import manifest_of

from layerprobe.probe.cache.layout import block_file
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.unfinished_repair import REPAIR
from layerprobe.probe.cache.verify import verify
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.acoustic import AcousticEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction import repaired_blocks
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.extraction.repair import repair

WINDOWS = SpanOptions(every=0.25, window=0.5)


class KilledError(BaseException):
    """The process ends here."""


def table(folder, name, names, *, start=0.1):
    rows = [(one, start + 0.1 * k, start + 0.1 * k + 0.1, "w") for one in names for k in range(3)]
    pd.DataFrame(rows, columns=["utterance_id", "start", "end", "label"]).to_csv(folder / name, index=False)
    return SpanOptions(folder / name)


def content_of(path):
    cache = open_cache(path)
    order = np.argsort(cache.utterance_ids.astype(str))
    quarantined = sorted(cache.quarantine["utterance_id"])
    return cache.utterance_ids[order].tolist(), cache.read_rows(np.arange(len(order)))[order], quarantined


def assert_same(path, before):
    after = content_of(path)
    assert (after[0], after[2]) == (before[0], before[2])
    np.testing.assert_array_equal(after[1], before[1])
    assert verify(path) == []


def damage(path, name="embeddings"):
    file = block_file(path, name, 0)
    file.write_bytes(file.read_bytes()[:-7])


@pytest.fixture
def manifest(corpus, tmp_path):
    return manifest_of(tmp_path, corpus[:4])


@pytest.fixture
def given(manifest, tmp_path):
    """A cache of the spans of three of four utterances, their table, and what the cache holds."""
    spans = table(tmp_path, "spans.csv", ["u0", "u1", "u2"])
    extract(manifest, AcousticEncoder(), tmp_path / "s.zarr", spans=spans)
    return tmp_path / "s.zarr", spans, content_of(tmp_path / "s.zarr")


@pytest.mark.parametrize("array", ["embeddings", "label", "parent", "audio_hash"])
def test_a_repair_with_a_wrong_manifest_or_table_removes_nothing(given, manifest, tmp_path, array):
    path, spans, before = given
    damage(path, array)
    damaged = block_file(path, array, 0).read_bytes()
    few = replace(manifest, table=manifest.table[:2].reset_index(drop=True))
    wrong = [
        (manifest, table(tmp_path, "none.csv", ["q"]), "LP261"),
        (manifest, table(tmp_path, "later.csv", ["u0", "u1", "u2"], start=0.15), "LP269"),
        (manifest, table(tmp_path, "fewer.csv", ["u0", "u1"]), "LP269"),
        (few, spans, "LP269" if array == "parent" else "LP415"),
    ]
    for other, its_spans, code in wrong if array != "audio_hash" else [wrong[0], wrong[2], wrong[3]]:
        with pytest.raises(InputError) as error:
            repair(path, other, AcousticEncoder(), spans=its_spans)
        assert error.value.code == code
        assert block_file(path, array, 0).read_bytes() == damaged
        assert not (path / REPAIR).exists()
    assert repair(path, manifest, AcousticEncoder(), spans=spans).n_encoded == 3
    assert_same(path, before)


def test_a_repair_of_windows_needs_all_damaged_utterances_first(manifest, tmp_path):
    path = tmp_path / "w.zarr"
    extract(manifest, AcousticEncoder(), path, spans=WINDOWS)
    before = content_of(path)
    damage(path)
    with pytest.raises(InputError, match="2 damaged utterances are not in the manifest"):
        repair(path, replace(manifest, table=manifest.table[:2].reset_index(drop=True)), AcousticEncoder())
    assert repair(path, manifest, AcousticEncoder()).n_encoded == 4
    assert_same(path, before)


@pytest.fixture
def cut_short(given, manifest, monkeypatch):
    """A cache whose repair was killed after the damaged rows had been removed."""
    path, spans, before = given
    damage(path)

    def killed(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(repaired_blocks, "run_extraction", killed)
        with pytest.raises(KilledError):
            repair(path, manifest, AcousticEncoder(), spans=spans)
    assert len(open_cache(path).spans) == 0
    (found,) = verify(path)
    assert "the spans of 3 utterances are missing (first: u0)" in found.summary()
    entry = json.loads((path / REPAIR).read_text())
    assert differences("NAME.zarr/extraction/repair.json", list(entry)) == {"undocumented": [], "missing": []}
    return path, spans, before


def test_a_repair_that_was_killed_is_finished_by_the_next(cut_short, manifest, tmp_path):
    path, spans, before = cut_short
    with pytest.raises(InputError, match=r"later\.csv has other spans of 3 utterances"):
        repair(path, manifest, AcousticEncoder(), spans=table(tmp_path, "later.csv", ["u0", "u1", "u2"], start=0.15))
    assert repair(path, manifest, AcousticEncoder(), spans=spans).n_encoded == 3
    assert_same(path, before)


def test_a_repair_that_was_killed_is_finished_by_an_extraction(cut_short, manifest):
    path, spans, before = cut_short
    few = replace(manifest, table=manifest.table[:1].reset_index(drop=True))
    extract(few, AcousticEncoder(), path, spans=spans)
    assert "of 2 utterances are missing (first: u1)" in verify(path)[0].summary()
    extract(manifest, AcousticEncoder(), path, spans=spans)
    assert_same(path, before)


def test_an_unreadable_list_of_a_repair_is_named(cut_short, manifest):
    path, spans, before = cut_short
    (path / REPAIR).write_text("{")
    with pytest.raises(InputError, match=r"repair\.json can't be read .* Delete it") as error:
        verify(path)
    assert error.value.code == "LP464"
    (path / REPAIR).unlink()
    extract(manifest, AcousticEncoder(), path, spans=spans)
    assert_same(path, before)
