"""Tidy rows behind each figure, with the columns of the CSV that is saved next to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from layerprobe.analysis.cost.file import cost_path, read_cost
from layerprobe.analysis.encoder_pairs import compare_encoders
from layerprobe.analysis.layers.depth import INTERVALS, SHIFT
from layerprobe.analysis.layers.encoder_gains import EncoderPair
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS
from layerprobe.analysis.study import Study
from layerprobe.figures.erasure_tables import erasure_rows
from layerprobe.figures.errors import NothingToPlotError as NothingToPlotError
from layerprobe.figures.plots.heatmap import CONTROL_NAMES
from layerprobe.figures.plots.references import BASELINES
from layerprobe.figures.time_tables import time_table
from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.layer_names import is_stack, relative_depth
from layerprobe.probe.tasks.controls import CHANCE

INTERVAL = ["ci_low", "ci_high", "interval"]
BEST = ["in_best_set", "p_not_best", "win_rate"]


def _check_not_pending(study: Study, name: str) -> None:
    """Raise an error if a run has yet to get the results of a control or probe."""
    if lacking := [str(run.path) for run in study.runs if name in run.pending]:
        raise NothingToPlotError(
            "LP660",
            f"{lacking[0]} has no {name} yet: its sweep is unfinished. Plot this figure once layerprobe sweep has "
            "ended; after an interruption the same command resumes it.",
        )


def heatmap_table(study: Study) -> pd.DataFrame:
    """Return the scores of the ridge by encoder, control, target and layer, and those of baselines.

    Returns:
        ``encoder, control, baseline, target, layer, relative_depth, metric, value``, the 95 % interval ``ci_low,
        ci_high, interval``, the ranges ``fold_min, fold_max, draw_min, draw_max``, ``in_best_set, p_not_best,
        win_rate`` (missing for control tasks), ``alpha``, the median over folds, and for the real ratings ``chance``,
        the 95th percentile of the best layer on permuted ratings. Baselines have neither encoder nor layer
    """
    rows = _of_layers(study, study.table, others=True)
    of_encoders = (rows["baseline"] == "") & rows["encoder"].isin(list(study.layers)) & (rows["probe"] == "ridge")
    rows = rows[of_encoders & rows["control"].isin(list(CONTROL_NAMES)) | rows["baseline"].isin(list(BASELINES))]
    rows = rows.assign(in_best_set=rows["in_best_set"].astype("boolean").where(rows["p_not_best"].notna()))
    ranges = [*INTERVAL, "fold_min", "fold_max", "draw_min", "draw_max"]
    keys = ["encoder", "control", "baseline", "target", "layer", "relative_depth", "metric"]
    return _columns(_with_chance(study, rows), [*keys, "value", *ranges, *BEST, "alpha", "chance"])


def curves_table(study: Study) -> pd.DataFrame:
    """Return the scores of layers, weighted sums and baselines that the curves show.

    Returns:
        ``encoder, probe, control, baseline, target, layer, relative_depth, metric, value``, the 95 % interval ``ci_low,
        ci_high, interval``, the ranges ``fold_min, fold_max, seed_min, seed_max, draw_min, draw_max``, ``in_best_set``
        of layers, and for the real ratings ``chance``, the 95th percentile of the best layer on permuted ratings;
        baselines have neither encoder nor layer
    """
    rows = _of_layers(study, study.table, others=True)
    layers = (rows["probe"] == "ridge") & rows["control"].isin(["none", "random_init", *CHANCE])
    mixes = (rows["probe"] == "weighted_sum") & (rows["control"] == "none")
    of_encoders = (rows["baseline"] == "") & rows["encoder"].isin(list(study.layers)) & (layers | mixes)
    rows = rows.assign(in_best_set=rows["in_best_set"].astype("boolean").where(rows["p_not_best"].notna()))
    ranges = [*INTERVAL, "fold_min", "fold_max", "seed_min", "seed_max", "draw_min", "draw_max"]
    keys = ["encoder", "probe", "control", "baseline", "target", "layer", "relative_depth", "metric"]
    chosen = _with_chance(study, rows[of_encoders | rows["baseline"].isin(list(BASELINES))])
    return _columns(chosen, [*keys, "value", *ranges, "in_best_set", "chance"])


def gain_table(study: Study) -> pd.DataFrame:
    """Return the gain of each layer over the same layer with random weights, above 0 where training helps.

    Returns:
        ``encoder, target, layer, relative_depth, metric, value``, the 95 % interval ``ci_low, ci_high, interval``, and
        ``p_value`` of a gain of 0

    Raises:
        NothingToPlotError: if the run has no random weights
    """
    rows = study.gain_over_random
    if rows.empty:
        _check_not_pending(study, "random_init")
        raise NothingToPlotError(
            "LP661", "No cache with random weights was swept. Sweep with --random-weights or --controls all."
        )
    rows = _with_interval(_with_depth(study, rows), BCA_SPEAKERS)
    return _columns(rows, ["encoder", "target", "layer", "relative_depth", "metric", "value", *INTERVAL, "p_value"])


def encoder_gain_table(study: Study, pairs: Sequence[EncoderPair] | None = None) -> pd.DataFrame:
    """Return the gain of each layer over the same layer of another encoder, and the shifts of depth between both.

    Args:
        study: of one or several runs
        pairs: of encoders with the same layers; `analysis.encoder_pairs.default_pairs` if None

    Returns:
        ``measure, encoder, reference, target, layer, relative_depth, metric, value``, the 95 % interval ``ci_low,
        ci_high, interval``, ``p_value`` of 0 and ``p_adjusted`` for all rows of the measure. ``measure`` is ``gain``,
        or ``shift`` with the layer ``all``, whose value is on relative depth and which has ``n_blocks, detectable``

    Raises:
        NothingToPlotError: if no two encoders have the same architecture and layers
    """
    found = compare_encoders(study, pairs)
    gains = _with_interval(_with_depth(study, found.gains.assign(measure="gain")), BCA_SPEAKERS)
    shifts = found.shifts.assign(measure="shift", layer="all", metric=study.shift_metric)
    shifts = _with_interval(shifts, INTERVALS[SHIFT])
    rows = pd.DataFrame([*gains.to_dict("records"), *shifts.to_dict("records")])
    if rows.empty:
        raise NothingToPlotError(
            "LP695",
            f"{' and '.join(map(str, study.folders))} has no two encoders with the same architecture and layers. Sweep "
            "the caches of both, such as those of a frozen and a tuned encoder.",
        )
    keys = ["measure", "encoder", "reference", "target", "layer", "relative_depth", "metric"]
    rows = rows.rename(columns={"estimate": "value"})
    return _columns(rows, [*keys, "value", *INTERVAL, "p_value", "p_adjusted", "n_blocks", "detectable"])


def layer_weights_table(study: Study) -> pd.DataFrame:
    """Return the layer weights of the weighted sum, with the contribution and the score of each layer.

    Returns:
        ``encoder, probe, target, layer, relative_depth, weight, weight_low, weight_high, weight_std,
        weight_fold_std, contribution, contribution_std, metric, score``, as of `analysis.layers.weights.weight_summary`

    Raises:
        NothingToPlotError: if the run has no weighted sum for these targets
    """
    rows = study.weights_table
    rows = rows[rows["target"].isin(study.targets)]
    if rows.empty:
        _check_not_pending(study, "weighted_sum")
        raise NothingToPlotError("LP662", "No weighted sum was learnt. Sweep with --weighted-sum-seeds 3.")
    weights = ["weight", "weight_low", "weight_high", "weight_std", "weight_fold_std"]
    weights += ["contribution", "contribution_std"]
    keys = ["encoder", "probe", "target", "layer", "relative_depth"]
    return _columns(_with_depth(study, rows), [*keys, *weights, "metric", "score"])


def depth_table(study: Study) -> pd.DataFrame:
    """Return the depths of all targets, and below them the differences of depth between two targets.

    Returns:
        ``encoder, measure, control, target, reference_target, metric, estimate``, the 95 % interval ``ci_low, ci_high,
        interval``, ``p_value, p_adjusted`` of a difference of 0, ``detectable`` of shifts, and ``headroom_estimate,
        headroom_ci_low, headroom_ci_high`` of expected layers. Rows with a ``reference_target`` are the depth of
        ``target`` minus that of the reference

    Raises:
        NothingToPlotError: if no encoder has layers with a depth
    """
    depths = study.depth_table
    if depths.empty:
        raise NothingToPlotError(
            "LP663", "No encoder of the run has stacked layers, so no target has a depth. Sweep the cache of one."
        )
    differences = study.contrasts.rename(columns={"deeper": "target", "shallower": "reference_target"})
    # From records, not by concatenation: pandas 2.2 warns of columns without a value, whose type is about to change.
    rows = pd.DataFrame([*depths.assign(reference_target="").to_dict("records"), *differences.to_dict("records")])
    interval = rows["measure"].map(INTERVALS)
    metric = np.where(rows["measure"] == SHIFT, study.shift_metric, study.depth_metric)
    rows = _with_interval(rows, interval.to_numpy()).assign(metric=metric)
    headroom = [f"headroom_{name}" for name in ("estimate", "ci_low", "ci_high")]
    keys = ["encoder", "measure", "control", "target", "reference_target", "metric"]
    return _columns(rows, [*keys, "estimate", *INTERVAL, "p_value", "p_adjusted", "detectable", *headroom])


def best_layer_table(study: Study) -> pd.DataFrame:
    """Return how often each layer scores best in bootstrap resamples of the speakers.

    Returns:
        ``encoder, target, layer, relative_depth, metric, win_rate, in_best_set, p_not_best``

    Raises:
        NothingToPlotError: if too few speakers were held out to resample them
    """
    rows = study.best[study.best["control"] == "none"]
    if rows.empty:
        raise NothingToPlotError(
            "LP664", "Fewer than three speakers were held out, too few for bootstrap resamples. Add speakers."
        )
    keys = ["encoder", "target", "layer", "relative_depth", "metric"]
    return _columns(_with_depth(study, rows), [*keys, "win_rate", "in_best_set", "p_not_best"])


def similarity_rows(study: Study) -> pd.DataFrame:
    """Return the run's table of similarities between layers, in both orders of each pair.

    Returns:
        ``measure, encoder_a, layer_a, encoder_b, layer_b, value`` and ``p_permutation``

    Raises:
        NothingToPlotError: if the layers of the run were not compared
    """
    if study.similarity is None:
        raise NothingToPlotError("LP665", f"{study.folders[0]} has no similarity.csv. Run layerprobe similarity on it.")
    return study.similarity


def cost_rows(study: Study) -> pd.DataFrame:
    """Return the scores and costs of all candidates, as ``layerprobe cost`` wrote them.

    Returns:
        ``run, encoder, probe, layer, needs, reads, target, metric, value``, the 95 % interval ``ci_low, ci_high,
        interval``, the costs ``multiply_adds, parameters, real_time_factor``, for each whether a candidate is on the
        Pareto front, ``on_front_multiply_adds, on_front_parameters, on_front_real_time_factor``, and in which fraction
        of resamples, ``front_rate_multiply_adds, front_rate_parameters, front_rate_real_time_factor``; ``in_best_set,
        p_not_best, behind_best, behind_at_most, cheapest_by, is_cheapest, is_smallest_layer, n_candidates,
        n_speakers``, and how times were measured: ``seconds, threads, precision, forward, weights, processor,
        reason``; see `analysis.cost.table.cost_table`
    """
    found = read_cost(cost_path(study.folders[0], study.folders), study.fingerprint)
    if found is None or set(found["metric"]) != {study.metric}:
        lacks = "no cost.csv" if found is None else f"a cost.csv of {', '.join(sorted(set(found['metric'])))}"
        runs = " ".join(map(str, study.folders))
        raise NothingToPlotError(
            "LP916", f"{study.folders[0]} has {lacks}. Run layerprobe cost {runs} --metric {study.metric}."
        )
    return found


def selected_costs(study: Study, targets: Sequence[str], encoders: Sequence[str]) -> pd.DataFrame:
    """Return the rows of `cost_rows` of some targets and encoders; with all encoders those of their fusions, too."""
    table = cost_rows(study)
    chosen = table["target"].isin(list(targets))
    if len(encoders) < len(study.layers):
        chosen &= table["encoder"].isin(list(encoders))
    return table[chosen].reset_index(drop=True)


def check_known_cost(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of costs after checking that its figure has a candidate to show.

    Args:
        table: of `cost_rows`

    Raises:
        NothingToPlotError: if the cost of none is known
    """
    by = str(table["cheapest_by"].iloc[0])
    if not table[by].gt(0).any():
        raise NothingToPlotError(
            "LP917",
            f"No candidate has known {COSTS[by]}, so there is nothing to plot. The column reason of cost.csv "
            "states why.",
        )
    return table


