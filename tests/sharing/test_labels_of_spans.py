"""Labels of spans, which may be the transcript, are pushed when requested alone; cards state what a cache holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.planted import quick
from helpers.span_rows import write_spans
from helpers.timed import ratings_table, timed_corpus

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.time.bins import plan_bins
from layerprobe.probe.time.span_ratings import read_span_ratings
from layerprobe.sharing.card import card
from layerprobe.sharing.contents import Allowed
from layerprobe.sharing.pull import pull
from layerprobe.sharing.push import push
from layerprobe.sharing.redaction import quarantine_table
from layerprobe.sharing.source import read_source

COLUMNS = "utterance_id,path,reason,format_version\n"
REASON = "s.csv has a span outside of the audio: u9#0002{} from 2 to 3 s, and the audio has 1.500 s [LP262]"
OUTSIDE = 'u9,u9.wav,"' + REASON.format(" ('zz-spoken')") + '",2\n'


@pytest.fixture
def spans(tmp_path, rng):
    """Write a cache of two spans of each of three utterances, with labels."""

    def write(labels):
        parents = np.repeat(["u0", "u1", "u2"], 2).tolist()
        embeddings = rng.normal(size=(6, 3, 1, 4))
        write_spans(tmp_path / "s.zarr", parents, [0, 1] * 3, [1, 2] * 3, labels, [2.5] * 6, embeddings)
        return tmp_path / "s.zarr"

    return write


def url_of(folder):
    return f"file://{folder}"


def content_of(folder):
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_a_cache_whose_spans_have_labels_needs_the_option(spans, tmp_path):
    path = spans(["", "", "zz-spoken", "", "", ""])
    with pytest.raises(InputError, match=r"s\.zarr holds the labels of 1 spans with their times, which .*LP882"):
        push(path, url_of(tmp_path / "shared"))
    assert not (tmp_path / "shared").exists()
    push(path, url_of(tmp_path / "shared"), with_transcripts=True)
    readme = (tmp_path / "shared" / "README.md").read_text()
    assert "Pooled embeddings of 6 spans of 3 utterances" in readme
    assert "the times of spans and their labels, which are the transcript where spans are of spoken text" in readme
    assert (tmp_path / "shared" / "s.zarr" / "label" / "c" / "0").exists()


def test_a_cache_of_spans_without_labels_is_pushed_and_its_reasons_name_none(spans, tmp_path):
    path = spans([""] * 6)
    (path / "extraction" / "quarantine.csv").write_text(COLUMNS + OUTSIDE)
    push(path, url_of(tmp_path / "shared"))
    assert b"zz-spoken" not in content_of(tmp_path / "shared")
    (reason,) = pd.read_csv(tmp_path / "shared" / "s.zarr" / "extraction" / "quarantine.csv")["reason"]
    assert reason == REASON.format("")
    readme = (tmp_path / "shared" / "README.md").read_text()
    assert "hashes of their audio and the times of spans, and neither audio" in readme
    push(path, url_of(tmp_path / "shared"), with_transcripts=True)
    assert b"'zz-spoken'" in content_of(tmp_path / "shared")


def test_labels_of_an_utterance_that_is_not_whole_count(spans, tmp_path):
    path = spans([""] * 6)
    one = Spans(*(np.array([value], dtype=kind) for value, kind in zip(
        ("u3", 0.0, 1.0, "zz-spoken", 2.0), (object, float, float, object, float), strict=True)))  # fmt: skip
    plan = open_cache(path).plan
    with CacheWriter(path, plan, dim=4) as writer:
        writer.append_spans("hash of u3 spans 2 0123456789ab", ["u3#0000"], np.ones((1, 3, 1, 4), np.float32), one)
    assert open_cache(path).n_utterances == 6  # the other span of u3 is missing
    with pytest.raises(InputError, match="labels of 1 spans"):
        push(path, url_of(tmp_path / "shared"))


def test_a_reason_of_a_run_names_no_label_without_the_option():
    table = (COLUMNS + OUTSIDE).encode()
    for keep_ids in (False, True):
        assert b"zz-spoken" not in quarantine_table(table, keep_ids=keep_ids, keep_labels=False)
        assert b"zz-spoken" in quarantine_table(table, keep_ids=keep_ids, keep_labels=True)


def test_the_card_of_a_sweep_by_label_states_that_its_bins_are_labels(tmp_path):
    cache, manifest, _ = timed_corpus(tmp_path, np.random.default_rng(0))
    run = tmp_path / "run"
    plan = quick(manifest, weighted_sum_seeds=0, mixes=())
    sweep([cache], manifest, plan, out=run, time=plan_bins("label"))
    assert read_run(run).plan["time"]["kind"] == "label"
    text = card(read_source(run, Allowed()), "alice/run")
    assert "The bins of its scores are labels of spans, without the utterances that have them." in text
    text = card(read_source(run, Allowed(predictions=True)), "alice/run")
    assert "Audio is not part of it; `predictions.npz` holds ratings, ids of speakers and which labels of spans" in text


def test_peaks_of_spans_are_pushed_with_predictions_and_labels_with_transcripts(tmp_path):
    cache, manifest, _ = timed_corpus(tmp_path, np.random.default_rng(0), n=48, n_spans=3)
    values = np.random.default_rng(1).normal(size=len(cache.utterance_ids))
    ratings = read_span_ratings(ratings_table(cache, tmp_path / "s.csv", arousal=values), manifest)
    plan = quick(ratings.manifest(manifest), weighted_sum_seeds=0, mixes=())
    run = tmp_path / "run"
    sweep([cache], ratings.manifest(manifest), plan, out=run, time=ratings)

    def shared(**options):
        push(run, url_of(tmp_path / "shared"), **options)
        file = tmp_path / "shared" / "peak_spans.csv"
        return pd.read_csv(file, keep_default_na=False) if file.exists() else None

    assert shared() is None
    without, labelled = shared(with_predictions=True), shared(with_predictions=True, with_transcripts=True)
    readme = (tmp_path / "shared" / "README.md").read_text()
    assert "`predictions.npz` holds ratings and ids of speakers; `peak_spans.csv` holds labels of spans." in readme
    assert set(without.pop("label")) == {""}
    assert set(labelled.pop("label")) <= {"the", "cat", "sat"}
    pd.testing.assert_frame_equal(without, labelled)
    push(run, url_of(tmp_path / "shared"), with_predictions=True)
    pull(url_of(tmp_path / "shared"), out=tmp_path / "back")
    assert len(read_run(tmp_path / "back").scores) == len(read_run(run).scores)
