"""Tables of erasure to draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SEVEN = ("loudness", "f0", "loudness+f0+speech_rate", "duration", "gender", "text", "speaker")


def erasure_table(
    layers: dict[str, list[str]], targets: Sequence[str], concepts: Sequence[str] = SEVEN, *, seed: int = 0
) -> pd.DataFrame:
    """Return rows as of `figures.erasure_tables.erasure_rows`, in which every other concept removes something."""
    rng, rows = np.random.default_rng(seed), []
    for encoder, names in layers.items():
        for target in targets:
            plain = rng.uniform(0.3, 0.7, size=len(names))
            for number, concept in enumerate(concepts):
                removes = number % 2 == 0
                for score, layer in zip(plain, names, strict=True):
                    random, erased = score - 0.02, score - (0.25 if removes else 0.03)
                    row = {"encoder": encoder, "target": target, "concept": concept, "layer": layer, "plain": score}
                    row |= {"erased": erased, "erased_ci_low": erased - 0.06, "erased_ci_high": erased + 0.05}
                    row |= {"random": random, "random_min": random - 0.02, "random_max": random + 0.01}
                    row |= {"beyond_random": random - erased}
                    rows.append({**row, "p_adjusted": 0.01 if removes else 0.4, "concept_alone": 0.1 * number})
    return pd.DataFrame(rows)
