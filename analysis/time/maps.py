"""The layer × time map: the score of each layer in each bin with its interval, and whether it is above chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS, FEWEST_SPEAKERS, MOST_UNDEFINED, BootstrapSample
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.analysis.time.chance import map_chance
from layerprobe.probe.metrics import LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.tasks.controls import CHANCE

KEYS = ["encoder", "target", "layer", "bin"]
MAP_COLUMNS = [
    *KEYS, "value", "ci_low", "ci_high", "interval", "p_permutation", "p_adjusted", "chance", "n_permutations",
    "in_best_set", "p_not_best", "n_utterances", "n_speakers",
]  # fmt: skip


@dataclass(frozen=True)
class BinScores:
    """Everything that a map of a study is made from."""

    bins: TimeBins
    layers: dict[str, list[str]]  # of each encoder, in order
    targets: Sequence[str]
    metric: str  # a key of `METRIC_NAMES`
    scores: pd.DataFrame  # tidy rows of `SCORE_COLUMNS`, those of bins
    bootstrap: BootstrapScores | None  # of `bin_bootstrap`
    counts: pd.DataFrame  # of `bin_counts`

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return self.metric in LOWER_IS_BETTER

    def row(self, encoder: str, target: str, layer: str) -> tuple[list[str], BootstrapSample] | None:
        """Return the bins of a layer whose scores have an interval, in order, with their scores; None below two."""
        if self.bootstrap is None:
            return None
        keys = self.bootstrap.keys
        own = keys[(keys["encoder"] == encoder) & (keys["target"] == target) & (keys["layer"] == layer)]
        index = pd.Series(own.index.to_numpy(), index=own["bin"])
        names = [name for name in self.bins.names if name in index.index]
        if len(names) < 2:
            return None
        sample = self.bootstrap.scores[index[names].to_numpy()]
        known = np.isfinite(sample.estimate) & (sample.counted >= FEWEST_SPEAKERS)
        known &= np.isfinite(sample.resamples).mean(axis=0) >= 1 - MOST_UNDEFINED
        if known.sum() < 2:
            return None
        return [name for name, k in zip(names, known, strict=True) if k], sample[np.flatnonzero(known)]


def time_map(given: BinScores) -> pd.DataFrame:
    """Return the score of each layer in each bin, for each encoder and target.

    Returns:
        `MAP_COLUMNS`, ordered by encoder, target, layer and time. ``value`` is the score over all held-out utterances
        with a span in the bin, ``ci_low, ci_high`` its 95 % BCa interval over speakers. ``p_permutation`` is of the
        cell alone, ``p_adjusted`` for all layers and bins of the encoder and target, and ``chance`` the score that a
        cell must exceed for it to be at most .05 (`map_chance`). ``in_best_set, p_not_best`` are of the 95 % set of
        the bins of each layer (`analysis.statistics.best_set`), and missing where it has fewer than two bins
    """
    rows = given.scores[(given.scores["metric"] == given.metric) & (given.scores["fold"] == POOLED)]
    rows = rows[rows["probe"] == "ridge"]
    parts = []
    for encoder, layers in given.layers.items():
        for target in given.targets:
            own = rows[(rows["encoder"] == encoder) & (rows["target"] == target)]
            cells = _cells(own, layers, given)
            if len(cells):
                parts.append(cells.assign(encoder=encoder, target=target))
    if not parts:
        return pd.DataFrame(columns=MAP_COLUMNS)
    table = pd.concat(parts, ignore_index=True)
    table = _with_intervals(table, given).merge(given.counts, how="left", on=["encoder", "target", "bin"])
    return _with_best_bins(table, given).reindex(columns=MAP_COLUMNS)


def _cells(own: pd.DataFrame, layers: list[str], given: BinScores) -> pd.DataFrame:
    """Return the cells of one encoder and target with their tests against chance."""
    sign = -1.0 if given.lower_is_better else 1.0
    real = own[own["control"] == "none"].groupby(["layer", "bin"])["value"].mean()
    cells = pd.MultiIndex.from_product([layers, given.bins.names], names=["layer", "bin"])
    cells = cells[cells.isin(real.dropna().index)]
    table = pd.DataFrame({"value": real.reindex(cells)}).reset_index()
    control = next((c for c in CHANCE if (own["control"] == c).any()), None)
    if control is None or table.empty:
        return table.assign(p_permutation=np.nan, p_adjusted=np.nan, chance=np.nan, n_permutations=0)
    permuted = own[own["control"] == control].pivot(index="seed", columns=["layer", "bin"], values="value")
    null = permuted.reindex(columns=cells).to_numpy(dtype=float)
    found = map_chance(sign * table["value"].to_numpy(dtype=float), sign * null)
    return table.assign(
        p_permutation=found.p_permutation,
        p_adjusted=found.p_adjusted,
        chance=sign * found.level,
        n_permutations=found.n_permutations,
    )


def _with_intervals(table: pd.DataFrame, given: BinScores) -> pd.DataFrame:
    if given.bootstrap is None:
        return table.assign(ci_low=np.nan, ci_high=np.nan, interval="")
    ends = given.bootstrap.table()[[*KEYS, "ci_low", "ci_high"]]
    merged = table.merge(ends, how="left", on=KEYS)
    known = merged["ci_low"].notna() & merged["ci_high"].notna()
    return merged.assign(interval=np.where(known, BCA_SPEAKERS, ""))


def _with_best_bins(table: pd.DataFrame, given: BinScores) -> pd.DataFrame:
    """Add the 95 % set of the bins of each layer."""
    inside = pd.Series(pd.NA, table.index, dtype="boolean")
    p_not_best = pd.Series(np.nan, table.index)
    for (encoder, target, layer), rows in table.groupby(["encoder", "target", "layer"], sort=False):
        found = given.row(str(encoder), str(target), str(layer))
        if found is None:
            continue
        names, sample = found
        best = best_set(sample, lower_is_better=given.lower_is_better)
        index = pd.Series(rows.index.to_numpy(), index=rows["bin"])[names].to_numpy()
        inside[index], p_not_best[index] = best.is_in, best.p_not_best
    return table.assign(in_best_set=inside, p_not_best=p_not_best)
