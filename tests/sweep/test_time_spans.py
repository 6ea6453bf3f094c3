"""Sweeps over ratings of spans: tables, lags, folds of whole utterances, chance by series, and peaks."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import quick
from helpers.timed import N_SPANS, STEP, N, pooled, ratings_table, timed_corpus

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.predictions import NO_RESULTS
from layerprobe.probe.results.run_folder import PEAK_SPANS, read_predictions, read_run_table
from layerprobe.probe.splits import UNKNOWN_SPEAKER
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.time.bins import plan_bins
from layerprobe.probe.time.span_ratings import read_span_ratings


def swept(cache, manifest, ratings, out, **options):
    plan = quick(ratings.manifest(manifest), weighted_sum_seeds=0, mixes=(), **options)
    return sweep([cache], manifest, plan, out=out, time=ratings)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return timed_corpus(tmp_path_factory.mktemp("spans"), np.random.default_rng(0))


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A rating of each span follows a feature of layer 2, and is missing in every tenth."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(1)
    cache, manifest, embeddings = corpus
    tension = embeddings[:, 2, 1] + 0.5 * rng.normal(size=len(embeddings))
    tension[::10] = np.nan
    ratings = read_span_ratings(ratings_table(cache, folder / "s.csv", tension=tension), manifest)
    return swept(cache, manifest, ratings, folder / "run")


def test_ratings_of_spans_are_found_in_the_layer_that_has_them(run):
    found = pooled(run, target="tension")[""]
    assert found.idxmax() == "2"
    assert found["2"] > 0.8
    assert found[["0", "1"]].max() < 0.2


def test_rows_are_rated_spans_and_all_of_a_speaker_are_in_one_fold(corpus, run):
    cache, manifest, _ = corpus
    kept = read_predictions(run.path)
    parent = dict(zip(cache.utterance_ids, cache.spans.parent, strict=True))
    speaker = dict(zip(manifest.table["utterance_id"], manifest.table["speaker_id"], strict=True))
    rated = np.arange(N * N_SPANS) % 10 != 0
    assert set(kept.utterance_id) == set(cache.utterance_ids[rated])
    assert kept.speaker_id.tolist() == [speaker[parent[name]] for name in kept.utterance_id]
    folds = pd.DataFrame({"speaker": kept.speaker_id, "fold": kept.fold})
    assert (folds.groupby("speaker")["fold"].nunique() == 1).all()
    time = run.plan["time"]
    assert (time["kind"], time["n_spans"], time["n_utterances"]) == ("targets", int(rated.sum()), N)
    assert time["n_not_rated"] == int((~rated).sum())


def test_without_speakers_an_utterance_is_held_out_and_resampled_as_a_whole(corpus, tmp_path):
    cache, manifest, embeddings = corpus
    unknown = replace(manifest, table=manifest.table.assign(speaker_id=UNKNOWN_SPEAKER))
    table = ratings_table(cache, tmp_path / "s.csv", tension=embeddings[:, 2, 1])
    ratings = read_span_ratings(table, unknown)
    run = swept(cache, unknown, ratings, tmp_path / "run", speakers=False)
    kept = read_predictions(run.path)
    parent = dict(zip(cache.utterance_ids, cache.spans.parent, strict=True))
    rows = pd.DataFrame({"parent": [parent[n] for n in kept.utterance_id], "fold": kept.fold, "unit": kept.unit})
    assert (rows.groupby("parent")[["fold", "unit"]].nunique() == 1).all(axis=None)
    assert rows["unit"].nunique() == N


def test_a_held_out_rating_changes_no_prediction_of_its_fold(corpus, run, tmp_path):
    cache, manifest, _ = corpus
    kept = read_predictions(run.path)
    table = pd.read_csv(run.plan["time"]["table"])
    held_out = kept.utterance_id[kept.fold == "1"]
    table.loc[table["span_id"].isin(held_out), "tension"] += 5
    table.to_csv(tmp_path / "s.csv", index=False)
    other = swept(cache, manifest, read_span_ratings(tmp_path / "s.csv", manifest), tmp_path / "run")
    after = read_predictions(other.path).prediction
    layers = (kept.columns["layer"] != "").to_numpy()
    np.testing.assert_array_equal(after[kept.fold == "1"][:, layers], kept.prediction[kept.fold == "1"][:, layers])
    assert (after[kept.fold != "1"] != kept.prediction[kept.fold != "1"]).any()


def slowly_lagged(starts, values, lag):
    """The rating at each start plus the lag, interpolated between the two starts around it."""
    found = []
    for start in starts:
        before = [k for k, s in enumerate(starts) if s <= start + lag + 1e-9]
        k = before[-1]
        rest = (start + lag - starts[k]) / STEP
        if rest < 1e-6:
            found.append(values[k])
        else:
            found.append(np.nan if k + 1 == len(starts) else (1 - rest) * values[k] + rest * values[k + 1])
    beyond = [start + lag > starts[-1] + 1e-9 for start in starts]
    return np.where(beyond, np.nan, found), sum(beyond)


@pytest.mark.parametrize("lag", [0.5, 1.2, 3.0, 10.0])
def test_a_lag_takes_the_rating_of_a_later_window(corpus, tmp_path, rng, lag):
    cache, manifest, _ = corpus
    values = rng.normal(size=len(cache.spans))
    path = ratings_table(cache, tmp_path / "s.csv", tension=values)
    ratings = read_span_ratings(path, manifest, lag=lag)
    n_beyond = 0
    for name, rows in ratings.table.groupby("utterance_id"):
        expected, beyond = slowly_lagged(rows["start"].to_numpy(), values[cache.spans.parent == name], lag)
        np.testing.assert_allclose(rows["tension"], expected, rtol=1e-9)
        n_beyond += beyond
    assert ratings.n_beyond_end == n_beyond


def test_a_lag_undoes_the_delay_of_ratings(corpus, tmp_path):
    cache, manifest, embeddings = corpus
    late = embeddings[:, 2, 1].reshape(N, N_SPANS)
    late = np.concatenate([np.full((N, 2), np.nan), late[:, :-2]], axis=1).ravel()
    path = ratings_table(cache, tmp_path / "s.csv", tension=late)
    scores = {}
    for lag in (0.0, 1.0):
        ratings = read_span_ratings(path, manifest, lag=lag)
        scores[lag] = pooled(swept(cache, manifest, ratings, tmp_path / f"run{lag}"), target="tension")[""]["2"]
    assert scores[1.0] > 0.95
    assert scores[0.0] < 0.2


@pytest.mark.parametrize("step", [1 / 3, 1 / 16, 1 / 30, 0.04])
@pytest.mark.parametrize("digits", [3, 12])
def test_a_lag_takes_windows_whose_times_are_rounded_to_milliseconds(corpus, tmp_path, step, digits):
    """Of 40 windows, one of which is missing, the rating of the k-th is k, and two steps later k + 2."""
    _, manifest, _ = corpus
    place = np.delete(np.arange(40), 7)
    start = np.round(place * step, digits)
    table = pd.DataFrame({"utterance_id": "u0", "start": start, "end": start + 1, "tension": place.astype(float)})
    table.to_csv(tmp_path / "s.csv", index=False)
    ratings = read_span_ratings(tmp_path / "s.csv", manifest, lag=2 * step)
    expected = np.where(np.isin(place, [5, 38, 39]), np.nan, place + 2)  # the seventh, and those beyond the end
    np.testing.assert_allclose(ratings.table["tension"], expected, atol=1e-3)
    assert ratings.n_beyond_end == 2


def test_a_lag_needs_windows_at_regular_times(corpus, tmp_path):
    cache, manifest, _ = corpus
    path = ratings_table(cache, tmp_path / "s.csv", tension=np.ones(len(cache.spans)))
    table = pd.read_csv(path)
    table.loc[3, "start"] += 0.2
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"the spans of u0 do not begin at regular times, .* \[LP578\]"):
        read_span_ratings(path, manifest, lag=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="start"), "has no column start. It needs utterance_id, start, end and targets."),
        (lambda t: t.assign(tension="high"), "has no target: none of its columns is one of arousal, valence, or"),
        (lambda t: t.assign(arousal="high"), "row 2: arousal is 'high', no number. Correct it."),
        (lambda t: t.assign(span_id="u0#0000"), "has the span_id u0#0000 twice."),
        (lambda t: t.assign(end=""), "row 2: start or end is empty."),
        (lambda t: t.iloc[:0], "has no rows."),
        (lambda t: t.assign(utterance_id="other"), "None of the utterances of"),
        (lambda t: t.assign(start=t["start"] + 0.1), r"Span u0#0000 is 0.1 to 0.5 s in .* and 0 to 0.5 s in"),
        (lambda t: t.assign(span_id="x" + t["span_id"]), r"holds none of the rated spans of .*--spans"),
    ],
)
def test_a_table_of_ratings_with_a_fault_is_refused(corpus, tmp_path, change, message):
    cache, manifest, _ = corpus
    path = ratings_table(cache, tmp_path / "s.csv", tension=np.arange(len(cache.spans)) % 7)
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(InputError, match=message) as error:
        swept(cache, manifest, read_span_ratings(path, manifest), tmp_path / "run")
    assert re.search(r"\[LP577\]$", str(error.value))


def test_targets_of_the_header_are_preferred_and_raters_are_none(corpus, tmp_path):
    cache, manifest, _ = corpus
    values = np.arange(len(cache.spans)) % 5
    path = ratings_table(cache, tmp_path / "s.csv", arousal=values, arousal_r1=values, other=values)
    ratings = read_span_ratings(path, manifest)
    assert ratings.targets == ("arousal",)
    path = ratings_table(cache, tmp_path / "s.csv", tension=values, tension_r1=values)
    ratings = read_span_ratings(path, manifest)
    assert ratings.targets == ("tension",)
    made = ratings.manifest(manifest)
    assert (made.targets, made.header.targets["tension"].maximum) == (("tension",), 4)
    assert "arousal" not in made.table


def test_spans_without_ids_are_numbered_as_the_cache_numbers_them(corpus, tmp_path, rng):
    cache, manifest, _ = corpus
    path = ratings_table(cache, tmp_path / "s.csv", tension=rng.normal(size=len(cache.spans)))
    pd.read_csv(path).drop(columns="span_id").sample(frac=1, random_state=1).to_csv(path, index=False)
    ratings = read_span_ratings(path, manifest)
    start = dict(zip(cache.utterance_ids, cache.spans.start, strict=True))
    assert [start[name] for name in ratings.table["span_id"]] == ratings.table["start"].tolist()


def test_bins_and_ratings_of_spans_are_not_the_same_run(corpus, run):
    cache, manifest, _ = corpus
    with pytest.raises(InputError, match="LP609"):
        sweep([cache], manifest, quick(manifest), out=run.path, time=plan_bins("position"))


def test_peaks_are_written_for_each_utterance_and_rated_target(corpus, run):
    cache, _, embeddings = corpus
    peaks = read_run_table(run.path, PEAK_SPANS, run.fingerprint)
    assert len(peaks) == N
    assert set(peaks["target"]) == {"tension"}
    order = {name: k for k, name in enumerate(cache.utterance_ids)}
    place = [order[name] % N_SPANS for name in peaks["span_id"]]
    rated = np.where(np.arange(N * N_SPANS) % 10 == 0, -np.inf, embeddings[:, 2, 1])
    best = dict(zip([f"u{i}" for i in range(N)], rated.reshape(N, N_SPANS).argmax(axis=1), strict=True))
    hits = [best[name] == k for name, k in zip(peaks["utterance_id"], place, strict=True)]
    assert np.mean(hits) > 0.9
    assert peaks["p_value"].between(1 / 6, 1).all()


def test_peaks_of_saved_results_are_read_again(tmp_path):
    results = replace(NO_RESULTS, peaks=[{"encoder": "e", "value": 1.5}])
    partial = PartialResults(tmp_path / "run", "0f", np.array(["a"]))
    partial.save("peaks", results)
    assert partial.load("peaks").peaks == results.peaks
