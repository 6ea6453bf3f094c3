"""The tables over time that a study has where its runs were swept by bins of time."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import pandas as pd

from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.analysis.time.maps import MAP_COLUMNS, BinScores, time_map
from layerprobe.analysis.time.peaks import PEAK_COLUMNS, time_peaks
from layerprobe.analysis.time.scores import bin_bootstrap, bin_counts
from layerprobe.probe.results.run_folder import Predictions, Run


class BinRows(Protocol):
    """Scores and predictions of bins; see `analysis.runs.BinTables`."""

    @property
    def scores(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def predictions(self) -> Predictions: ...  # noqa: D102


class BinnedStudy(Protocol):
    """What of a study the tables over time are made from; see `analysis.study.Study`."""

    @property
    def runs(self) -> list[Run]: ...  # noqa: D102
    @property
    def layers(self) -> dict[str, list[str]]: ...  # noqa: D102
    @property
    def targets(self) -> list[str]: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def bins(self) -> BinRows | None: ...  # noqa: D102
    @property
    def bin_scores(self) -> BinScores | None: ...  # noqa: D102
    @property
    def time_map(self) -> pd.DataFrame: ...  # noqa: D102


class TimeTables:
    """Tables over time of a study; without bins they have no rows."""

    @cached_property
    def bin_scores(self: BinnedStudy) -> BinScores | None:
        """Scores of all layers in all bins with their resamples; None of runs without bins."""
        plans = (TimeBins.from_plan(run.plan.get("time", {})) for run in self.runs)  # equal where a run has any
        found = next((bins for bins in plans if bins is not None), None)
        if found is None or self.bins is None:
            return None
        predictions = self.bins.predictions
        bootstrap = bin_bootstrap(predictions, metric=self.metric)
        counts = bin_counts(predictions)
        return BinScores(found, self.layers, self.targets, self.metric, self.bins.scores, bootstrap, counts)

    @cached_property
    def time_map(self: BinnedStudy) -> pd.DataFrame:
        """The score of each layer in each bin of time with interval and chance; see `analysis.time.maps.time_map`."""
        return pd.DataFrame(columns=MAP_COLUMNS) if self.bin_scores is None else time_map(self.bin_scores)

    @cached_property
    def time_peak(self: BinnedStudy) -> pd.DataFrame:
        """The best bin of each layer, and its difference from the worst; see `analysis.time.peaks.time_peaks`."""
        if self.bin_scores is None:
            return pd.DataFrame(columns=PEAK_COLUMNS)
        folds = self.runs[0].plan["folds"]
        sizes = ([fold[f"n_{part}_speakers"] for fold in folds] for part in ("test", "train"))
        return time_peaks(self.time_map, self.bin_scores, inflation=training_inflation(*sizes))
