"""The table of similarities: every pair of layers, on utterances spread over speakers; planted layers are found."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers.textbook_similarity import textbook_cka, textbook_rho

from layerprobe.analysis.similarity.cca import ridge_cca
from layerprobe.analysis.similarity.table import (
    COLUMNS,
    RATINGS,
    similarity_table,
    speaker_halves,
    standardised,
    stratify_by_speaker,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def corpus(*, n=240, n_speakers=24):
    """Two encoders of which layer 2 of speech, and layer 0 of text, hold valence; arousal is in layer 0 of speech."""
    rng = np.random.default_rng(11)
    speakers = rng.permutation(np.repeat(np.arange(n_speakers), n // n_speakers))
    valence, arousal = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    stores = {
        "speech": {"0": arousal @ rng.normal(size=(2, 20)), "1": np.zeros((n, 20)), "2": valence @ np.eye(2, 20)},
        "text": {"0": 5 * valence @ rng.normal(size=(2, 12))},
    }
    for layers in stores.values():
        for name in layers:
            layers[name] = (layers[name] + 0.3 * rng.normal(size=layers[name].shape)).astype(np.float32)
    ratings = pd.DataFrame({"arousal": arousal[:, 0], "valence": valence[:, 0]})
    return stores, ratings, speakers


def sources_of(stores, seen=None):
    def read(encoder, layer, rows):
        if seen is not None:
            seen.append((encoder, layer, rows))
        return stores[encoder][layer][rows]

    return {encoder: (list(layers), partial(read, encoder)) for encoder, layers in stores.items()}


def value(table, measure, a, b, column="value"):
    return table.set_index(COLUMNS[:5]).loc[(measure, *a, *b), column]


def test_the_table_has_every_pair_in_both_orders_with_the_same_numbers():
    stores, ratings, speakers = corpus()
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=99)
    assert list(table) == COLUMNS
    assert table["measure"].value_counts().to_dict() == {"cka": 36, "rsa": 36, "cca": 16}
    assert not table.duplicated(COLUMNS[:5]).any()
    assert RATINGS not in set(table.loc[table["measure"] == "cca", ["encoder_a", "encoder_b"]].to_numpy().ravel())
    swapped = table.rename(columns=dict(zip(COLUMNS[1:5], [*COLUMNS[3:5], *COLUMNS[1:3]], strict=True)))
    both = table.merge(swapped, on=COLUMNS[:5], suffixes=("", "_swapped"))
    assert len(both) == len(table)
    np.testing.assert_array_equal(both[["value", "p_permutation"]], both[["value_swapped", "p_permutation_swapped"]])
    assert table["p_permutation"].notna().equals(table["measure"] == "rsa")
    assert table["value"].between(-1, 1 + 1e-6).all()
    itself = table[(table["encoder_a"] == table["encoder_b"]) & (table["layer_a"] == table["layer_b"])]
    np.testing.assert_allclose(itself["value"], 1, atol=1e-6)


def test_the_table_says_what_the_pure_functions_say_of_standardised_layers():
    stores, ratings, speakers = corpus()
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=99)
    a, b, rating = (standardised(v) for v in (stores["speech"]["2"], stores["text"]["0"], ratings[["valence"]].values))
    pair = ("speech", "2"), ("text", "0")
    for other, name in ((b, pair[1]), (rating, (RATINGS, "valence"))):
        assert value(table, "cka", pair[0], name) == pytest.approx(textbook_cka(a, other), abs=1e-5)
        assert value(table, "rsa", pair[0], name) == pytest.approx(textbook_rho(a, other, speakers), abs=1e-10)
    halves = speaker_halves(speakers, rng=np.random.default_rng(0).spawn(3)[1])
    choices = {"penalty": 0.1, "n_components": 10, "max_rank": 100}
    fits = [ridge_cca(a, b, train=halves[k], test=halves[1 - k], **choices).mean for k in (0, 1)]
    assert value(table, "cca", *pair) == pytest.approx(np.mean(fits), abs=1e-10)


def test_the_table_finds_the_layers_where_ratings_and_text_were_planted():
    stores, ratings, speakers = corpus()
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=199)
    for measure in ("cka", "rsa"):
        for other, layer in (((RATINGS, "arousal"), "0"), ((RATINGS, "valence"), "2"), (("text", "0"), "2")):
            values = {name: value(table, measure, ("speech", name), other) for name in "012"}
            assert max(values, key=values.get) == layer
            assert abs(values["1"]) < 0.1
    assert value(table, "cca", ("speech", "2"), ("text", "0")) > 2 * value(table, "cca", ("speech", "1"), ("text", "0"))
    assert value(table, "rsa", ("speech", "2"), ("text", "0"), "p_permutation") == 1 / 200
    assert value(table, "rsa", ("speech", "1"), ("text", "0"), "p_permutation") > 0.01


def test_a_seed_repeats_the_table_bit_for_bit_and_another_draws_other_utterances():
    stores, ratings, speakers = corpus()

    def table(seed):
        return similarity_table(sources_of(stores), ratings, speakers, seed=seed, max_utterances=100, n_permutations=19)

    pd.testing.assert_frame_equal(table(0), table(0), check_exact=True)
    assert not table(0)["value"].equals(table(1)["value"])


def test_each_layer_is_read_once_for_the_same_rated_utterances_spread_over_speakers():
    stores, ratings, speakers = corpus()
    ratings.loc[::3, "valence"] = np.nan
    seen = []
    similarity_table(sources_of(stores, seen), ratings, speakers, seed=0, max_utterances=72, n_permutations=9)
    assert [encoder + layer for encoder, layer, _ in seen] == ["speech0", "speech1", "speech2", "text0"]
    rows = seen[0][2]
    assert all(np.array_equal(rows, other) for _, _, other in seen)
    assert (np.diff(rows) > 0).all()
    assert (rows % 3 != 0).all()
    assert np.unique(speakers[rows], return_counts=True)[1].tolist() == [3] * 24
    assert stratify_by_speaker(speakers, max_utterances=240, rng=np.random.default_rng(0)).tolist() == [*range(240)]


def test_cca_sees_no_likeness_in_sides_that_only_know_their_speakers():
    """Each side has a code of its own for each speaker: utterances split at random would correlate perfectly."""
    rng = np.random.default_rng(5)
    speakers = np.repeat(np.arange(40), 10)
    x, y = rng.normal(size=(2, 40, 10))[:, speakers] + 0.01 * rng.normal(size=(2, 400, 10))
    sources, unrated = sources_of({"a": {"0": x}, "b": {"0": y}}), pd.DataFrame(index=range(400))
    table = similarity_table(sources, unrated, speakers, seed=0, n_permutations=9, n_components=1)
    mixed = np.split(rng.permutation(400), 2)
    assert ridge_cca(x, y, train=mixed[0], test=mixed[1], penalty=0.1, n_components=1).mean > 0.7
    assert abs(value(table, "cca", ("a", "0"), ("b", "0"))) < 0.45  # two correlations over 20 speakers each


def test_halves_share_no_speaker_and_are_about_equal(rng):
    speakers = rng.choice(np.arange(30), p=np.arange(1, 31) / 465, size=600)
    first, second = speaker_halves(speakers, rng=rng)
    assert not set(speakers[first]) & set(speakers[second])
    np.testing.assert_array_equal(np.sort(np.r_[first, second]), np.arange(600))
    assert abs(len(first) - len(second)) <= 60  # no more than one speaker says


def test_a_constant_layer_is_nan_and_leaves_the_others_alone():
    stores, ratings, speakers = corpus()
    without = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=19)
    rounding = np.float32(1e-8) * (np.arange(240)[:, None] % 2)  # the last bit of 0.1
    stores["text"]["dead"] = np.full((240, 12), 0.1, dtype=np.float32) + rounding
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=19)
    dead = (table["layer_a"] == "dead") | (table["layer_b"] == "dead")
    assert table.loc[dead, ["value", "p_permutation"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(table[~dead].reset_index(drop=True), without, rtol=0, atol=1e-6)


def test_tables_that_cannot_be_made_are_refused():
    stores, ratings, speakers = corpus()
    sources = sources_of(stores)
    with pytest.raises(
        ValueError, match=r"^a source is called 'ratings', as the rated targets are; give it another na"
    ):
        similarity_table({"ratings": sources["text"]}, ratings, speakers, seed=0)
    with pytest.raises(ValueError, match=r"^ratings have 239 utterances and speakers 240; give both the same$"):
        similarity_table(sources, ratings[1:], speakers, seed=0)
    with pytest.raises(
        ValueError, match=r"^text, layer 0: \(239, 2\) was read, not \(240, dim\); correct its read function$"
    ):
        similarity_table({"text": (["0"], lambda layer, rows: np.zeros((239, 2)))}, ratings, speakers, seed=0)
    with pytest.raises(ValueError, match=r"^RSA needs 3 speakers and there are 2; add utterances of others$"):
        similarity_table(sources, ratings, speakers % 2, seed=0)
    with pytest.raises(ValueError, match=r"^halves of the speakers hold 237 and 3 utterances, and CCA needs 4 in each"):
        similarity_table(sources, ratings, np.clip(np.arange(240), 0, 3), seed=0)
    stores["text"]["0"][7, 3] = np.nan
    with pytest.raises(ValueError, match=r"^text, layer 0: 1 utterances are not finite; extract them again$"):
        similarity_table(sources, ratings, speakers, seed=0)
    ratings.loc[7:, "valence"] = np.nan
    with pytest.raises(
        ValueError, match=r"^7 of 240 utterances have all ratings, and similarity needs 8; add utteranc"
    ):
        similarity_table(sources, ratings, speakers, seed=0)
