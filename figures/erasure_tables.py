"""Tidy rows behind the figure of erasure, with the columns of the CSV that is saved next to it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.analysis.erasure.removed import DIFFERENCES, FRACTIONS, SCORES
from layerprobe.analysis.erasure.tables import ALONE, DECODABLE
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS
from layerprobe.analysis.study import Study
from layerprobe.figures.errors import NothingToPlotError
from layerprobe.probe.layer_names import is_stack, relative_depth
from layerprobe.probe.results.erased import RANK

NUMBERS = [f"{name}{end}" for name in (*SCORES, *DIFFERENCES) for end in ("", "_ci_low", "_ci_high")]
COLUMNS = [
    "encoder", "target", "concept", "layer", "relative_depth", "metric", *NUMBERS, "interval", "random_min",
    "random_max", "n_random", "p_value", "p_layers", "p_adjusted", "plain_r2", "is_above_chance",
    *(f"{name}{end}" for name in FRACTIONS for end in ("", "_ci_low", "_ci_high")), *ALONE, *DECODABLE, RANK,
]  # fmt: skip


def erasure_rows(study: Study) -> pd.DataFrame:
    """Return the scores of each layer with and without each concept, and without random directions.

    Returns:
        columns of `analysis.study.Study.erasure`, with ``relative_depth``, ``metric`` and ``interval``:

        * ``encoder, target, concept, layer``
        * ``plain, plain_ci_low, plain_ci_high, erased, erased_ci_low, erased_ci_high, random, random_ci_low,
          random_ci_high``: scores; ``random_min, random_max, n_random``: of the repeats of random directions
        * ``removed, removed_ci_low, removed_ci_high, removed_random, removed_random_ci_low, removed_random_ci_high,
          beyond_random, beyond_random_ci_low, beyond_random_ci_high``: differences
        * ``p_value, p_layers, p_adjusted``: of ``beyond_random``
        * ``plain_r2, is_above_chance``, and what of it is removed: ``fraction, fraction_ci_low, fraction_ci_high,
          fraction_random, fraction_random_ci_low, fraction_random_ci_high``
        * ``concept_alone, concept_alone_ci_low, concept_alone_ci_high``
        * ``concept_r_before, concept_r, concept_r_refit_before, concept_r_refit, concept_rank``

    Raises:
        NothingToPlotError: if no concept was erased in the run, or not for targets of this kind
    """
    rows = study.erasure
    if rows.empty:
        raise NothingToPlotError(
            "LP798",
            f"{study.folders[0]} has no scores without a concept for these targets. Sweep with --without loudness,f0.",
        )
    depths: dict[tuple[str, str], float] = {}
    for encoder, names in study.layers.items():
        if is_stack(names):
            depths |= {(encoder, name): float(d) for name, d in zip(names, relative_depth(names), strict=True)}
    depth = [depths.get(pair, np.nan) for pair in zip(rows["encoder"], rows["layer"], strict=True)]
    known = rows["erased_ci_low"].notna() & rows["erased_ci_high"].notna()
    interval = np.where(known, BCA_SPEAKERS, "")
    return rows.assign(relative_depth=depth, metric=study.metric, interval=interval)[COLUMNS]
