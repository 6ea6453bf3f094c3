"""A planted word of synthetic speech is found at its time by a sweep over ratings of words."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.planted_words import extracted, hit_rate, peaks_of, planted_words, swept

pytest.importorskip("espeakng_loader", reason="utterances are synthesised by espeak-ng")


@pytest.mark.long
@pytest.mark.parametrize("encoder", ["acoustic", "embedded"])
def test_a_planted_word_is_found_within_a_tenth_of_a_second(tmp_path, encoder):
    corpus = planted_words(tmp_path / "corpus", n=96, rng=np.random.default_rng(0))
    cache = extracted(corpus, encoder, tmp_path / "spans.zarr", None)
    peaks = peaks_of(swept(cache, corpus, corpus.spans, tmp_path / "run"))
    assert len(corpus.planted) == 48
    assert hit_rate(peaks, corpus.planted) >= 0.95
    with_word = peaks["utterance_id"].isin(list(corpus.planted))
    assert peaks["deviation"][with_word].median() > 2 * peaks["deviation"][~with_word].quantile(0.75)
