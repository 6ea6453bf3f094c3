"""The words of transcripts as numbers, without a language model."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

WORD_FEATURES = 1024


def word_counts(transcripts: Sequence[str], *, n_features: int = WORD_FEATURES) -> np.ndarray:
    """Words and pairs of neighbours, counted and hashed, ``(n_utterances, n_features)`` float32.

    The text alone without a language model, and so a floor for what the words say. Nothing is learnt from the corpus:
    each word or pair has a place and a sign by its CRC-32 (Weinberger et al., 2009), and adds the root of its count.
    """
    counts = np.zeros((len(transcripts), n_features), dtype=np.float32)
    for row, text in enumerate(transcripts):
        words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
        pairs = [f"{a} {b}" for a, b in pairwise(words)]
        for token, count in Counter([*words, *pairs]).items():
            code = zlib.crc32(token.encode())
            counts[row, (code >> 1) % n_features] += (1 if code & 1 else -1) * np.sqrt(count)
    return counts
