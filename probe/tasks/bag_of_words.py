"""Hashed n-gram features of transcripts, without a language model."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

WORD_FEATURES = 1024


def word_counts(transcripts: Sequence[str], *, n_features: int = WORD_FEATURES) -> np.ndarray:
    """Return hashed counts of unigrams and bigrams, ``(n_utterances, n_features)`` float32.

    They are a baseline for what the text predicts without a language model. Nothing is learnt from the corpus: the
    CRC-32 of each unigram or bigram selects a feature and a sign (Weinberger et al., 2009), to which the root of its
    count is added.
    """
    counts = np.zeros((len(transcripts), n_features), dtype=np.float32)
    for row, text in enumerate(transcripts):
        tokens = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
        pairs = [f"{a} {b}" for a, b in pairwise(tokens)]
        for token, count in Counter([*tokens, *pairs]).items():
            code = zlib.crc32(token.encode())
            counts[row, (code >> 1) % n_features] += (1 if code & 1 else -1) * np.sqrt(count)
    return counts
