"""The demo's corpus: prosody and text determine its ratings as stated, and its bytes are reproducible."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.synthesis.demo_corpus import (
    ADJECTIVES,
    HEADER,
    N_RATERS,
    NEGATED,
    VOICES,
    plan_corpus,
    write_corpus,
)

pytest.importorskip("espeakng_loader")
PUBLISHED = Path(__file__).parents[2] / "data_manifests"
NEGATIONS = {"not", "never", NEGATED[1].split()[0]}


def valence_of(text):
    """Return a sentence's valence: that of its adjectives, with the opposite sign if it is negated."""
    tokens = text.split()
    side = {w: v for v, adjectives in ADJECTIVES.items() for w in adjectives}
    (value,) = {side[t] for t in tokens if t in side}
    return -value if NEGATIONS & set(tokens) else value


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    return [write_corpus(tmp_path_factory.mktemp(name)) for name in ("one", "two")]


def test_the_corpus_is_byte_for_byte_the_same_each_time(spoken):
    def digest(manifest):
        files = sorted(p for p in manifest.parent.rglob("*") if p.is_file())
        return [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]

    one, two = map(digest, spoken)
    assert len(one) == 384 + 2
    assert one == two


def test_it_passes_the_check_like_anyones(spoken):
    manifest = read_manifest(spoken[0])
    assert len(manifest.table) == 384
    assert manifest.table["speaker_id"].nunique() == len(set(VOICES)) == 24
    assert manifest.header == HEADER


def test_the_published_manifest_is_the_one_that_is_made(spoken):
    for name in ("demo.csv", "demo.toml"):
        assert (PUBLISHED / name).read_bytes() == (spoken[0].parent / name).read_bytes()


def test_arousal_is_in_the_prosody_and_valence_in_the_text_alone():
    planned = plan_corpus(seed=1)
    table = planned.table
    for name in ("rate", "pitch", "pitch_range", "volume"):
        setting = np.array([getattr(u, name) for u in planned.utterances])
        assert np.corrcoef(setting, table["arousal"])[0, 1] > 0.6
        assert abs(np.corrcoef(setting, table["valence"])[0, 1]) < 0.15
    meant = table["transcript"].map(valence_of)
    assert np.corrcoef(meant, table["valence"])[0, 1] > 0.85
    assert abs(np.corrcoef(meant, table["arousal"])[0, 1]) < 0.15


def test_no_single_word_decides():
    table = plan_corpus(seed=1).table
    by_word = Counter()
    for text, valence in zip(table["transcript"], table["transcript"].map(valence_of), strict=True):
        for word in set(text.split()):
            by_word[word, valence] += 1
    for word in (w for side in (1, -1) for w in ADJECTIVES[side]):
        positive, negative = by_word[word, 1], by_word[word, -1]
        assert min(positive, negative) / max(positive, negative) > 0.3, word
    assert all(NEGATIONS & set(frame.split()) for frame in NEGATED)


def test_dominance_is_the_stated_mix():
    # raters' noise is independent for each target, so it leaves covariances alone; one in points is 1.2 * 1.2 in sd
    covariances = [plan_corpus(seed).table[[*HEADER.targets]].cov()["dominance"] / 1.2**2 for seed in range(6)]
    mean = sum(covariances) / 6
    assert mean["arousal"] == pytest.approx(0.7, abs=0.06)
    assert mean["valence"] == pytest.approx(0.5, abs=0.06)


def test_ratings_are_the_mean_of_whole_points_of_three_raters():
    table = plan_corpus(seed=1).table
    for target in HEADER.targets:
        points = table[[f"{target}_r{r}" for r in range(1, N_RATERS + 1)]]
        assert points.isin(range(1, 8)).all(axis=None)
        np.testing.assert_allclose(points.mean(axis=1), table[target], atol=1e-4)
        assert 0.5 < points.corr().iloc[0, 1] < 0.9  # raters agree, but not wholly
