"""The table of erasure that a study has where concepts were erased from the layers of its runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from layerprobe.analysis.erasure.removed import COLUMNS, erasure_table
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.analysis.statistics.permutation import ALPHA, least_adjusted_p
from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.probe.metrics import CLASS_METRICS, LOWER_IS_BETTER
from layerprobe.probe.results.erased import AFTER, BEFORE, CONCEPT_ONLY, RANK, REFIT, REFIT_BEFORE
from layerprobe.probe.results.run_folder import POOLED, Predictions, Run

ALONE = ["concept_alone", "concept_alone_ci_low", "concept_alone_ci_high"]
DECODABLE = [BEFORE, AFTER, REFIT_BEFORE, REFIT]
ERASURE_COLUMNS = [*COLUMNS, *ALONE, *DECODABLE, RANK]


class ErasedRows(Protocol):
    """Scores and predictions without concepts; see `analysis.runs.ErasedTables`."""

    @property
    def scores(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def predictions(self) -> Predictions: ...  # noqa: D102


class ErasedStudy(Protocol):
    """What of a study the table of erasure is made from; see `analysis.study.Study`."""

    @property
    def runs(self) -> list[Run]: ...  # noqa: D102
    @property
    def layers(self) -> dict[str, list[str]]: ...  # noqa: D102
    @property
    def targets(self) -> list[str]: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def predictions(self) -> Predictions: ...  # noqa: D102
    @property
    def permutations(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def erased(self) -> ErasedRows | None: ...  # noqa: D102


class ErasureTables:
    """The table of erasure of a study; without erased concepts it has no rows."""

    @cached_property
    def erasure(self: ErasedStudy) -> pd.DataFrame:
        """What erasing each concept removes from the score of each layer, compared with random directions.

        The columns of `analysis.erasure.removed.erasure_table`; ``concept_alone`` with its interval, the score of the
        concept's values without a layer; and of the concept itself, of several that were erased together the largest:
        ``concept_r_before, concept_r``, Pearson's r of a probe of the training speakers in unseen speakers, and
        ``concept_r_refit_before, concept_r_refit`` of a probe of other held-out speakers, both before and after the
        concept was erased; ``concept_rank`` is the largest number of directions of a fold.
        """
        if self.erased is None:
            return pd.DataFrame(columns=ERASURE_COLUMNS)
        predictions = with_plain(self.erased.predictions, self.predictions)
        scores = bootstrap_scores(predictions, metric=self.metric)
        of_classes = self.metric in CLASS_METRICS
        r2 = None if of_classes else scores if self.metric == "r2" else bootstrap_scores(predictions, metric="r2")
        folds = self.runs[0].plan["folds"]
        sizes = ([fold[f"n_{part}_speakers"] for fold in folds] for part in ("test", "train"))
        table = erasure_table(
            scores,
            r2,
            layers=self.layers,
            targets=self.targets,
            p_chance=chance_p_values(self.permutations),
            inflation=training_inflation(*sizes),
            lower_is_better=self.metric in LOWER_IS_BETTER,
        )
        table = table.merge(concepts_alone(scores), how="left", on=["target", "concept"])
        table = table.merge(decodable(self.erased.scores), how="left", on=["encoder", "layer", "concept"])
        return table[ERASURE_COLUMNS]


def with_plain(erased: Predictions, plain: Predictions) -> Predictions:
    """Return the predictions without concepts together with those of the same encoders' layers as they are."""
    columns = plain.columns
    chosen = (columns["probe"] == "ridge") & (columns["control"] == "none") & columns["encoder"].ne("")
    own = chosen.to_numpy() & columns["encoder"].isin(set(erased.columns["encoder"])).to_numpy()
    return replace(
        erased,
        columns=pd.concat([columns[own], erased.columns], ignore_index=True),
        prediction=np.concatenate([plain.prediction[:, own], erased.prediction], axis=1),
        matched=np.concatenate([plain.matched[:, own], erased.matched], axis=1),
    )


def chance_p_values(permutations: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Return the p-value of each encoder, target and layer against chance, without those of too few permutations.

    Args:
        permutations: of `analysis.statistics.permutation.permutation_table`
    """
    return {
        (str(row["encoder"]), str(row["target"]), str(row["layer"])): float(row["p_permutation"])
        for row in permutations.to_dict("records")
        if least_adjusted_p(int(row["n_permutations"]), 1) <= ALPHA
    }


def concepts_alone(scores: BootstrapScores) -> pd.DataFrame:
    """Return the score of each concept that predicts a target by itself: ``target, concept`` and `ALONE`."""
    keys = scores.keys
    rows = keys[(keys["baseline"] == CONCEPT_ONLY) & (keys["erased"] != "")]
    found = []
    for index, key in zip(rows.index, rows.to_dict("records"), strict=True):
        one = scores.scores[int(index)].one()
        ends = (one.estimate, one.ci_low, one.ci_high)
        found.append({"target": key["target"], "concept": key["erased"], **dict(zip(ALONE, ends, strict=True))})
    return pd.DataFrame(found, columns=["target", "concept", *ALONE])


def decodable(scores: pd.DataFrame) -> pd.DataFrame:
    """Return how well concepts are decoded from each layer; of several that were erased together, the best decoded.

    Args:
        scores: rows of scores.csv whose metrics are `DECODABLE` and `RANK`, and whose targets are single concepts

    Returns:
        ``encoder, layer, concept``, `DECODABLE` and `RANK`; a number that no row has is NaN
    """
    rows = scores[scores["metric"].isin([*DECODABLE, RANK]) & (scores["fold"] == POOLED)]
    keys = ["encoder", "layer", "concept"]
    largest = rows.rename(columns={"erased": "concept"}).groupby([*keys, "metric"], sort=False)["value"].max()
    return largest.unstack().reindex(columns=[*DECODABLE, RANK]).reset_index()
