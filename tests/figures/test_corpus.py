"""What is checked of a corpus first: sizes, agreement by an analysis of variance, speakers of two splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import run as command
from helpers.figure_checks import PRINTED, assert_readable
from helpers.voices import write_table

from layerprobe.analysis.corpus import agreement, describe
from layerprobe.figures.layout.correlations import plot_correlations
from layerprobe.figures.plots.corpus import corpus_figure, plot_ratings, rating_bins
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.metrics import ccc


def shrout_and_fleiss(x):
    """ICC(1) and ICC(1, k) of a full table by the mean squares as they wrote them."""
    n, k = x.shape
    bms = k * ((x.mean(axis=1) - x.mean()) ** 2).sum() / (n - 1)
    wms = ((x - x.mean(axis=1, keepdims=True)) ** 2).sum() / (n * (k - 1))
    return (bms - wms) / (bms + (k - 1) * wms), (bms - wms) / bms


def rated(values):
    columns = {f"arousal_r{k + 1}": values[:, k] for k in range(values.shape[1])}
    return pd.DataFrame({"arousal": np.nan_to_num(values).mean(axis=1), **columns})


def test_iccs_are_those_of_shrout_and_fleiss_in_their_own_example():
    """Table 2 of their paper: six targets, four judges; ICC(1, 1) = .17, ICC(1, 4) = .44."""
    x = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]])
    found = agreement(rated(x), "arousal")
    assert (round(found.icc_single, 2), round(found.icc_mean, 2)) == (0.17, 0.44)
    assert (found.icc_single, found.icc_mean) == pytest.approx(shrout_and_fleiss(x))


def test_unequal_numbers_of_raters_estimate_the_same(rng):
    """Utterances vary by 1, ratings around them by 1: ICC(1) is a half whoever rated how many."""
    truth = rng.normal(size=(4000, 1))
    full = truth + rng.normal(size=(4000, 7))
    some = np.where(rng.random(full.shape) < 0.5, full, np.nan)
    found = agreement(rated(some), "arousal")
    assert found.icc_single == pytest.approx(0.5, abs=0.02)
    assert agreement(rated(full), "arousal").icc_single == pytest.approx(0.5, abs=0.02)
    assert found.n_raters < 4


def test_a_rater_is_held_against_the_mean_of_the_others():
    x = np.array([[1, 2, 3], [2, 2, 5], [5, 4, 6], [6, 7, 5.0]])
    by_hand = np.mean([ccc(np.delete(x, k, axis=1).mean(axis=1), x[:, k]) for k in range(3)])
    assert agreement(rated(x), "arousal").leave_one_out_ccc == pytest.approx(by_hand)


def test_without_raters_or_with_one_each_there_is_no_agreement():
    assert agreement(pd.DataFrame({"arousal": [1.0, 2.0]}), "arousal") is None
    assert agreement(rated(np.array([[1, np.nan], [np.nan, 2.0]])), "arousal") is None


@pytest.fixture
def manifest(tmp_path):
    rows = [
        {"utterance_id": f"u{k}", "path": "x.wav", "speaker_id": speaker, "split": split, "arousal": a, "valence": v,
         "start": 0.0, "end": 1800.0, "emotion": "glad" if k % 2 else "cross"}
        for k, (speaker, split, a, v) in enumerate(
            [("a", "train", 1, 7), ("a", "train", 2, 6), ("b", "train", 3, 5), ("Unknown", "train", 4, 4),
             ("b", "test", 5, 3), ("c", "test", 7, 1)]
        )
    ]  # fmt: skip
    scales = {t: Target(1, 7) for t in ("arousal", "valence")}
    header = Header("test", "1", "none", scales, nominal={"emotion": Nominal(("glad", "cross"))})
    return Manifest(tmp_path / "my.csv", header, pd.DataFrame(rows))


def test_sizes_ratings_and_speakers_by_hand(manifest):
    found = describe(manifest)
    assert found.sizes.to_dict("records") == [
        {"split": "train", "n_utterances": 4, "n_speakers": 2, "n_unknown": 1, "hours": 2.0},
        {"split": "test", "n_utterances": 2, "n_speakers": 2, "n_unknown": 0, "hours": 1.0},
    ]
    arousal = found.ratings.set_index("target").loc["arousal"]
    assert arousal[["n", "mean", "minimum", "maximum"]].tolist() == [6, pytest.approx(22 / 6), 1, 7]
    assert arousal["fraction_at_bounds"] == pytest.approx(2 / 6)
    assert found.correlations.loc["arousal", "valence"] == pytest.approx(-1, abs=0.02)
    assert found.speakers_in_splits.to_dict("records") == [{"speaker_id": "b", "splits": "test, train"}]
    assert found.classes["n"].tolist() == [3, 3]
    assert found.speakers.set_index("speaker_id")["n_utterances"].to_dict() == {"a": 2, "b": 2, "c": 1}


def test_the_summary_has_a_line_for_each_thing_and_is_the_repr(manifest):
    lines = describe(manifest).summary().splitlines()
    assert lines[0] == "train: 4 utterances, 2.0 h, 2 speakers and 1 utterances of unknown ones"
    assert lines[1] == "test: 2 utterances, 1.0 h, 2 speakers"
    assert lines[2].startswith("arousal: 6 ratings, mean 3.67, standard deviation 1.97, skewness ")
    assert lines[2].endswith("1 to 7, 33.3 % at the ends of the scale")
    assert lines[4].startswith("arousal and valence: r = -")
    assert lines[5:] == [
        "emotion: glad 3, cross 3",
        "1 speakers are in several parts of the split (first: b, in test, train)",
    ]
    assert repr(describe(manifest)).splitlines() == lines


def test_what_is_not_defined_is_a_dash_in_the_summary(manifest):
    manifest.table["arousal"] = 4.0  # no skewness, and no correlation
    text = describe(manifest).summary()
    assert "arousal: 6 ratings, mean 4.00, standard deviation 0.00, skewness –, 4 to 4, 0.0 %" in text
    assert "arousal and valence: r = –" in text
    manifest.table["arousal"] = np.nan
    assert (
        "arousal: 0 ratings, mean –, standard deviation –, skewness –, – to –, – % at" in describe(manifest).summary()
    )


def test_hours_are_unknown_where_a_length_is(manifest):
    manifest.table.loc[0, "end"] = np.nan
    hours = describe(manifest).sizes["hours"].tolist()
    assert np.isnan(hours[0])
    assert hours[1] == 1.0


def test_bars_count_the_ratings_and_colours_lie_around_zero():
    from matplotlib.figure import Figure

    ax = plot_ratings(pd.Series([1, 1, 4, 7, np.nan]), Figure().add_subplot(), scale=(1, 7))
    assert sum(bar.get_height() for bar in ax.patches) == 4
    assert ax.get_xlim() == (0.5, 7.5)
    r = pd.DataFrame([[1, -0.5], [-0.5, 1]], index=["a", "b"], columns=["a", "b"])
    ax = plot_correlations(r, Figure().add_subplot(), targets=["a", "b"], names=["a", "b"], size=8)
    same, other = (ax.patches[k].get_facecolor() for k in (0, 1))
    assert same[0] > same[2]
    assert other[0] < other[2]
    assert {t.get_text() for t in ax.texts} == {"1.0", "−.50"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a 1", "b 2"]


@pytest.mark.parametrize(
    ("n_raters", "low", "high", "decimals"), [(1, 1, 7, 9), (2, 1, 5, 9), (3, 1, 7, 2), (5, 1, 5, 9), (3, -1, 1, 9)]
)
def test_bins_fit_means_of_raters_so_that_every_value_that_they_can_have_has_its_own(n_raters, low, high, decimals):
    values = low + np.arange((high - low) * n_raters + 1) / n_raters  # what a mean of whole numbers can be
    ratings = np.repeat(values, 4).round(decimals)
    counts, edges = np.histogram(ratings, rating_bins(ratings, scale=(low, high)))
    assert counts.tolist() == [4] * len(values)
    np.testing.assert_allclose((edges[1:] + edges[:-1]) / 2, values, atol=1e-12)


def test_bins_of_many_values_hold_equally_many_of_them_and_other_ratings_have_bins_of_equal_width(rng):
    whole = np.arange(0.0, 101.0)
    counts, _ = np.histogram(whole, rating_bins(whole, scale=(0, 100)))
    assert set(counts[:-1]) == {5}
    assert counts.sum() == 101
    uneven = rng.uniform(1, 7, size=200)
    np.testing.assert_allclose(rating_bins(uneven, scale=(1, 7)), np.linspace(1, 7, 25))
    assert len(rating_bins(np.array([]), scale=(1, 7))) == 8


@pytest.mark.parametrize("width", PRINTED)
@pytest.mark.parametrize("n_targets", [1, 3, 8])
def test_no_text_lies_over_another(tmp_path, width, n_targets, rng):
    names = ["arousal", "valence", "dominance", "a rather long name of a target", "joy", "anger", "fear", "surprise"]
    table = pd.DataFrame({"utterance_id": range(60), "path": "x", "speaker_id": [f"s{k % 9}" for k in range(60)]})
    for name in names[:n_targets]:
        table[name] = rng.uniform(1, 7, size=60)
    table["emotion"] = rng.choice(["happiness", "sadness", "frustration"], size=60)
    scales = {t: Target(1, 7) for t in names[:n_targets]}
    nominal = {"emotion": Nominal(("happiness", "sadness", "frustration"))}
    manifest = Manifest(tmp_path / "my.csv", Header("t", "1", "n", scales, nominal=nominal), table)
    figure = corpus_figure(manifest, describe(manifest), width=width)
    assert_readable(figure, width)


def test_the_command_prints_and_plots(tmp_path, write_audio):
    rows = [
        {"utterance_id": f"u{k}", "path": write_audio(f"u{k}.wav", 0.2).name, "speaker_id": f"s{k % 3}",
         "arousal": 1 + k, "arousal_r1": 1 + k, "arousal_r2": min(7, 2 + k), "split": "train" if k < 4 else "test"}
        for k in range(6)
    ]  # fmt: skip
    path = write_table(tmp_path, rows)
    result = command("manifest", "describe", path, "--out", tmp_path / "seen")
    assert result.exit_code == 0, result.output
    assert "train: 4 utterances, 3 speakers" in result.stdout
    assert "2.0 raters per utterance: ICC(1) 0." in result.stdout
    assert "2 speakers are in several parts of the split (first: s1, in test, train)" in result.stdout
    assert (tmp_path / "seen" / "corpus.svg").exists()
    assert read_manifest(path).targets == ("arousal",)
