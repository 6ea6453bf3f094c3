"""Ratings of spans with a file that describes them: its targets, scales and lag are those of the sweep."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.planted import quick
from helpers.timed import ratings_table, timed_corpus

from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.time.span_ratings import read_span_ratings

DESCRIBED = 'lag = {lag}\n[targets.{name}]\nminimum = -100.0\nmaximum = 100.0\nmeaning = "calm to active"\n'


@pytest.fixture
def corpus(tmp_path):
    cache, manifest, _ = timed_corpus(tmp_path, np.random.default_rng(0), n=30)
    return cache, manifest


def test_described_columns_are_the_targets_on_their_own_scale(corpus, tmp_path):
    """The header of the manifest has arousal from 1 to 7, and traces of arousal are from -100 to 100."""
    cache, manifest = corpus
    values = np.arange(len(cache.spans)) % 5
    counts = {"arousal_n_samples": values, "arousal_n_raters": values}
    path = ratings_table(cache, tmp_path / "s.csv", arousal=values, valence=values, **counts)
    path.with_suffix(".toml").write_text(DESCRIBED.format(lag=2, name="arousal"))
    ratings = read_span_ratings(path, manifest)
    assert ratings.targets == ("arousal",)
    assert ratings.manifest(manifest).header.targets == {"arousal": Target(-100, 100, "calm to active")}


def test_columns_of_counts_are_no_targets(corpus, tmp_path):
    cache, manifest = corpus
    values = np.arange(len(cache.spans)) % 5
    path = ratings_table(cache, tmp_path / "s.csv", joy=values, joy_n_samples=values, joy_n_raters=values)
    assert read_span_ratings(path, manifest).targets == ("joy",)
    path.with_suffix(".toml").write_text(DESCRIBED.format(lag=0, name="other"))  # of no column of the table
    assert read_span_ratings(path, manifest).targets == ("joy",)


def test_a_second_lag_is_refused(corpus, tmp_path):
    cache, manifest = corpus
    path = ratings_table(cache, tmp_path / "s.csv", joy=np.arange(len(cache.spans)))
    for lag in (0, 2):
        path.with_suffix(".toml").write_text(DESCRIBED.format(lag=lag, name="joy"))
        if lag == 0:
            assert read_span_ratings(path, manifest, lag=1.0).lag == 1.0
            continue
        assert read_span_ratings(path, manifest).lag == 0.0
        with pytest.raises(InputError, match=r"s\.toml states that ratings were shifted by 2 s .* \[LP578\]$"):
            read_span_ratings(path, manifest, lag=1.0)


@pytest.mark.parametrize("text", ["lag = ", "lag = 'x'", "targets = 5", "[targets.joy]\nminimum = 'x'\nmaximum = 2"])
def test_a_description_with_a_fault_is_refused(corpus, tmp_path, text):
    cache, manifest = corpus
    path = ratings_table(cache, tmp_path / "s.csv", joy=np.arange(len(cache.spans)))
    path.with_suffix(".toml").write_text(text)
    with pytest.raises(InputError, match=r"s\.toml can't be read: .*Write it again with layerprobe manifest spans"):
        read_span_ratings(path, manifest)


def test_an_utterance_without_any_rating_is_left_out(corpus, tmp_path):
    cache, manifest = corpus
    values = np.random.default_rng(1).normal(size=len(cache.spans))
    values[cache.spans.parent == "u3"] = np.nan
    path = ratings_table(cache, tmp_path / "s.csv", joy=values)
    ratings = read_span_ratings(path, manifest)
    plan = quick(ratings.manifest(manifest), weighted_sum_seeds=0, mixes=())
    run = sweep([cache], manifest, plan, out=tmp_path / "run", time=ratings)
    probed = set(read_predictions(run.path).utterance_id)
    assert probed == set(cache.utterance_ids[cache.spans.parent != "u3"])