TABLES: dict[str, Callable[[Study], pd.DataFrame]] = {
    "heatmap": heatmap_table,
    "curves": curves_table,
    "gain-over-random": gain_table,
    "gain": encoder_gain_table,
    "layer-weights": layer_weights_table,
    "depth": depth_table,
    "best-layer": best_layer_table,
    "similarity": similarity_rows,
    "cost": cost_rows,
    "time-map": time_table,
    "time-curve": time_table,
    "erasure": erasure_rows,
}


def _of_layers(study: Study, table: pd.DataFrame, *, others: bool = False) -> pd.DataFrame:
    """Return rows of single layers of the study's encoders, or with ``others`` also those of baselines."""
    rows = table[(table["train_corpus"] == "") & (table["covariates"] == "")]
    if not others:
        rows = rows[(rows["baseline"] == "") & rows["encoder"].isin(list(study.layers))]
    return _with_depth(study, rows)


def _with_chance(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Add the chance level of each encoder and target to the rows of the real ratings of layers."""
    levels = study.permutations.drop_duplicates(["encoder", "target"]).set_index(["encoder", "target"])["chance"]
    found = [levels.get(pair, np.nan) for pair in zip(rows["encoder"], rows["target"], strict=True)]
    is_real = (rows["control"] == "none") & (rows["probe"] == "ridge")
    return rows.assign(chance=pd.Series(found, rows.index, dtype=float).where(is_real))


def _with_depth(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Add the metric, and the relative depth of each layer, NaN for features without depth."""
    depths: dict[tuple[str, str], float] = {}
    for encoder, names in study.layers.items():
        if is_stack(names):
            depths |= {(encoder, name): float(d) for name, d in zip(names, relative_depth(names), strict=True)}
    found = [depths.get(pair, np.nan) for pair in zip(rows["encoder"], rows["layer"], strict=True)]
    return rows.assign(relative_depth=found, metric=study.metric)


def _with_interval(rows: pd.DataFrame, method: str | np.ndarray) -> pd.DataFrame:
    """Add how the interval was made, empty where there is none."""
    known = rows["ci_low"].notna() & rows["ci_high"].notna()
    return rows.assign(interval=np.where(known, method, ""))


def _columns(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return these columns in this order; a column that no row has is NaN."""
    return rows.reindex(columns=list(names)).reset_index(drop=True)
