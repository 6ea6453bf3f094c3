"""One or several runs of the same question, and every table that findings and figures are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.depth import CHANCE_IS_ZERO, Depth, contrasts, depths
from layerprobe.analysis.layers.scores import best_layer, layer_scores, with_intervals
from layerprobe.analysis.layers.selection import regrets, with_chosen
from layerprobe.analysis.layers.variance_partitioning import variance_partition
from layerprobe.analysis.layers.weights import weight_summary
from layerprobe.analysis.model_comparison import fusion_gains
from layerprobe.analysis.runs import chosen_metric, read_side_by_side
from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.analysis.statistics.permutation import permutation_table
from layerprobe.analysis.statistics.word_error_rate import read_word_errors
from layerprobe.analysis.subgroups import cross_corpus, group_scores, speaker_scores
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_METRIC, LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import CHOSEN, Predictions, Run, read_run
from layerprobe.probe.results.selection import chosen_layers

SIMILARITY = "similarity.csv"


@dataclass(frozen=True)
class Study:
    """Runs side by side; tables are made when they are asked for, and once."""

    folders: list[Path]
    runs: list[Run]
    metric: str
    layers: dict[str, list[str]]  # of each encoder, by the name it is shown under
    scores: pd.DataFrame  # tidy rows of all, without those of probes that one corpus trained
    weights: pd.DataFrame
    predictions: Predictions  # columns of all, with those of layers that were chosen inside the folds

    @property
    def targets(self) -> list[str]:
        """Those that the metric scores, rated or nominal."""
        return self.runs[0].nominal_targets if self.metric in CLASS_METRICS else self.runs[0].targets

    @property
    def fingerprint(self) -> str:
        """Of the one run, or of all together."""
        prints = [run.fingerprint for run in self.runs]
        return prints[0] if len(prints) == 1 else combined_fingerprint(*prints)

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return self.metric in LOWER_IS_BETTER

    @cached_property
    def bootstrap(self) -> BootstrapScores:
        """Scores under draws of speakers."""
        return bootstrap_scores(self.predictions, metric=self.metric)

    @cached_property
    def table(self) -> pd.DataFrame:
        """`layer_scores` with intervals, and for the ridge ``in_best_set, p_not_best, win_rate`` and ``alpha``."""
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
        """Of every encoder, its random weights and target: which layers are not told from the best, and who wins."""
        rows = []
        for encoder, names in self.layers.items():
            for control in ("none", "random_init"):
                for target in self.targets:
                    label = {"encoder": encoder, "control": control, "probe": "ridge", "target": target}
                    found = self.bootstrap.of(names, **label)
                    if found is None or not np.isfinite(found.estimate).all() or self.bootstrap.n_speakers < 3:
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
        """The layer of each fold that was chosen inside its training speakers."""
        return chosen_layers(self.scores)

    @cached_property
    def evaluated_layers(self) -> dict[tuple[str, str], str]:
        """For each encoder and target the layer whose predictions stand for it: chosen in the folds, else the best."""
        keys, judged = self.bootstrap.keys, {}
        for encoder in self.layers:
            for target in self.targets:
                label = (keys["encoder"] == encoder) & (keys["target"] == target) & (keys["probe"] == "ridge")
                own = keys[label & (keys["control"] == "none") & (keys["train_corpus"] == "")]
                if own.empty:
                    continue
                values = pd.Series(self.bootstrap.scores.estimate[own.index], index=own["layer"])
                has_chosen = CHOSEN in values.index
                judged[encoder, target] = CHOSEN if has_chosen else best_layer(values, metric=self.metric)
        return judged

    @cached_property
    def permutations(self) -> pd.DataFrame:
        """What chance gives."""
        return permutation_table(self.scores, metric=self.metric)

    @cached_property
    def regrets(self) -> pd.DataFrame:
        """What the usual choices of a layer give away."""
        return regrets(self.bootstrap, layers=self.layers, targets=self.targets, lower_is_better=self.lower_is_better)

    @cached_property
    def gain_over_random(self) -> pd.DataFrame:
        """How much better each layer is than with random weights: ``encoder, target, layer, value, ci_low, ci_high, p_value``."""
        rows = []
        for encoder, names in self.layers.items():
            for target in self.targets:
                pair = [
                    self.bootstrap.of(names, encoder=encoder, target=target, probe="ridge", control=control)
                    for control in ("none", "random_init")
                ]
                if pair[0] is None or pair[1] is None:
                    continue
                better = pair[1] - pair[0] if self.lower_is_better else pair[0] - pair[1]
                for layer, found in zip(names, better.estimated(), strict=True):
                    label = {"encoder": encoder, "target": target, "layer": layer, "value": found.estimate}
                    rows.append({**label, "ci_low": found.ci_low, "ci_high": found.ci_high, "p_value": found.p_value})
        return pd.DataFrame(rows, columns=["encoder", "target", "layer", "value", "ci_low", "ci_high", "p_value"])

    @cached_property
    def depths(self) -> list[Depth]:
        """Every measure of depth of every encoder and target; none of classes."""
        if self.metric in CLASS_METRICS:
            return []
        metric = self.depth_metric
        draws = self.bootstrap if metric == self.metric else bootstrap_scores(self.predictions, metric=metric)
        return depths(draws, self.weights, layers=self.layers, targets=self.targets)

    @cached_property
    def word_errors(self) -> pd.DataFrame | None:
        """What a recogniser got wrong, if the first run has its words beside people's."""
        return read_word_errors(self.folders[0], self.runs[0].fingerprint)

    @property
    def depth_metric(self) -> str:
        """The metric whose scores have a centre of gravity."""
        return self.metric if self.metric in CHANCE_IS_ZERO else DEFAULT_METRIC

    @cached_property
    def depth_table(self) -> pd.DataFrame:
        """``encoder, control, target, measure, estimate, ci_low, ci_high`` and the headroom of the expected layer."""
        rows = []
        for depth in self.depths:
            found, room = depth.estimate(), depth.headroom
            rows.append(
                {
                    **{k: getattr(depth, k) for k in ("encoder", "control", "target", "measure")},
                    **{k: getattr(found, k) for k in ("estimate", "ci_low", "ci_high")},
                    **{f"headroom_{k}": getattr(room, k, np.nan) for k in ("estimate", "ci_low", "ci_high")},
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """How much deeper the claim's first target lies than its second."""
        return contrasts(self.depths)

    @cached_property
    def weights_table(self) -> pd.DataFrame:
        """Weights and contributions of the learnt mix beside each layer's own score."""
        summary = weight_summary(self.weights) if len(self.weights) else self.weights.assign(weight_std=0.0)
        summary = summary[(summary["control"] == "none") & (summary["probe"] == "weighted_sum")]
        own = self.table[(self.table["probe"] == "ridge") & (self.table["control"] == "none")]
        scores = own[["encoder", "target", "layer", "value"]].rename(columns={"value": "score"})
        merged: pd.DataFrame = summary.merge(scores, how="left", on=["encoder", "target", "layer"])
        return merged

    @cached_property
    def correlations(self) -> pd.DataFrame:
        """Pearson r between the ratings of the targets, on the utterances that were held out, ``targets × targets``."""
        names = list(map(str, self.predictions.targets))
        shown = [t for t in self.targets if t in names]
        ratings = pd.DataFrame(self.predictions.ratings[:, [names.index(t) for t in shown]], columns=shown)
        return ratings.corr()

    @cached_property
    def variance_partition(self) -> pd.DataFrame:
        """What each layer explains that a source beside it does not."""
        return variance_partition(bootstrap_scores(self.predictions, metric="r2"))

    @cached_property
    def fusion_gains(self) -> pd.DataFrame:
        """What encoders that were heard together say more than each alone."""
        return fusion_gains(self.bootstrap, lower_is_better=self.lower_is_better)

    @cached_property
    def by_speaker(self) -> pd.DataFrame:
        """Scores of speakers."""
        return speaker_scores(self.predictions, metric=self.metric, layer=self.evaluated_layers)

    @cached_property
    def by_subgroup(self) -> pd.DataFrame:
        """Scores of genders and corpora."""
        return group_scores(self.predictions, metric=self.metric, layer=self.evaluated_layers)

    @cached_property
    def cross_corpus(self) -> pd.DataFrame:
        """Scores from one corpus to another."""
        return cross_corpus(self.predictions, metric=self.metric)

    @cached_property
    def similarity(self) -> pd.DataFrame | None:
        """The table of `layerprobe similarity`, if it was made of the first run."""
        path = self.folders[0] / SIMILARITY
        if not path.exists():
            return None
        table = pd.read_csv(path, dtype={c: str for c in ("layer_a", "layer_b", "fingerprint")})
        if set(table["fingerprint"]) - {self.runs[0].fingerprint}:
            raise InputError(f"{path} belongs to another run. Delete it, or run layerprobe similarity again.")
        return table.drop(columns="fingerprint")


def study(folders: Sequence[Path | str], *, metric: str | None = None) -> Study:
    """Read runs that ask the same question, of other encoders perhaps.

    Args:
        folders: run folders
        metric: a key of `METRIC_NAMES`, which settles whether rated or nominal targets are shown; the matched CCC if
            None, or the average recall where no target is rated

    Raises:
        InputError: if a folder is no run, its files are mixed, runs differ in more than their encoders, or no target
            has that metric
    """
    paths = [Path(folder) for folder in folders]
    runs = [read_run(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if not run.encoders:
            raise InputError(f"{path} is a trained regressor and has no layers to draw. Use layerprobe compare {path}.")
    metric = chosen_metric(runs[0], metric, paths[0])
    both = read_side_by_side(paths, runs)
    scores = both.scores[both.scores["train_corpus"] == ""].reset_index(drop=True)
    predictions = with_chosen(both.predictions, chosen_layers(scores))
    return Study(paths, runs, metric, both.layers, scores, both.weights, predictions)
