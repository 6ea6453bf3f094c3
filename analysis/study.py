"""Read one or several runs as a study, from whose tables findings and figures are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.answer_html import notebook_html
from layerprobe.analysis.answers import Answer, answers
from layerprobe.analysis.layers.classes import confusion
from layerprobe.analysis.layers.depth import CHANCE_IS_ZERO, Depth, contrasts, depths
from layerprobe.analysis.layers.gains import gains_over_best_random, gains_over_random
from layerprobe.analysis.layers.scores import best_layer, layer_scores, with_intervals
from layerprobe.analysis.layers.selection import regrets, with_chosen
from layerprobe.analysis.layers.shift import SHIFT_METRICS, shift_contrasts
from layerprobe.analysis.layers.variance_partitioning import variance_partition
from layerprobe.analysis.layers.weights import weights_with_scores
from layerprobe.analysis.model_comparison import fusion_gains, paired_differences
from layerprobe.analysis.runs import (
    SIMILARITY as SIMILARITY,
    BinTables,
    chosen_metric,
    read_side_by_side,
    read_similarity,
)
from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.analysis.statistics.estimates import FEWEST_SPEAKERS
from layerprobe.analysis.statistics.permutation import holm, permutation_table
from layerprobe.analysis.statistics.word_error_rate import read_word_errors
from layerprobe.analysis.subgroups import cross_corpus, group_scores, speaker_scores
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_METRIC, LOWER_IS_BETTER, METRIC_NAMES
from layerprobe.probe.results.run_folder import CHOSEN, Predictions, Run, read_run
from layerprobe.probe.results.selection import chosen_layers


@dataclass(frozen=True, repr=False)
class Study:
    """Runs on the same utterances and splits; each table is computed when it is first read."""

    folders: list[Path]
    runs: list[Run]
    metric: str  # a key of `METRIC_NAMES`
    layers: dict[str, list[str]]  # for each encoder, by the name it is shown under, its layers in order
    scores: pd.DataFrame  # tidy rows of all runs, without those of probes trained on a single corpus
    weights: pd.DataFrame  # tidy rows of the layer weights of all runs
    predictions: Predictions  # held-out predictions of all runs, and of the layers selected by cross-validation
    bins: BinTables | None = None  # scores and predictions of spans in time, which no other table has; None without

    def __repr__(self) -> str:
        """Return the folders, the metric, the encoders and the targets in one line."""
        folders = ", ".join(map(str, self.folders))
        return (
            f"Study({folders}: {METRIC_NAMES[self.metric]}; encoders {', '.join(self.layers)}; "
            f"targets {', '.join(self.targets)})"
        )

    def _repr_html_(self) -> str:
        """Return the table of `answers`, for notebooks."""
        return notebook_html(repr(self), self.answers)

    @property
    def targets(self) -> list[str]:
        """Targets that the metric scores, rated or nominal."""
        return self.runs[0].nominal_targets if self.metric in CLASS_METRICS else self.runs[0].targets

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the run, or of all runs together."""
        prints = [run.fingerprint for run in self.runs]
        return prints[0] if len(prints) == 1 else combined_fingerprint(*prints)

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return self.metric in LOWER_IS_BETTER

    @cached_property
    def bootstrap(self) -> BootstrapScores:
        """Scores in bootstrap resamples of the speakers."""
        return bootstrap_scores(self.predictions, metric=self.metric)

    @cached_property
    def correlation_bootstrap(self) -> BootstrapScores:
        """Scores by `shift_metric` in bootstrap resamples of the speakers."""
        same = self.shift_metric == self.metric
        return self.bootstrap if same else bootstrap_scores(self.predictions, metric=self.shift_metric)

    @cached_property
    def table(self) -> pd.DataFrame:
        """`layer_scores` with intervals, and for ridge ``in_best_set, p_not_best, win_rate`` and median ``alpha``."""
        intervals = self.bootstrap.table().dropna(subset=["ci_low", "ci_high"])
        table = with_intervals(layer_scores(self.scores, metric=self.metric), intervals)
        alpha = self.scores[(self.scores["metric"] == "alpha") & (self.scores["probe"] == "ridge")]
        keys = ["encoder", "control", "probe", "target", "layer"]
        median = alpha.groupby(keys, sort=False)["value"].median().rename("alpha").reset_index()
        table = table.merge(self.best, how="left", on=keys).merge(median, how="left", on=keys)
        table["in_best_set"] = table["in_best_set"].eq(True)
        return table

    @cached_property
    def best(self) -> pd.DataFrame:
        """The 95 % sets of best layers, of trained and randomly initialised encoders.

        ``encoder, control, probe, target, layer, in_best_set, p_not_best, win_rate``; the columns are those of
        `analysis.statistics.best_set.BestSet`. Empty where fewer than three speakers were held out.
        """
        rows, few = [], self.bootstrap.n_speakers < FEWEST_SPEAKERS
        for encoder, names in self.layers.items():
            for control in ("none", "random_init"):
                for target in self.targets:
                    label = {"encoder": encoder, "control": control, "probe": "ridge", "target": target}
                    found = self.bootstrap.of(names, **label)
                    if found is None or few or not np.isfinite(found.estimate).all():
                        continue
                    best = best_set(found, lower_is_better=self.lower_is_better)
                    rows += [
                        {**label, "layer": name, "in_best_set": bool(inside), "p_not_best": p, "win_rate": win_rate}
                        for name, inside, p, win_rate in zip(
                            names, best.is_in, best.p_not_best, best.win_rate, strict=True
                        )
                    ]
        columns = ["encoder", "control", "probe", "target", "layer", "in_best_set", "p_not_best", "win_rate"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def cv_selected(self) -> pd.DataFrame:
        """The layer selected in each fold by cross-validation inside its training speakers."""
        return chosen_layers(self.scores)

    @cached_property
    def evaluated_layers(self) -> dict[tuple[str, str], str]:
        """For each encoder and target ``cv_selected``, or the highest-scoring layer where none was selected."""
        keys, layers = self.bootstrap.keys, {}
        for encoder in self.layers:
            for target in self.targets:
                label = (keys["encoder"] == encoder) & (keys["target"] == target) & (keys["probe"] == "ridge")
                rows = keys[label & (keys["control"] == "none") & (keys["train_corpus"] == "")]
                if rows.empty:
                    continue
                values = pd.Series(self.bootstrap.scores.estimate[rows.index], index=rows["layer"])
                is_selected = CHOSEN in values.index
                layers[encoder, target] = CHOSEN if is_selected else best_layer(values, metric=self.metric)
        return layers

    @cached_property
    def noise_ceiling(self) -> dict[str, float]:
        """Highest score of a prediction of the mean rating, for each target that the raters of a corpus allow.

        √ICC(1, k) for correlations and ICC(1, k) for R²; see `probe.tasks.agreement`.
        """
        rows = self.scores[(self.scores["baseline"] == "noise_ceiling") & (self.scores["metric"] == self.metric)]
        return dict(zip(rows["target"], rows["value"].astype(float), strict=True))

    @cached_property
    def permutations(self) -> pd.DataFrame:
        """Permutation tests of the layers and the chance level; see `permutation_table`."""
        return permutation_table(self.scores, metric=self.metric)

    @cached_property
    def regrets(self) -> pd.DataFrame:
        """Losses of default choices of a layer; see `analysis.layers.selection.regrets`."""
        return regrets(self.bootstrap, **self._choices)

    @cached_property
    def gain_over_random(self) -> pd.DataFrame:
        """Gain of each layer over random initialisation.

        ``encoder, target, layer, value, ci_low, ci_high, p_value``; above 0 where training made the layer better.
        """
        return gains_over_random(self.bootstrap, **self._choices)

    @cached_property
    def gain_over_best_random(self) -> pd.DataFrame:
        """Gain of the highest-scoring layer over the best untrained one; see `analysis.layers.gains`."""
        return gains_over_best_random(self.bootstrap, **self._choices)

    @cached_property
    def gain_over_acoustic(self) -> pd.DataFrame:
        """Paired differences of encoders from acoustic features, each chosen by cross-validation.

        The columns are those of `analysis.model_comparison.paired_differences`.
        """
        acoustic = [name for name, layers in self.layers.items() if not is_stack(layers)]
        stacks = [name for name in self.layers if name not in acoustic]
        pairs = [(reference, encoder) for reference in acoustic for encoder in stacks]
        return paired_differences(self.bootstrap, pairs, targets=self.targets, lower_is_better=self.lower_is_better)

    @property
    def _choices(self) -> dict[str, Any]:
        return {"layers": self.layers, "targets": self.targets, "lower_is_better": self.lower_is_better}

    @cached_property
    def encoder_differences(self) -> pd.DataFrame:
        """Paired differences between encoders; see `analysis.model_comparison.paired_differences`."""
        pairs = list(combinations([name for name, layers in self.layers.items() if is_stack(layers)], 2))
        return paired_differences(self.bootstrap, pairs, targets=self.targets, lower_is_better=self.lower_is_better)

    @cached_property
    def depths(self) -> list[Depth]:
        """Every measure of depth of every encoder and target; none for classes."""
        if self.metric in CLASS_METRICS:
            return []
        metric = self.depth_metric
        bootstrap = self.bootstrap if metric == self.metric else bootstrap_scores(self.predictions, metric=metric)
        return depths(bootstrap, self.weights, layers=self.layers, targets=self.targets)

    @cached_property
    def answers(self) -> list[Answer]:
        """The main result of each target and encoder; see `analysis.answers`."""
        return answers(self)

    @cached_property
    def word_errors(self) -> pd.DataFrame | None:
        """Errors of ASR against human transcripts, if the first run has both; else None."""
        return read_word_errors(self.folders[0], self.runs[0].fingerprint)

    @property
    def depth_metric(self) -> str:
        """Metric of the scores whose centre of gravity is a depth: one that is 0 at chance."""
        return self.metric if self.metric in CHANCE_IS_ZERO else DEFAULT_METRIC

    @cached_property
    def depth_table(self) -> pd.DataFrame:
        """``encoder, control, target, measure, estimate, ci_low, ci_high`` and the headroom of the expected layer."""
        ends = ("estimate", "ci_low", "ci_high")
        rows = []
        for depth in self.depths:
            found, headroom = depth.estimate(), depth.headroom
            rows.append(
                {
                    **{k: getattr(depth, k) for k in ("encoder", "control", "target", "measure")},
                    **{k: getattr(found, k) for k in ends},
                    **{f"headroom_{k}": getattr(headroom, k, np.nan) for k in ends},
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """Differences of depth between the two targets of the hypothesis, shifts first; none for classes.

        See `analysis.layers.shift.shift_contrasts` and `analysis.layers.depth.contrasts`; ``p_adjusted`` are p-values
        adjusted by Holm's method within a measure and control.
        """
        others = contrasts(self.depths)
        if self.metric in CLASS_METRICS:
            return others.assign(p_adjusted=np.nan)
        shifts = shift_contrasts(self.correlation_bootstrap, layers=self.layers)
        both = pd.DataFrame([*shifts.to_dict("records"), *others.to_dict("records")], columns=others.columns)
        both["p_adjusted"] = both["p_value"].astype(float)
        for _, p in both["p_adjusted"].dropna().groupby([both["measure"], both["control"]]):
            both.loc[p.index, "p_adjusted"] = holm(p.to_numpy())
        return both

    @property
    def shift_metric(self) -> str:
        """Metric of the profiles whose shift is fitted: a correlation, from which follows the signal-to-noise ratio."""
        return self.metric if self.metric in SHIFT_METRICS else DEFAULT_METRIC

    @cached_property
    def weights_table(self) -> pd.DataFrame:
        """Weights and contributions of the weighted sum with each layer's own score; ``final`` has a score alone."""
        return weights_with_scores(self.weights, self.table)

    @cached_property
    def correlations(self) -> pd.DataFrame:
        """Pearson's r between the ratings of the held-out utterances, ``(n_targets, n_targets)``."""
        names = list(map(str, self.predictions.targets))
        shown = [t for t in self.targets if t in names]
        ratings = pd.DataFrame(self.predictions.ratings[:, [names.index(t) for t in shown]], columns=shown)
        return ratings.corr()

    @cached_property
    def variance_partition(self) -> pd.DataFrame:
        """R² of layers and covariates, partitioned; see `analysis.layers.variance_partitioning`."""
        return variance_partition(bootstrap_scores(self.predictions, metric="r2"))

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Confusion matrices of targets with classes; see `analysis.layers.classes`."""
        sweep = self.runs[0].plan["sweep"]
        classes = dict(zip(sweep.get("nominal", ()), sweep.get("classes", ()), strict=True))
        return confusion(self.predictions, layers=self.evaluated_layers, classes=classes)

    @cached_property
    def fusion_gains(self) -> pd.DataFrame:
        """Gains of fused encoders over each alone; see `analysis.model_comparison.fusion_gains`."""
        return fusion_gains(self.bootstrap, lower_is_better=self.lower_is_better)

    @cached_property
    def by_speaker(self) -> pd.DataFrame:
        """Scores of single speakers; see `analysis.subgroups.speaker_scores`."""
        return speaker_scores(self.predictions, metric=self.metric, layer=self.evaluated_layers)

    @cached_property
    def by_subgroup(self) -> pd.DataFrame:
        """Scores of genders and corpora; see `analysis.subgroups.group_scores`."""
        return group_scores(self.predictions, metric=self.metric, layer=self.evaluated_layers)

    @cached_property
    def cross_corpus(self) -> pd.DataFrame:
        """Scores on each corpus of probes trained on one; see `analysis.subgroups.cross_corpus`."""
        return cross_corpus(self.predictions, metric=self.metric)

    @cached_property
    def similarity(self) -> pd.DataFrame | None:
        """The similarity.csv of the first run, or None where it has none."""
        return read_similarity(self.folders[0], self.runs[0].fingerprint)


def study(folders: Path | str | Run | Sequence[Path | str | Run], metric: str | None = None) -> Study:
    """Read one run, or several on the same utterances and splits, as a study.

    Args:
        folders: a run folder, a run, or a list of these; encoders of several runs are shown side by side
        metric: a key of `METRIC_NAMES`, which decides whether rated or nominal targets are shown; moment-matched CCC
            if None, or unweighted average recall where no target is rated

    Raises:
        InputError: if a folder is no run, its files belong to different runs, runs differ in more than their encoders,
            or no target has that metric
    """
    given = [folders] if isinstance(folders, (str, Path, Run)) else list(folders)
    if not given:
        raise InputError("LP614", "No run folder was given. Name one that layerprobe sweep made.")
    paths = [item.path if isinstance(item, Run) else Path(item) for item in given]
    runs = [item if isinstance(item, Run) else read_run(item) for item in given]
    joined = read_side_by_side(paths, runs)
    metric = chosen_metric(runs[0], metric, paths[0])
    scores = joined.scores[joined.scores["train_corpus"] == ""].reset_index(drop=True)
    predictions = with_chosen(joined.predictions, chosen_layers(scores))
    return Study(paths, runs, metric, joined.layers, scores, joined.weights, predictions, joined.bins)
