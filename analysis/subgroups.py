"""Performance by speaker, gender and corpus, and on corpora that a probe was not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap import METRICS, speaker_sums
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.statistics.class_counts import COUNTED_METRICS, class_sums
from layerprobe.probe.metrics import LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import Predictions
from layerprobe.probe.splits import UNKNOWN_SPEAKER

FEWEST_UTTERANCES = 10  # of a speaker with a score of its own; with fewer it is mostly noise (Wagner et al., 2023)
FEWEST_SPEAKERS = 3  # of a group
GROUPINGS = ("gender", "corpus")
_LABELS = ["encoder", "target", "layer"]


def speaker_scores(predictions: Predictions, *, metric: str, layer: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Return the score of each speaker.

    Args:
        predictions: held-out predictions of a run
        metric: a key of `analysis.statistics.bootstrap.METRICS` or `analysis.statistics.class_counts.COUNTED_METRICS`
        layer: for each encoder and target the layer whose probe is evaluated, as in `Study.evaluated_layers`

    Returns:
        ``encoder, target, layer, speaker_id, n, value``; known speakers with at least ten rated
        utterances, which ``n`` counts
    """
    names, of_row = np.unique(predictions.speaker_id, return_inverse=True)
    values = predictions.matched if metric == "ccc_matched" else predictions.prediction
    targets = list(map(str, predictions.targets))
    rows = []
    for index, encoder, target, name in _evaluated(predictions.columns, layer)[_LABELS].itertuples():
        truth = predictions.ratings[:, [targets.index(target)]]
        predicted = values[:, [index]]
        counts = np.bincount(of_row[np.isfinite(truth[:, 0])], minlength=len(names))
        is_scored = (counts >= FEWEST_UTTERANCES) & (names != UNKNOWN_SPEAKER)
        if metric in COUNTED_METRICS:
            score = COUNTED_METRICS[metric](class_sums(truth, predicted, of_row))[:, 0]
        else:
            score = METRICS[metric](speaker_sums(truth, predicted, of_row))[:, 0]
        label = {"encoder": encoder, "target": target, "layer": name}
        rows += [
            {**label, "speaker_id": str(names[s]), "n": int(counts[s]), "value": float(score[s])}
            for s in np.flatnonzero(is_scored)
        ]
    return pd.DataFrame(rows, columns=["encoder", "target", "layer", "speaker_id", "n", "value"])


def group_scores(predictions: Predictions, *, metric: str, layer: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Return the scores of each gender and each corpus, where a run has two or more of them.

    Arguments are those of `speaker_scores`, and the table is that of `scores_by_group`.
    """
    return scores_by_group(_only(predictions, _evaluated(predictions.columns, layer).index), metric=metric)


def scores_by_group(predictions: Predictions, *, metric: str) -> pd.DataFrame:
    """Return the scores of each column for each gender and each corpus, where there are two or more of them.

    Groups with fewer than three speakers are left out.

    Args:
        predictions: held-out predictions, of which every column is scored
        metric: as of `speaker_scores`

    Returns:
        ``grouping, group, n, n_speakers, encoder, target, layer, estimate, ci_low, ci_high, p_value``
    """
    tables = []
    for grouping in GROUPINGS:
        of_row = getattr(predictions, grouping)
        groups = [g for g in np.unique(of_row) if g]
        if len(groups) < 2:
            continue
        for group in groups:
            mask = of_row == group
            if len(np.unique(predictions.speaker_id[mask])) < FEWEST_SPEAKERS:
                continue
            bootstrap = bootstrap_scores(predictions, metric=metric, rows=mask)
            table = bootstrap.table()
            table = table.assign(
                grouping=grouping,
                group=str(group),
                n=[int(_is_rated(predictions, t)[mask].sum()) for t in table["target"]],
                n_speakers=bootstrap.scores.counted,
            )
            tables.append(table)
    columns = [
        "grouping",
        "group",
        "n",
        "n_speakers",
        "encoder",
        "target",
        "layer",
        "estimate",
        "ci_low",
        "ci_high",
        "p_value",
    ]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def cross_corpus(predictions: Predictions, *, metric: str) -> pd.DataFrame:
    """Return the scores on each corpus of probes trained on one corpus, at its highest-scoring layer.

    The layer is chosen on held-out speakers of the training corpus, so that scores on other corpora are not optimistic.

    Returns:
        ``encoder, target, source, test, layer, estimate, ci_low, ci_high, p_value``, where ``source`` is the training
        corpus; empty where no probe was trained on a single corpus
    """
    trained = predictions.columns[predictions.columns["train_corpus"] != ""]
    columns = ["encoder", "target", "source", "test", "layer", "estimate", "ci_low", "ci_high", "p_value"]
    if trained.empty:
        return pd.DataFrame(columns=columns)
    only = _only(predictions, trained.index)
    tables = {
        str(corpus): bootstrap_scores(only, metric=metric, rows=predictions.corpus == corpus).table()
        for corpus in np.unique(predictions.corpus)
        if corpus
    }
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    rows = []
    for (encoder, source, target), _ in trained.groupby(["encoder", "train_corpus", "target"], sort=False):
        if source not in tables:
            continue
        at_home = _rows(tables[source], encoder, source, target)
        if at_home["estimate"].isna().all():
            continue
        layer = at_home["layer"].iloc[int(np.nanargmax(sign * at_home["estimate"]))]
        for test, table in tables.items():
            there = _rows(table, encoder, source, target)
            found = (
                there[there["layer"] == layer][["layer", "estimate", "ci_low", "ci_high", "p_value"]].iloc[0].to_dict()
            )
            rows.append({"encoder": encoder, "target": target, "source": source, "test": test, **found})
    return pd.DataFrame(rows, columns=columns)


def _is_rated(predictions: Predictions, target: str) -> np.ndarray:
    (column,) = np.flatnonzero(predictions.targets == target)
    return np.asarray(np.isfinite(predictions.ratings[:, column]))


def _rows(table: pd.DataFrame, encoder: object, corpus: object, target: object) -> pd.DataFrame:
    return table[(table["encoder"] == encoder) & (table["train_corpus"] == corpus) & (table["target"] == target)]


def _evaluated(columns: pd.DataFrame, layer: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Return the ridge columns of the evaluated layers."""
    ridge = columns[(columns["probe"] == "ridge") & (columns["control"] == "none") & (columns["train_corpus"] == "")]
    wanted = [layer.get((e, t)) == k for e, t, k in zip(ridge["encoder"], ridge["target"], ridge["layer"], strict=True)]
    return ridge[np.array(wanted, dtype=bool)]


def _only(predictions: Predictions, columns: pd.Index) -> Predictions:
    """Return the predictions of some columns."""
    return replace(
        predictions,
        columns=predictions.columns.loc[columns].reset_index(drop=True),
        prediction=predictions.prediction[:, columns],
        matched=predictions.matched[:, columns],
    )
